//! A Redis of its own for each test, and a way to look into it, bytes and all: with a client that is not ours, so that it
//! does not agree with our mistakes.

use redis_client::{Client, Value};

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

    /// A connection.
    pub(crate) fn connect(&self) -> redis_client::Connection {
        Client::open(("127.0.0.1", self.server.port)).unwrap().get_connection().unwrap()
    }

    /// A command and its reply: the texts in it, one after the other, numbers as texts.
    pub(crate) fn ask(&self, words: &[&[u8]]) -> Vec<Vec<u8>> {
        let (name, arguments) = words.split_first().unwrap();
        let mut command = redis_client::cmd(str::from_utf8(name).unwrap());
        let reply = command.arg(arguments).query(&mut self.connect());
        let mut texts = Vec::new();
        gather(reply.unwrap(), &mut texts);
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

fn gather(reply: Value, texts: &mut Vec<Vec<u8>>) {
    if let Value::Array(replies) = reply {
        replies.into_iter().for_each(|reply| gather(reply, texts));
    } else if let Value::BulkString(text) = reply {
        texts.push(text);
    } else if reply != Value::Nil {
        texts.push(redis_client::from_redis_value::<String>(reply).unwrap().into_bytes());
    }
}
