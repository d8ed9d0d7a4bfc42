//! How handshakes ended, counted.

use rustls::{HandshakeKind, InvalidMessage};

use crate::{apps::WorkerId, metrics::Count};

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Well, with everything in it.
    Full,
    /// Well, going on with an earlier session.
    Resumed,
    /// The client spoke plain HTTP, and is told so.
    Plain,
    /// Not in time.
    Timeout,
    /// The client left in the middle.
    Left,
    /// The client refused, mostly our certificate.
    Rejected,
    /// The client offers protocols by ALPN, and HTTP/1.1 is not among them.
    NoHttp1,
    /// Neither version nor ciphers in common.
    Unsupported,
    /// Not TLS, or broken.
    Invalid,
}

impl Handshake {
    /// Every outcome with the word of its label.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Full, "full"),
        (Self::Resumed, "resumed"),
        (Self::Plain, "plain"),
        (Self::Timeout, "timeout"),
        (Self::Left, "left"),
        (Self::Rejected, "rejected"),
        (Self::NoHttp1, "no_http1"),
        (Self::Unsupported, "unsupported"),
        (Self::Invalid, "invalid"),
    ];

    pub(super) const fn ended_well(kind: Option<HandshakeKind>) -> Self {
        match kind {
            Some(HandshakeKind::Resumed) => Self::Resumed,
            Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) | None => Self::Full,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign list that grows; the rest is broken TLS")]
    pub(super) const fn failed(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::AlertReceived(_) => Self::Rejected,
            rustls::Error::NoApplicationProtocol => Self::NoHttp1,
            rustls::Error::PeerIncompatible(_)
            | rustls::Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion) => Self::Unsupported,
            _ => Self::Invalid,
        }
    }
}

/// The handshakes of all workers.
#[derive(Debug)]
pub struct HandshakeCounters(Box<[[Count; Handshake::ALL.len()]]>);

impl HandshakeCounters {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Default::default()).collect())
    }

    /// Counts one. Only for the thread of that worker.
    pub fn add(&self, worker: WorkerId, outcome: Handshake) {
        if let Some(count) = self.0.get(worker.index()).and_then(|counts| counts.get(outcome as usize)) {
            count.add(1);
        }
    }

    /// How many ended so.
    pub fn value(&self, outcome: Handshake) -> u64 {
        self.0.iter().filter_map(|counts| counts.get(outcome as usize)).map(Count::value).sum()
    }
}
