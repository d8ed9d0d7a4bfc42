//! The binary as a child process: started with a file of its own, asked about itself, ended by its id.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::http::{self, Keys};

/// So long anything a server owes us may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What one app and the server are configured with beside the ports.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Setup<'a> {
    /// Lines for `[server]`.
    pub(crate) server: &'a str,
    /// Lines for every `[[apps]]`.
    pub(crate) apps: &'a str,
    /// Flags behind `--config FILE`.
    pub(crate) flags: &'a [&'a str],
    /// `SOUNDPOST_LOG`.
    pub(crate) log: Option<&'a str>,
    /// File descriptors it may have at most.
    pub(crate) files_max: Option<u32>,
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    readers: Vec<JoinHandle<()>>,
    output: Arc<Mutex<String>>,
    file: PathBuf,
    /// Where clients and publishers connect.
    pub(crate) address: SocketAddr,
    /// Where metrics are.
    pub(crate) admin: SocketAddr,
}

impl Server {
    /// A server with both test apps.
    pub(crate) fn start(setup: &Setup<'_>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("abuse-{}-{}.toml", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&file, config(setup)).unwrap();
        let binary = env!("CARGO_BIN_EXE_soundpost");
        let mut command = match setup.files_max {
            None => Command::new(binary),
            Some(max) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!(r#"ulimit -n {max}; exec "$0" "$@""#)).arg(binary);
                shell
            }
        };
        command.arg("--config").arg(&file).args(setup.flags).env_clear();
        if let Some(filter) = setup.log {
            command.env("SOUNDPOST_LOG", filter);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = Arc::new(Mutex::new(String::new()));
        let readers =
            vec![copy(child.stdout.take().unwrap(), &output), copy(child.stderr.take().unwrap(), &output)];
        let placeholder = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { child, readers, output, file, address: placeholder, admin: placeholder };
        until("the banner", || server.output().contains("  workers  "));
        server.address = server.address_behind("  websocket  ");
        server.admin = server.address_behind("  admin      ");
        server
    }

    fn address_behind(&self, mark: &str) -> SocketAddr {
        let output = self.output();
        let (_, url) = output.split_once(mark).unwrap();
        url.split('/').nth(2).unwrap().parse().unwrap()
    }

    /// All it wrote to stdout and stderr so far.
    pub(crate) fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Open file descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count()
    }

    /// Processor time used.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Resident memory, bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() * 1024
    }

    /// One value of `/metrics`; 0 where it is not listed.
    pub(crate) fn metric(&self, name_with_labels: &str) -> u64 {
        let text = http::get(self.admin, "/metrics").body;
        let value = text.lines().find_map(|line| line.strip_prefix(name_with_labels)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// `soundpost_closed_total` of an app.
    pub(crate) fn closed(&self, keys: &Keys, reason: &str) -> u64 {
        self.metric(&format!(r#"soundpost_closed_total{{app="{}",reason="{reason}"}}"#, keys.id))
    }

    /// `soundpost_refused_total` of an app.
    pub(crate) fn refused(&self, app: &str, reason: &str) -> u64 {
        self.metric(&format!(r#"soundpost_refused_total{{app="{app}",reason="{reason}"}}"#))
    }

    /// What `GET /apps/{id}/connections` says.
    pub(crate) fn connections(&self, keys: &Keys) -> u64 {
        let reply = keys.get(self.address, "connections", &[]);
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["connections"].as_u64().unwrap()
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        let done = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", self.id())).status().unwrap();
        assert!(done.success());
    }

    /// How it ended, if it did within our patience.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server did not end:\n{}", self.output());
            thread::sleep(LOOK);
        }
    }

    /// Whether it runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Ends it and gives back all it ever wrote.
    pub(crate) fn into_output(mut self) -> String {
        self.terminate();
        self.ended();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        self.output()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_file(&self.file));
        if thread::panicking() {
            let output = self.output();
            println!(
                "the server's last lines:\n{}",
                &output[output.ceil_char_boundary(output.len().saturating_sub(2000))..]
            );
        }
    }
}

fn config(setup: &Setup<'_>) -> String {
    let mut text = format!(
        "[server]\nhost = \"127.0.0.1\"\nport = 0\nworkers = 2\n{}\n[admin]\nport = 0\n",
        setup.server
    );
    for Keys { id, key, secret } in [http::SHOP, http::BLOG] {
        writeln!(text, "[[apps]]\nid = \"{id}\"\nkey = \"{key}\"\nsecret = \"{secret}\"\n{}", setup.apps)
            .unwrap();
    }
    text
}

/// Collects what the child writes, line by line.
fn copy(from: impl Read + Send + 'static, into: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let into = Arc::clone(into);
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            into.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Waits for a condition.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(LOOK);
    }
}
