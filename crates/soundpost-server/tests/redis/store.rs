//! A redis-server process of its own, and a way to look into it.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use super::support::eventually;

/// A Redis on a free port of 127.0.0.1. Dropping it ends it.
pub(crate) struct Store {
    pub(crate) port: u16,
    folder: PathBuf,
    process: Option<Child>,
}

impl Store {
    /// A running one.
    pub(crate) fn start() -> Self {
        let mut store = Self::reserve();
        store.run();
        store
    }

    /// A place where none runs yet.
    pub(crate) fn reserve() -> Self {
        static STORES: AtomicU32 = AtomicU32::new(0);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let number = STORES.fetch_add(1, Relaxed);
        let folder = std::env::temp_dir().join(format!("soundpost-redis-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self { port, folder, process: None }
    }

    /// Starts the process, empty.
    pub(crate) fn run(&mut self) {
        let process = Command::new("redis-server")
            .args([
                "--port",
                &self.port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .arg("--dir")
            .arg(&self.folder)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed: see `cargo xtask test`");
        self.process = Some(process);
        eventually("redis answers", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    pub(crate) const fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Kills the process; what it knew is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Sends it a signal, such as `STOP` and `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let process = self.process.as_ref().unwrap().id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &process]).status().unwrap();
        assert!(status.success());
    }

    /// A command and its reply: the texts in it, one after the other, numbers as texts.
    pub(crate) fn ask(&self, words: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
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

impl Drop for Store {
    fn drop(&mut self) {
        self.kill();
        drop(std::fs::remove_dir_all(&self.folder));
    }
}
