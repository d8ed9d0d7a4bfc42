//! The server itself as a child process, and what its app's clients and publishers know.

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use soundpost_client::{Client, Options};
use soundpost_protocol::{
    app::{App, AppId, AppKey, AppSecret, Limits},
    channel::ChannelName,
};

use crate::tools::{Folder, PATIENCE, Running, exchange, get, until};

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_soundpost");

/// A running server with the app of [`app`], on free ports of loopback.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) process: Running,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    _folder: Folder,
}

impl Server {
    /// `server` and `app`: more lines for these tables. `change` may add to the command.
    pub(crate) fn start(server: &str, app: &str, change: impl FnOnce(&mut Command)) -> Self {
        let folder = Folder::new();
        let file = folder.write(
            "soundpost.toml",
            &format!(
                "[server]\nhost = \"127.0.0.1\"\nport = 0\nworkers = 2\ndrain_seconds = 0\n{server}\n[admin]\nport = 0\n[[apps]]\n\
                 id = \"shop\"\nkey = \"shop-key\"\nsecret = \"shop-secret-0123456789\"\n{app}\n"
            ),
        );
        let mut command = Command::new(BINARY);
        command.arg("--config").arg(file).env_clear().stdout(Stdio::piped()).stderr(Stdio::null());
        change(&mut command);
        let mut process = Running::start(&mut command);
        let output = Arc::new(Mutex::new(String::new()));
        let into = Arc::clone(&output);
        let from = BufReader::new(process.stdout());
        thread::spawn(move || from.lines().map_while(Result::ok).for_each(|line| add(&into, &line)));
        until("the banner", || output.lock().unwrap().contains("  workers  "));
        let [address, admin] = ["  websocket  ", "  admin      "].map(|mark| {
            let output = output.lock().unwrap();
            let (_, url) = output.split_once(mark).unwrap();
            url.split('/').nth(2).unwrap().parse().unwrap()
        });
        Self { process, address, admin, _folder: folder }
    }
}

fn add(into: &Mutex<String>, line: &str) {
    let mut output = into.lock().unwrap();
    output.push_str(line);
    output.push('\n');
}

/// The app of [`Server::start`].
pub(crate) fn app() -> Arc<App> {
    let (id, key) = (AppId::parse("shop").unwrap(), AppKey::parse("shop-key").unwrap());
    Arc::new(App::new(id, key, AppSecret::new("shop-secret-0123456789")))
}

/// A client of that app, greeted.
pub(crate) async fn client(address: SocketAddr) -> Client {
    Client::connect(&format!("ws://{address}"), app(), options()).await.unwrap()
}

/// Patient ones.
pub(crate) fn options() -> Options {
    Options { deadline: PATIENCE, ..Options::default() }
}

pub(crate) fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name, &Limits::default()).unwrap()
}

/// Runs what is async in a test.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// The whole answer to a GET; empty if nobody listens.
pub(crate) fn fetch(address: SocketAddr, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(5)) else {
        return String::new();
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    exchange(&mut stream, &get(path), "\0")
}
