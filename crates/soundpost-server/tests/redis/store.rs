//! A Redis of its own for each test, and a way to look into it, bytes and all.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
};

use soundpost_protocol::{
    app::Limits,
    channel::ChannelName,
    cluster::message::{Body, Message},
    presence::NodeId,
    server_frame,
};

use super::processes::{Data, RedisServer};

/// A redis-server on a free port of 127.0.0.1. Dropping it ends it.
pub(crate) struct Store {
    pub(crate) server: RedisServer,
    is_running: bool,
}

impl Store {
    /// A running one.
    pub(crate) fn start() -> Self {
        Self { server: RedisServer::start(&[]), is_running: true }
    }

    /// A place where none runs yet.
    pub(crate) fn reserve() -> Self {
        let mut store = Self::start();
        store.kill();
        store
    }

    /// Starts the process, empty.
    pub(crate) fn run(&mut self) {
        self.server.start_again(Data::Lost);
        self.is_running = true;
    }

    pub(crate) const fn is_running(&self) -> bool {
        self.is_running
    }

    /// Kills the process; what it knew is gone.
    pub(crate) fn kill(&mut self) {
        self.server.kill();
        self.is_running = false;
    }

    /// A command and its reply: the texts in it, one after the other, numbers as texts.
    pub(crate) fn ask(&self, words: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.server.port)).unwrap();
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            command.extend_from_slice(word);
            command.extend_from_slice(b"\r\n");
        }
        stream.write_all(&command).unwrap();
        let mut texts = Vec::new();
        read(&mut BufReader::new(stream), &mut texts);
        texts
    }

    /// The same with words of text.
    pub(crate) fn say(&self, words: &str) -> Vec<String> {
        let words: Vec<_> = words.split(' ').map(str::as_bytes).collect();
        self.ask(&words).into_iter().map(|text| String::from_utf8_lossy(&text).into_owned()).collect()
    }

    /// Publishes on the channel `orders`, as the event of this number of that life; one node hears it.
    pub(crate) fn publish(&self, life: NodeId, sequence: u64, data: &str) {
        let name = ChannelName::parse("orders", &Limits::default()).unwrap();
        let frame = server_frame::event(&name, "n", &format!("\"{data}\""));
        let body = Body::Event { exclude: None, keep: None, frame: frame.bytes() };
        let message = Message { app: "app-one", life, sequence, body }.encode();
        assert_eq!(self.ask(&[b"PUBLISH", b"soundpost:0:reverb:{app-one/orders}:t", &message]), [b"1"]);
    }

    /// All keys but those that forget themselves after an emptied share or a life that is over.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys = self.say("KEYS *");
        keys.retain(|key| !key.contains(":s:") && !key.contains(":d:") || self.is_lasting(key));
        keys.sort();
        keys
    }

    fn is_lasting(&self, key: &str) -> bool {
        self.say(&format!("PTTL {key}")) == ["-1"]
    }

    /// How many topics anybody hears.
    pub(crate) fn topics(&self) -> usize {
        self.say("PUBSUB CHANNELS").len()
    }
}

fn read(input: &mut impl BufRead, texts: &mut Vec<Vec<u8>>) {
    let mut line = String::new();
    input.read_line(&mut line).unwrap();
    let (kind, rest) = line.trim_end().split_at(1);
    match kind {
        "$" if rest == "-1" => {}
        "$" => {
            let mut text = vec![0; rest.parse::<usize>().unwrap() + 2];
            input.read_exact(&mut text).unwrap();
            text.truncate(text.len() - 2);
            texts.push(text);
        }
        "*" => (0..rest.parse::<usize>().unwrap()).for_each(|_| read(input, texts)),
        "-" => panic!("redis refuses: {rest}"),
        _ => texts.push(rest.as_bytes().to_vec()),
    }
}
