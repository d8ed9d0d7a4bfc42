//! Why the server ends a connection or refuses a message, and the code each reason has on the wire.
//!
//! Source: Pusher protocol, "Error Codes". For pusher-js 4000-4099 means stay away, 4100-4199 back off, 4200-4299 come
//! back at once; a close code of 4300 or above would keep a client away for good and is never sent as one.

/// Why the server ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CloseReason {
    /// The app accepts only TLS.
    TlsOnly,
    /// No app has the key in the request path.
    UnknownApp,
    /// The app is switched off.
    AppDisabled,
    /// The app has as many connections as it may.
    AppOverQuota,
    /// A WebSocket on a path that is not `/app/{key}`.
    UnknownPath,
    /// A `protocol` other than 4 to 7.
    UnsupportedProtocol,
    /// The page's origin is not in `allowed_origins`.
    OriginNotAllowed,
    /// Neither signed in nor on a channel that needs a signature in time.
    NotAuthorized,
    /// The application ended the user's connections over the HTTP API.
    Terminated,
    /// This node is full or about to stop; another may have room.
    OverCapacity,
    /// The client does not read what it is sent.
    SlowConsumer,
    /// More messages than Reverb's rate allows, with `terminate_on_limit`.
    RateLimit,
    /// The node stops; the client should come back at once, to another.
    Draining,
    /// A ping went out and nothing came back in time.
    PongTimeout,
    /// The client said goodbye; its own code goes back.
    ClientLeft,
    /// The connection broke off without a closing handshake.
    Lost,
    /// The WebSocket framing was broken.
    ProtocolViolation,
    /// A binary message; the protocol has only text.
    BinaryMessage,
    /// Text that is not UTF-8.
    NotUtf8,
    /// A message above `message_bytes_max`.
    MessageTooBig,
    /// A fault of ours, caught.
    ServerFault,
}

impl CloseReason {
    /// Every reason.
    pub const ALL: [Self; 21] = [
        Self::TlsOnly,
        Self::UnknownApp,
        Self::AppDisabled,
        Self::AppOverQuota,
        Self::UnknownPath,
        Self::UnsupportedProtocol,
        Self::OriginNotAllowed,
        Self::NotAuthorized,
        Self::Terminated,
        Self::OverCapacity,
        Self::SlowConsumer,
        Self::RateLimit,
        Self::Draining,
        Self::PongTimeout,
        Self::ClientLeft,
        Self::Lost,
        Self::ProtocolViolation,
        Self::BinaryMessage,
        Self::NotUtf8,
        Self::MessageTooBig,
        Self::ServerFault,
    ];

    /// Close code and text. No `_` arm: a new reason does not compile without its own code.
    pub const fn wire(self) -> (u16, &'static str) {
        match self {
            Self::TlsOnly => (4000, "Application only accepts TLS connections"),
            Self::UnknownApp => (4001, "Application does not exist"),
            Self::AppDisabled => (4003, "Application disabled"),
            Self::AppOverQuota => (4004, "Application is over connection quota"),
            Self::UnknownPath => (4005, "Path not found"),
            Self::UnsupportedProtocol => (4007, "Unsupported protocol version"),
            Self::OriginNotAllowed => (4009, "Origin not allowed"),
            Self::NotAuthorized => (4009, "Connection not authorized within timeout"),
            Self::Terminated => (4009, "Connection terminated by the application"),
            Self::OverCapacity => (4100, "Over capacity"),
            Self::SlowConsumer => (4100, "Messages are read too slowly"),
            Self::RateLimit => (4100, "Rate limit exceeded"),
            Self::Draining => (4200, "Server is restarting"),
            Self::PongTimeout => (4201, "Pong reply not received in time"),
            Self::ClientLeft => (1000, ""),
            Self::Lost => (1006, ""),
            Self::ProtocolViolation => (1002, "WebSocket protocol violation"),
            Self::BinaryMessage => (1003, "Binary messages are not supported"),
            Self::NotUtf8 => (1007, "Text is not UTF-8"),
            Self::MessageTooBig => (1009, "Message too big"),
            Self::ServerFault => (1011, "Internal server error"),
        }
    }

    /// The word used in metrics and logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::TlsOnly => "tls_only",
            Self::UnknownApp => "unknown_app",
            Self::AppDisabled => "app_disabled",
            Self::AppOverQuota => "app_over_quota",
            Self::UnknownPath => "unknown_path",
            Self::UnsupportedProtocol => "unsupported_protocol",
            Self::OriginNotAllowed => "origin_not_allowed",
            Self::NotAuthorized => "not_authorized",
            Self::Terminated => "terminated",
            Self::OverCapacity => "over_capacity",
            Self::SlowConsumer => "slow_consumer",
            Self::RateLimit => "rate_limit",
            Self::Draining => "draining",
            Self::PongTimeout => "pong_timeout",
            Self::ClientLeft => "client_left",
            Self::Lost => "lost",
            Self::ProtocolViolation => "protocol_violation",
            Self::BinaryMessage => "binary_message",
            Self::NotUtf8 => "not_utf8",
            Self::MessageTooBig => "message_too_big",
            Self::ServerFault => "server_fault",
        }
    }

    /// Whether a `pusher:error` frame goes out before the close frame: the protocol's own codes, not WebSocket's.
    pub const fn has_error_frame(self) -> bool {
        self.wire().0 >= 4000
    }
}

/// Why a message is refused while the connection stays open; goes out as a `pusher:error` frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not JSON, no event name, an unknown `pusher:` event, or one whose data cannot be used.
    InvalidMessage,
    /// A bad signature, or a client event from a connection that is not subscribed.
    Unauthorized,
    /// A sign-in as another user than the one signed in already.
    OtherUser,
    /// More users to watch than a watchlist holds; the first of them are watched.
    WatchlistTooLong,
    /// A client event above the rate.
    RateLimit,
    /// The app takes no client events.
    ClientEventsOff,
    /// A client event that breaks a rule; the text says which.
    ClientEvent(&'static str),
}

impl Refusal {
    /// Code and text of the `pusher:error` frame.
    pub const fn wire(&self) -> (u16, &'static str) {
        match self {
            Self::InvalidMessage => (4200, "Invalid message format"),
            Self::Unauthorized => (4009, "Connection is unauthorized"),
            Self::OtherUser => (4009, "Connection is signed in as another user"),
            Self::WatchlistTooLong => (4302, "Watchlist is too long: only the first 100 users are watched"),
            Self::RateLimit => (4301, "Rate limit exceeded"),
            Self::ClientEventsOff => (4301, "The app does not have client messaging enabled."),
            Self::ClientEvent(text) => (4301, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_listed_in_its_place() {
        for (place, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place, "{reason:?}");
        }
        assert_eq!(CloseReason::ALL.len(), CloseReason::ServerFault as usize + 1, "the last of the reasons");
    }

    #[test]
    fn no_close_code_keeps_a_client_away_that_may_come_back() {
        for reason in CloseReason::ALL {
            let (code, text) = reason.wire();
            assert!(code < 4300, "{reason:?}");
            assert!(text.len() <= 123, "{reason:?} does not fit a close frame");
        }
    }
}
