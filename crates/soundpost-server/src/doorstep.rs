//! Between accepting a connection and its first byte: who is at the other end.
//!
//! A socket tells the address of its peer. Where that is a proxy which is trusted to know better, and is to say so with
//! a PROXY header, the header is read here, before whatever the client says: TLS or HTTP.

use std::{
    cell::Cell,
    fmt, io,
    net::IpAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{error::Elapsed, timeout},
};
use tracing::{debug, warn};

use crate::{
    accept::{NOT_NOW, TOO_MANY},
    addresses::{AddressPlace, AddressRefusal},
    node::Node,
    proxy::header::{self, Malformed, Progress, Speaker},
};

/// A header must be complete so long after its connection was taken in.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Who is turned away has so long to go, so that the answer is not lost to a reset.
const LINGER: Duration = Duration::from_secs(2);

/// Who is at the other end of a connection, as far as is known before it says anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address; `None` on a Unix socket.
    pub address: Option<IpAddr>,
    /// Whether it speaks TLS, to us or to the proxy that named it.
    pub is_tls: bool,
    /// Whether it is a proxy that is believed when it names its clients.
    pub is_trusted: bool,
    /// Whether it must speak TLS to us and has not: the other protocol is answered with what is wrong.
    pub owes_tls: bool,
}

impl Peer {
    /// The other end of an accepted socket. Who reaches a Unix socket was let in by the permissions of its file, and
    /// has no address that could be the truth instead, so it is trusted; and TLS there would protect nothing.
    pub fn accepted(node: &Node, address: Option<IpAddr>) -> Self {
        let is_trusted = address.is_none_or(|address| node.proxies.load().trusted.trusts(address));
        let owes_tls = node.tls.is_some() && address.is_some();
        Self { address, is_tls: false, is_trusted, owes_tls }
    }

    /// How it is turned away: with `answer`, or where TLS was to come first with what stands for it there.
    pub(crate) const fn refusal(self, answer: &'static [u8]) -> &'static [u8] {
        if self.owes_tls { NOT_NOW } else { answer }
    }

    /// Whether a PROXY header must come first.
    pub fn owes_header(self, node: &Node) -> bool {
        self.is_trusted && node.proxies.load().protocol
    }

    /// The same after a header.
    fn introduced(self, node: &Node, speaker: Speaker) -> Self {
        match speaker {
            Speaker::Proxy => self,
            // What follows comes from somebody else, whose word is worth nothing.
            Speaker::Unknown { is_tls } => Self { is_tls, is_trusted: false, ..self },
            Speaker::Client { address, is_tls } => {
                Self { is_tls, owes_tls: self.owes_tls, ..Self::accepted(node, Some(address)) }
            }
        }
    }
}

/// What a connection takes part in until it ends: given back when dropped.
pub struct Held {
    of_worker: Arc<AtomicUsize>,
    of_address: Cell<Option<AddressPlace>>,
}

impl Held {
    /// One more connection of a worker, and perhaps of an address.
    pub fn new(of_worker: Arc<AtomicUsize>, of_address: Option<AddressPlace>) -> Self {
        of_worker.fetch_add(1, Relaxed);
        Self { of_worker, of_address: Cell::new(of_address) }
    }

    /// Counts the connection in with those of its client's address, once that is known; a second time does nothing.
    ///
    /// Errors: the address has too many.
    pub fn admit(&self, node: &Node, address: Option<IpAddr>) -> Result<(), AddressRefusal> {
        let place = self.of_address.take();
        let place = if place.is_some() { place } else { node.admit_address(address)? };
        self.of_address.set(place);
        Ok(())
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of_worker.fetch_sub(1, Relaxed);
    }
}

/// Why a connection that owes a header is not served.
#[derive(Debug, thiserror::Error)]
enum HeaderError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the PROXY header was not complete after 5 seconds")]
    Late(#[from] Elapsed),
    #[error("the connection ended within the PROXY header")]
    Ended,
    /// Not even a first byte: a balancer that looks whether the port is open does no more.
    #[error("the connection ended before a PROXY header")]
    Silent,
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

/// Reads the PROXY header of a connection that [owes](Peer::owes_header) one. `None`: it is closed, because there was
/// none or because the client's address has too many connections; both are counted.
pub async fn introduce(node: &Node, stream: &mut TcpStream, peer: Peer, held: &Rc<Held>) -> Option<Peer> {
    match timeout(HEADER_TIMEOUT, read_header(stream)).await.map_err(HeaderError::from).flatten() {
        Ok(speaker) => {
            let peer = peer.introduced(node, speaker);
            // Of a further proxy, or one that speaks for itself, the clients are counted when it names them.
            let is_client = matches!(speaker, Speaker::Client { .. }) && !peer.is_trusted;
            if is_client && held.admit(node, peer.address).is_err() {
                turn_away(stream, peer.refusal(TOO_MANY)).await;
                return None;
            }
            Some(peer)
        }
        Err(error @ HeaderError::Silent) => {
            debug!(address = peer.address.map(tracing::field::display), %error);
            None
        }
        Err(error) => {
            let proxy = peer.address.map(tracing::field::display);
            node.refused_headers.fetch_add(1, Relaxed);
            // One proxy set up wrongly makes a line of every connection.
            if node.header_warning.is_due() {
                warn!(proxy, %error, "connection refused; for a minute more of these are counted only");
            } else {
                debug!(proxy, %error, "connection refused");
            }
            None
        }
    }
}

/// Takes the header from the socket, and not a byte more: what follows may be for TLS.
async fn read_header(stream: &mut TcpStream) -> Result<Speaker, HeaderError> {
    let mut buffer = [0; header::BYTES_MAX];
    let mut filled = 0;
    loop {
        // A header that is not complete is shorter than the buffer.
        let seen = stream.peek(buffer.get_mut(filled..).unwrap_or_default()).await?;
        match header::read(buffer.get(..filled + seen).unwrap_or_default())? {
            _ if seen == 0 && filled == 0 => return Err(HeaderError::Silent),
            _ if seen == 0 => return Err(HeaderError::Ended),
            Progress::Partial => {
                stream.read_exact(buffer.get_mut(filled..filled + seen).unwrap_or_default()).await?;
                filled += seen;
            }
            Progress::Whole { speaker, bytes } => {
                stream.read_exact(buffer.get_mut(filled..bytes).unwrap_or_default()).await?;
                return Ok(speaker);
            }
        }
    }
}

/// Answers a request that nobody reads, and waits for the client to go.
async fn turn_away(stream: &mut TcpStream, answer: &[u8]) {
    drop(stream.try_write(answer));
    drop(socket2::SockRef::from(&*stream).shutdown(std::net::Shutdown::Write));
    let mut rest = [0; 1024];
    let discard = async { while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {} };
    drop(timeout(LINGER, discard).await);
}
