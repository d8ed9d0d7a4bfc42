//! The WebSocket framing of RFC 6455: frames out are encoded once and shared, frames in are decoded in place.
//!
//! Knows nothing of the Pusher protocol above it and no socket below it.

mod client;
mod decoder;
mod encoder;
mod header;
mod mask;
mod violation;

pub use client::client_frame;
pub use decoder::{Decoder, EMPTY_FRAGMENTS_MAX, Message};
pub use encoder::Frame;
pub use header::Role;
pub use violation::Violation;

/// The 4 bits that say what a frame is. Source: RFC 6455, section 5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// Goes on with the message begun before.
    Continuation,
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
    /// Closes the connection.
    Close,
    /// Asks for a pong.
    Ping,
    /// Answers a ping.
    Pong,
}

impl Opcode {
    /// The bits on the wire.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }

    /// What the bits say; the others, up to 15, are reserved.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xa => Some(Self::Pong),
            _ => None,
        }
    }
}
