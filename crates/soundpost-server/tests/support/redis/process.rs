//! One redis-server.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use soundpost_server::config::RedisAddress;

use super::{free_port, local, wait_until};

/// Another try with other ports, if somebody was faster in taking one.
const STARTS_MAX: u32 = 10;

/// Where it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// On a port.
    Plain,
    /// On a port with TLS alone, for which the arguments name the files.
    Tls,
    /// On a port, and on another for the other nodes of its Redis Cluster.
    Cluster,
    /// On a port, as a sentinel whose configuration is in its folder.
    Sentinel,
}

/// What is there after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// What was [saved](RedisServer::save) last.
    Saved,
    /// Nothing.
    Lost,
}

/// A running redis-server; killed when dropped.
#[derive(Debug)]
pub(crate) struct RedisServer {
    pub(crate) port: u16,
    pub(crate) bus_port: u16,
    listen: Listen,
    arguments: Vec<String>,
    folder: PathBuf,
    /// What redis-cli is told beside the port: who we are, TLS.
    pub(crate) cli_options: Vec<String>,
    child: Child,
}

impl RedisServer {
    /// On a free port, with these arguments besides: `--requirepass secret`.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_as(Listen::Plain, arguments, |_, _| {})
    }

    /// The same on another kind of port; `prepare` is given the folder and the port before it starts.
    pub(crate) fn start_as(listen: Listen, arguments: &[&str], prepare: impl Fn(&Path, u16)) -> Self {
        let folder = new_folder();
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        for _ in 0..STARTS_MAX {
            let (port, bus_port) = (free_port(), free_port());
            prepare(&folder, port);
            let child = spawn(listen, &folder, port, bus_port, &arguments);
            let (folder, arguments) = (folder.clone(), arguments.clone());
            let cli_options = Vec::new();
            let mut server = Self { port, bus_port, listen, arguments, folder, cli_options, child };
            if server.is_ready() {
                return server;
            }
            // Its folder stays.
            server.folder.clear();
        }
        panic!("redis-server does not start: {}", fs::read_to_string(folder.join("log")).unwrap_or_default());
    }

    /// Waits until it takes connections. False: it ended.
    fn is_ready(&mut self) -> bool {
        let log = self.folder.join("log");
        let mut is_running = true;
        wait_until("redis-server starts", || {
            is_running = self.child.try_wait().unwrap().is_none();
            let said = fs::read_to_string(&log).unwrap_or_default();
            !is_running || said.contains("Ready to accept connections") || said.contains("Sentinel ID is")
        });
        is_running
    }

    /// Where it is.
    pub(crate) fn address(&self) -> RedisAddress {
        local(self.port)
    }

    /// A file in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What redis-cli prints: of a client that is not ours.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        let port = self.port.to_string();
        let output =
            Command::new("redis-cli").args(["-p", &port]).args(&self.cli_options).args(words).output();
        String::from_utf8(output.unwrap().stdout).unwrap().trim_end().to_owned()
    }

    /// A value of `INFO`.
    pub(crate) fn info(&self, key: &str) -> String {
        let info = self.ask(&["INFO", "everything"]);
        let value = info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        value.unwrap_or_default().trim().to_owned()
    }

    /// It stops working; its connections stay.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    /// It works again.
    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("sh").arg("-c").arg(format!("kill -{name} {id}")).status().unwrap().success());
    }

    /// Writes its data to disk.
    pub(crate) fn save(&self) {
        assert_eq!(self.ask(&["SAVE"]), "OK");
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Starts it on the same port, after [`Self::kill`].
    pub(crate) fn start_again(&mut self, data: Data) {
        if data == Data::Lost {
            drop(fs::remove_file(self.path("dump.rdb")));
        }
        for _ in 0..STARTS_MAX {
            self.child = spawn(self.listen, &self.folder, self.port, self.bus_port, &self.arguments);
            if self.is_ready() {
                return;
            }
        }
        panic!("port {} was taken meanwhile", self.port);
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        if !self.folder.as_os_str().is_empty() {
            drop(fs::remove_dir_all(&self.folder));
        }
    }
}

fn new_folder() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("soundpost-redis-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
    let folder = std::env::temp_dir().join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn spawn(listen: Listen, folder: &Path, port: u16, bus_port: u16, arguments: &[String]) -> Child {
    let log = fs::File::create(folder.join("log")).unwrap();
    let (port, bus_port) = (port.to_string(), bus_port.to_string());
    let mut command = Command::new("redis-server");
    match listen {
        Listen::Plain => command.args(["--port", &port]),
        Listen::Tls => command.args(["--port", "0", "--tls-port", &port]),
        Listen::Cluster => {
            command.args(["--port", &port, "--cluster-enabled", "yes", "--cluster-port", &bus_port])
        }
        // Its ports are in there.
        Listen::Sentinel => command.args(["sentinel.conf", "--sentinel"]),
    };
    if listen != Listen::Sentinel {
        // A replica must not wait for others who could be served with the same copy.
        command.args(["--bind", "127.0.0.1", "--save", "", "--repl-diskless-sync-delay", "0"]);
    }
    command.args(arguments).current_dir(folder);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}
