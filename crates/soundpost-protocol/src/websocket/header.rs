//! The header of a frame, with every rule that can be checked before its payload arrives.

use super::{Opcode, Violation};

/// Who decodes: a server demands masks, a client refuses them. Source: RFC 6455, section 5.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Decodes what a client sent.
    Server,
    /// Decodes what a server sent.
    Client,
}

/// What a frame carries; a continuation is of the kind it continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Kind {
    /// Control frames come whole and may stand between the fragments of a message.
    pub(super) const fn is_control(self) -> bool {
        match self {
            Self::Text | Self::Binary => false,
            Self::Close | Self::Ping | Self::Pong => true,
        }
    }
}

/// A message that has had a fragment and lacks its last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    /// Text or binary.
    pub(super) kind: Kind,
    /// Payload of its fragments so far, none of it in doubt.
    pub(super) bytes: usize,
}

/// What a header is judged against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) role: Role,
    pub(super) begun: Option<Begun>,
    pub(super) message_bytes_max: usize,
}

/// A header that breaks no rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// Whether the message ends with this frame.
    pub(super) is_final: bool,
    pub(super) mask: Option<[u8; 4]>,
    /// Payload that follows, at most 125 bytes or what the message may still have.
    pub(super) payload_bytes: usize,
}

impl Header {
    /// Reads the header at the front of `bytes` and its length; `None`: it is longer than `bytes`.
    ///
    /// A rule is checked as soon as the bytes it needs are there, so the first violation is the same one however the
    /// header is cut.
    pub(super) fn parse(bytes: &[u8], expected: Expected) -> Result<Option<(Self, usize)>, Violation> {
        let Some((&[first, second], rest)) = bytes.split_first_chunk() else { return Ok(None) };
        let (is_final, masked, short) = (first & 0x80 != 0, second & 0x80 != 0, second & 0x7f);
        let kind = kind(first, expected.begun)?;
        match (expected.role, masked) {
            (Role::Server, false) => return Err(Violation::Unmasked),
            (Role::Client, true) => return Err(Violation::Masked),
            (Role::Server, true) | (Role::Client, false) => {}
        }
        if kind.is_control() {
            check_control(kind, is_final, short)?;
        }
        let Some((length, rest)) = length(short, rest)? else { return Ok(None) };
        let payload_bytes = match expected.begun {
            // At most 125, as checked above.
            _ if kind.is_control() => short.into(),
            begun => fitting(length, begun.map_or(0, |begun| begun.bytes), expected.message_bytes_max)?,
        };
        let (mask, rest) = match (masked, rest.split_first_chunk()) {
            (false, _) => (None, rest),
            (true, Some((mask, rest))) => (Some(*mask), rest),
            (true, None) => return Ok(None),
        };
        Ok(Some((Self { kind, is_final, mask, payload_bytes }, bytes.len() - rest.len())))
    }
}

/// The kind in the first byte, given the message it may belong to. Source: RFC 6455, sections 5.2 and 5.4.
fn kind(first: u8, begun: Option<Begun>) -> Result<Kind, Violation> {
    let reserved = first >> 4 & 0b111;
    if reserved != 0 {
        return Err(Violation::ReservedBits { bits: reserved });
    }
    let bits = first & 0xf;
    match (Opcode::from_bits(bits).ok_or(Violation::ReservedOpcode { bits })?, begun) {
        (Opcode::Continuation, Some(begun)) => Ok(begun.kind),
        (Opcode::Continuation, None) => Err(Violation::ContinuationWithoutStart),
        (Opcode::Text | Opcode::Binary, Some(_)) => Err(Violation::StartInsideMessage),
        (Opcode::Text, None) => Ok(Kind::Text),
        (Opcode::Binary, None) => Ok(Kind::Binary),
        (Opcode::Close, _) => Ok(Kind::Close),
        (Opcode::Ping, _) => Ok(Kind::Ping),
        (Opcode::Pong, _) => Ok(Kind::Pong),
    }
}

/// Source: RFC 6455, sections 5.5 and 5.5.1.
fn check_control(kind: Kind, is_final: bool, short: u8) -> Result<(), Violation> {
    if !is_final {
        Err(Violation::FragmentedControl)
    } else if short > 125 {
        Err(Violation::LongControl)
    } else if kind == Kind::Close && short == 1 {
        Err(Violation::HalfCloseCode)
    } else {
        Ok(())
    }
}

/// The payload's length and what follows it; `short` is its 7-bit form. Source: RFC 6455, section 5.2.
fn length(short: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, Violation> {
    match short {
        126 => {
            let Some((bytes, rest)) = rest.split_first_chunk() else { return Ok(None) };
            match u16::from_be_bytes(*bytes) {
                bytes @ 0..=125 => Err(Violation::LengthNotMinimal { bytes }),
                length => Ok(Some((length.into(), rest))),
            }
        }
        127 => {
            let Some((bytes, rest)) = rest.split_first_chunk() else { return Ok(None) };
            let length = u64::from_be_bytes(*bytes);
            match u16::try_from(length) {
                Ok(bytes) => Err(Violation::LengthNotMinimal { bytes }),
                Err(_) if length >> 63 != 0 => Err(Violation::LengthTopBit),
                Err(_) => Ok(Some((length, rest))),
            }
        }
        _ => Ok(Some((short.into(), rest))),
    }
}

/// `length`, if the message has room for it.
fn fitting(length: u64, begun_bytes: usize, message_bytes_max: usize) -> Result<usize, Violation> {
    let bytes = length.saturating_add(begun_bytes as u64);
    match usize::try_from(length) {
        Ok(length) if bytes <= message_bytes_max as u64 => Ok(length),
        _ => Err(Violation::TooBig { bytes }),
    }
}
