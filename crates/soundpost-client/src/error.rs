//! What can go wrong between us and a server.

use std::time::Duration;

/// Why a call of this crate failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is not `ws://` or `http://` with a host, or a name in it does not fit a URL.
    #[error("cannot use the URL {url:?}")]
    Url {
        /// What was given.
        url: String,
    },
    /// The socket failed, or nobody listens there.
    #[error("socket: {0}")]
    Io(#[from] std::io::Error),
    /// The peer does not speak HTTP as it should.
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// The server answered the upgrade or an API request with this status.
    #[error("HTTP status {status}: {body:?}")]
    Status {
        /// The status.
        status: u16,
        /// The body, as far as it is within the bound.
        body: String,
    },
    /// The peer broke the WebSocket framing, or the connection broke off without a close frame.
    #[error("WebSocket: {0}")]
    WebSocket(#[from] fastwebsockets::WebSocketError),
    /// A message or body above [`Options::message_bytes_max`](crate::Options).
    #[error("more than {bytes_max} bytes at once")]
    TooBig {
        /// The bound.
        bytes_max: usize,
    },
    /// A message that is no event.
    #[error("not an event: {text:?}")]
    NotAnEvent {
        /// The message.
        text: String,
    },
    /// An event other than the one that had to come.
    #[error("expected {expected}, got {text}")]
    Unexpected {
        /// What had to come.
        expected: &'static str,
        /// What came.
        text: String,
    },
    /// The server said no with a `pusher:error` (4001 for an unknown key) or a `pusher:subscription_error` (401).
    #[error("refused with {code}: {message}")]
    Refused {
        /// `code`, or `status` of a subscription error.
        code: u16,
        /// The text beside it.
        message: String,
    },
    /// The connection was closed with a close frame.
    #[error("closed with {code} {reason:?}")]
    Closed {
        /// The close code; 1005 if there was none.
        code: u16,
        /// The text beside it.
        reason: String,
    },
    /// The connection ended before, with an error that an earlier call gave back.
    #[error("the connection has ended")]
    Ended,
    /// Nothing came in time. The connection is as good as before.
    #[error("no {what} within {waited:?}")]
    Deadline {
        /// What was waited for.
        what: &'static str,
        /// How long.
        waited: Duration,
    },
}

impl ClientError {
    /// The protocol's code, if the server gave one: in a refusal or in a close frame.
    pub const fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } | Self::Closed { code, .. } => Some(*code),
            Self::Url { .. }
            | Self::Io(_)
            | Self::Http(_)
            | Self::Status { .. }
            | Self::WebSocket(_)
            | Self::TooBig { .. }
            | Self::NotAnEvent { .. }
            | Self::Unexpected { .. }
            | Self::Ended
            | Self::Deadline { .. } => None,
        }
    }
}
