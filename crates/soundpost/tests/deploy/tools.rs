//! What every test here needs: the files, a folder of its own, other people's programs, and patience.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

/// So long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// A file or folder in `deploy/`.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name)
}

/// The text of a file in `deploy/`.
pub(crate) fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("deploy/{name}: {error}"))
}

/// `text` with each pattern, which must stand in it, replaced.
pub(crate) fn with(text: &str, replacements: &[(&str, &str)]) -> String {
    replacements.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from:?} is not there to be replaced");
        text.replace(from, to)
    })
}

/// A folder that is gone after the test. Its path is short, because Unix sockets lie in it.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("soundpost-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file into it.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Runs a program to its end; its output of both kinds.
pub(crate) fn run(command: &mut Command) -> (Output, String) {
    let output = command.output().unwrap_or_else(|error| missing(command, &error));
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output, text)
}

/// The same; fails unless it exits with zero.
pub(crate) fn succeed(command: &mut Command) -> String {
    let (output, text) = run(command);
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}

/// A certificate for `ws.example.com` and its key, made in the folder.
pub(crate) fn certificate(folder: &Folder) -> [PathBuf; 2] {
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.path(name));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    openssl.args(["-subj", "/CN=ws.example.com", "-days", "2", "-keyout"]).arg(&key).arg("-out");
    succeed(openssl.arg(&certificate));
    [certificate, key]
}

fn missing(command: &Command, error: &std::io::Error) -> ! {
    panic!("{}: {error}; `cargo xtask test` installs what the tests need", command.get_program().display())
}

/// A program that runs until the end of the test, which ends it by its id.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|error| missing(command, &error)))
    }

    /// Sends a signal, by its name without `SIG`.
    pub(crate) fn signal(&self, signal: &str) {
        succeed(Command::new("sh").arg("-c").arg(format!("kill -{signal} {}", self.0.id())));
    }

    /// What it writes to a stream that was asked for with `piped`.
    pub(crate) fn stdout(&mut self) -> std::process::ChildStdout {
        self.0.stdout.take().unwrap()
    }

    /// The way to its input, if that was asked for with `piped`.
    pub(crate) fn stdin(&mut self) -> std::process::ChildStdin {
        self.0.stdin.take().unwrap()
    }

    /// Exit code, once it has ended.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        until("the end of a program", || self.0.try_wait().unwrap().is_some());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // TERM first: these programs have children of their own, or files to take away.
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal("TERM");
            let deadline = Instant::now() + Duration::from_secs(10);
            while self.0.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < deadline {
                thread::sleep(LOOK);
            }
        }
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Waits for a condition.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(LOOK);
    }
}

/// The request that opens a WebSocket.
pub(crate) fn handshake(path: &str) -> String {
    format!(
        "GET {path}?protocol=7&client=js&version=8.6.0&flash=false HTTP/1.1\r\nHost: ws.example.com\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A request that wants one answer.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: ws.example.com\r\nConnection: close\r\n\r\n")
}

/// Sends `request` and reads until `mark` or the end of the stream.
pub(crate) fn exchange(stream: &mut (impl Read + Write), request: &str, mark: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    read_until(stream, mark)
}

/// Reads until `mark` has come, or the end of the stream.
pub(crate) fn read_until(stream: &mut impl Read, mark: &str) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            count => all.extend_from_slice(&buffer[..count]),
        }
        if String::from_utf8_lossy(&all).contains(mark) {
            break;
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}
