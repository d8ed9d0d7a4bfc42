//! The ways framing can be broken.

use crate::close::CloseReason;

use super::EMPTY_FRAGMENTS_MAX;

/// How the peer broke the framing. Source: the MUSTs of RFC 6455, sections 5, 7.4 and 8.1, and Autobahn's reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A reserved bit is set, and no extension was agreed that gives it a meaning.
    #[error("reserved bits {bits:#05b} set without an extension")]
    ReservedBits {
        /// RSV1 to RSV3, RSV1 highest.
        bits: u8,
    },
    /// An opcode without a meaning.
    #[error("opcode {bits:#x} is reserved")]
    ReservedOpcode {
        /// The 4 bits found.
        bits: u8,
    },
    /// A client must mask its frames.
    #[error("frame from a client is not masked")]
    Unmasked,
    /// A server must not mask its frames.
    #[error("frame from a server is masked")]
    Masked,
    /// A control frame without the final bit.
    #[error("control frame is fragmented")]
    FragmentedControl,
    /// A control frame of more than 125 bytes.
    #[error("control frame has more than 125 bytes")]
    LongControl,
    /// A continuation, and nothing to continue.
    #[error("continuation without a message begun")]
    ContinuationWithoutStart,
    /// A new message while another lacks its end.
    #[error("new message inside a fragmented one")]
    StartInsideMessage,
    /// A length written with more bytes than it needs.
    #[error("length {bytes} is not written in its shortest form")]
    LengthNotMinimal {
        /// The length.
        bytes: u16,
    },
    /// A length with its highest bit set.
    #[error("length has its highest bit set")]
    LengthTopBit,
    /// More than [`EMPTY_FRAGMENTS_MAX`] fragments of one message hold nothing.
    #[error("message has more than {EMPTY_FRAGMENTS_MAX} empty fragments")]
    EmptyFragments,
    /// A close frame with half a code.
    #[error("close frame of one byte")]
    HalfCloseCode,
    /// A close code that may not stand in a frame.
    #[error("close code {code} is not allowed")]
    CloseCode {
        /// The code found.
        code: u16,
    },
    /// Text, or the reason in a close frame, is not UTF-8.
    #[error("text is not utf-8")]
    NotUtf8,
    /// A message above `message_bytes_max`.
    #[error("message has {bytes} bytes or more, which is too many")]
    TooBig {
        /// What its fragments announced so far.
        bytes: u64,
    },
}

impl Violation {
    /// Why the connection closes.
    pub const fn close_reason(&self) -> CloseReason {
        match self {
            Self::ReservedBits { .. }
            | Self::ReservedOpcode { .. }
            | Self::Unmasked
            | Self::Masked
            | Self::FragmentedControl
            | Self::LongControl
            | Self::ContinuationWithoutStart
            | Self::StartInsideMessage
            | Self::LengthNotMinimal { .. }
            | Self::LengthTopBit
            | Self::EmptyFragments
            | Self::HalfCloseCode
            | Self::CloseCode { .. } => CloseReason::ProtocolViolation,
            Self::NotUtf8 => CloseReason::NotUtf8,
            Self::TooBig { .. } => CloseReason::MessageTooBig,
        }
    }
}
