//! TLS of our own: certificates, the handshake, and the records of one connection.
//!
//! Every listener for clients and publishers speaks it, or none does. A handshake runs on the connection's worker,
//! within [`HANDSHAKE_TIMEOUT`]. What is kept for an open connection is a [`Session`]; it has no buffers while nothing is
//! under way. Knows nothing of HTTP, frames or the configuration: it is given [`Pair`]s of files.

mod certificates;
mod client;
mod error;
mod handshake;
mod keys;
mod mistakes;
mod outcome;
mod pair;
mod session;
mod stream;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use rustls::{ServerConfig, crypto::ring, server::NoServerSessionStorage};
use tokio::sync::Semaphore;

pub use certificates::{Certificates, Changed, Fresh, Served};
pub use client::TlsClient;
pub use error::TlsError;
pub use handshake::{Greeted, greet};
pub use mistakes::Mistakes;
pub(crate) use mistakes::{TLS_HANDSHAKE, answer_tls};
pub use outcome::{Handshake, HandshakeCounters};
pub use pair::{Pair, Passphrase};
pub use session::{RECORD_BYTES, Session, with_record};
pub use stream::{TlsParts, TlsStream, Transport};

/// Why a session is over.
pub use rustls::Error as SessionError;

/// A handshake must be over so long after the connection was accepted.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What every handshake of a node needs.
#[derive(Debug)]
pub struct Tls {
    /// What is offered to clients.
    config: Arc<ServerConfig>,
    /// Who we say we are.
    pub certificates: Arc<Certificates>,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// How handshakes ended.
    pub handshakes: HandshakeCounters,
    /// Of each worker, whose handshake goes on next.
    turns: Box<[Semaphore]>,
}

impl Tls {
    /// Around certificates that are read already, for `workers` workers. Errors: [`TlsError::System`].
    pub fn new(certificates: Certificates, workers: usize) -> Result<Self, TlsError> {
        let certificates = Arc::new(certificates);
        let resolver: Arc<Certificates> = Arc::clone(&certificates);
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Who comes back brings the session along: nothing is kept for it here, and after a drain, when all come back
        // at once, the costly part of the handshake is spared. One ticket each: they come back one at a time.
        config.ticketer = ring::Ticketer::new()?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        Ok(Self {
            config: Arc::new(config),
            certificates,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            handshakes: HandshakeCounters::new(workers),
            turns: (0..workers).map(|_| Semaphore::new(1)).collect(),
        })
    }
}
