//! Receivers of webhooks for tests: real sockets, and answers as the test wants them, byte for byte.

#![allow(dead_code, reason = "each suite uses a part of it")]

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver as Channel, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::{Domain, Socket, Type};

/// Whatever a test waits for must have happened by then, however busy the machine is with other things.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// `200` and a short body.
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An address at which nobody listens, and which nobody else gets while this is there.
pub(crate) struct Nobody {
    pub(crate) address: SocketAddr,
    _bound: Socket,
}

impl Nobody {
    pub(crate) fn new() -> Self {
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = bound.local_addr().unwrap().as_socket().unwrap();
        Self { address, _bound: bound }
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Counts the connections of the receiver, from 0 on.
    pub(crate) connection: usize,
    /// First line and headers, as they were written.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) at: Instant,
}

impl Received {
    /// The value of a header in exactly this spelling.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The events of the body.
    pub(crate) fn events(&self) -> Vec<serde_json::Value> {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        body["events"].as_array().unwrap().clone()
    }
}

/// What becomes of a request, one after the other.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Written as it is.
    Write(Vec<u8>),
    /// So much of nothing, as a body.
    Flood(usize),
    /// The answer takes so long.
    Wait(Duration),
    /// The connection ends.
    Close,
}

/// Says this and keeps the connection.
pub(crate) fn say(text: &str) -> Vec<Act> {
    vec![Act::Write(text.as_bytes().to_vec())]
}

/// An answer with this status and no body.
pub(crate) fn status(status: u16) -> Vec<Act> {
    say(&format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n"))
}

/// A receiver on a free port of 127.0.0.1.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    requests: Channel<Received>,
    connections: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

type Script = dyn Fn(&Received) -> Vec<Act> + Send + Sync;

impl Receiver {
    /// Answers as `script` says.
    pub(crate) fn start(script: impl Fn(&Received) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::start_with(None, script)
    }

    /// The same over TLS.
    pub(crate) fn secured(
        tls: Arc<ServerConfig>,
        script: impl Fn(&Received) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(Some(tls), script)
    }

    fn start_with(
        tls: Option<Arc<ServerConfig>>,
        script: impl Fn(&Received) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, requests) = sync_channel(100_000);
        let (connections, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, over) = (Arc::clone(&connections), Arc::clone(&is_over));
        let script: Arc<Script> = Arc::new(script);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if over.load(Relaxed) {
                    return;
                }
                let connection = count.fetch_add(1, Relaxed);
                let (tls, script, tell) = (tls.clone(), Arc::clone(&script), tell.clone());
                // However it ends: the test sees what the other side makes of it.
                thread::spawn(move || drop(serve(stream, tls, connection, &*script, &tell)));
            }
        });
        Self { address, requests, connections, is_over }
    }

    /// The next request. Fails if there is none in time.
    #[track_caller]
    pub(crate) fn next(&self) -> Received {
        self.requests.recv_timeout(DEADLINE).expect("a request in time")
    }

    /// A request that has come already, if there is one.
    pub(crate) fn try_next(&self) -> Option<Received> {
        self.requests.try_recv().ok()
    }

    /// Connections that were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    /// `http://127.0.0.1:PORT/hook`, or with another scheme.
    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}/hook", self.address)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

fn serve(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    connection: usize,
    script: &Script,
    tell: &SyncSender<Received>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match tls {
        None => requests(stream, connection, script, tell),
        Some(tls) => {
            let session = ServerConnection::new(tls).map_err(io::Error::other)?;
            requests(StreamOwned::new(session, stream), connection, script, tell)
        }
    }
}

fn requests(
    stream: impl Read + Write,
    connection: usize,
    script: &Script,
    tell: &SyncSender<Received>,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body)?;
        let received = Received { connection, head, body, at: Instant::now() };
        let acts = script(&received);
        drop(tell.try_send(received));
        for act in acts {
            let to = stream.get_mut();
            match act {
                Act::Write(bytes) => to.write_all(&bytes)?,
                Act::Flood(bytes) => {
                    let part = [b'x'; 8192];
                    for _ in 0..bytes.div_ceil(part.len()) {
                        to.write_all(&part)?;
                    }
                }
                Act::Wait(time) => thread::sleep(time),
                Act::Close => return Ok(()),
            }
            stream.get_mut().flush()?;
        }
    }
}
