//! Accepting: from a listening socket to the worker that will serve the connection, or to a polite no.

use std::{
    io,
    net::{IpAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tracing::{debug, error, info};

use crate::{doorstep::Peer, listen::Listener, node::Node, worker::Worker};

/// After accepting failed for want of something, so long until the next try.
const PAUSE: Duration = Duration::from_millis(50);

/// Whether descriptors have run out. Each listener keeps one in reserve, so that a connection can still be refused
/// politely then.
#[derive(Debug, Default)]
pub(crate) struct Reserve {
    is_short: AtomicBool,
}

impl Reserve {
    /// Accepts one connection with the reserved descriptor and turns it away.
    fn refuse_one(&self, listener: &Listener, held: &mut Option<std::fs::File>, node: &Node) {
        if !self.is_short.swap(true, Relaxed) {
            error!("out of file descriptors: new connections are refused until some close");
        }
        *held = None;
        if let Ok((stream, address)) = listener.accept() {
            turn_away(&stream, Peer::accepted(node, address).refusal(UNAVAILABLE));
        }
        *held = reserve();
    }

    fn recovered(&self) {
        if self.is_short.swap(false, Relaxed) {
            info!("file descriptors are free again");
        }
    }
}

const UNAVAILABLE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";
/// What an address with too many connections hears, which is not asked what it wants.
pub(crate) const TOO_MANY: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";

/// What stands for both where clients speak TLS: a record with the alert `internal_error`, fatal. They are not worth a
/// handshake, and without one nothing more can be said.
pub(crate) const NOT_NOW: &[u8] = &[21, 3, 1, 0, 2, 2, 80];

/// Writes an answer to a request that is not read; whether the client gets it is its own affair.
fn turn_away(stream: &TcpStream, answer: &[u8]) {
    drop(stream.set_nonblocking(true));
    drop(io::Write::write(&mut &*stream, answer));
}

fn reserve() -> Option<std::fs::File> {
    std::fs::File::open("/dev/null").ok()
}

/// What the tasks that accept connections share.
#[derive(Debug)]
pub(crate) struct Acceptor {
    pub(crate) workers: Arc<[Worker]>,
    pub(crate) node: Arc<Node>,
    pub(crate) reserve: Arc<Reserve>,
}

impl Acceptor {
    /// Accepts for as long as the server runs.
    pub(crate) async fn accept(self, listener: Listener) {
        // The second handle accepts what is to be turned away, without making it known to the runtime.
        let both = listener.try_clone().and_then(|plain| Ok((plain, listener.wait()?)));
        let (plain, listener) = match both {
            Ok(both) => both,
            Err(error) => {
                error!(%error, "cannot wait for connections");
                return;
            }
        };
        let mut held = reserve();
        let mut turn = 0;
        loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    self.reserve.recovered();
                    self.hand_over(stream, address, turn).await;
                    turn = turn.wrapping_add(1);
                }
                Err(error) if is_shortage(&error) => {
                    self.reserve.refuse_one(&plain, &mut held, &self.node);
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => {
                    // Mostly a client that has gone before it was served; whatever else it is must not be spun on.
                    debug!(%error, "accepting failed");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
    }

    /// Hands a socket to the worker with the least to do; equal loads take turns. Whose client is not known yet, because
    /// a proxy speaks for it, is counted with the client's address by the worker.
    async fn hand_over(&self, stream: TcpStream, address: Option<IpAddr>, turn: usize) {
        let peer = Peer::accepted(&self.node, address);
        let known = peer.address.filter(|_| !peer.is_trusted);
        let Ok(place) = self.node.admit_address(known) else {
            turn_away(&stream, peer.refusal(TOO_MANY));
            return;
        };
        let count = self.workers.len();
        let in_turn = self.workers.iter().cycle().skip(turn % count).take(count);
        if let Some(worker) = in_turn.min_by_key(|worker| worker.load()) {
            worker.hand_over(stream, peer, place).await;
        }
    }
}

/// Out of descriptors, of this process or of the system, or of memory for sockets.
fn is_shortage(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    const ENOMEM: i32 = 12;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE | ENOBUFS | ENOMEM))
}
