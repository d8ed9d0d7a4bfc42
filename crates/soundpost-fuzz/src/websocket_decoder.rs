//! The WebSocket decoder: bytes in, cut anywhere, messages or a violation out.

use soundpost_protocol::websocket::{Decoder, Message, Role, Violation};

use crate::Outcome;

/// The longest of a header (14 bytes) and a control frame's payload, which may be kept behind a message.
const TAIL_BYTES_MAX: usize = 125;

/// A [`Message`] that outlives its decoder.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<Message<'_>> for Heard {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.to_owned()),
            Message::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Message::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Message::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Message::Close(reason) => Self::Close(reason.map(|(code, text)| (code, text.to_owned()))),
        }
    }
}

/// The first byte is the limit, in steps of 8 bytes; the second says how the third variant is cut; the rest is the
/// stream. Decoded whole, byte by byte and cut pseudo-randomly, as a server and as a client.
pub fn websocket_decoder(data: &[u8]) -> Outcome {
    let Some(([limit, cuts], stream)) = data.split_first_chunk() else { return Outcome::Refused };
    let bytes_max = usize::from(*limit) * 8;
    let mut outcome = Outcome::Refused;
    for role in [Role::Server, Role::Client] {
        let whole = decode(role, bytes_max, [stream]);
        assert_eq!(decode(role, bytes_max, stream.chunks(1)), whole, "byte by byte");
        assert_eq!(decode(role, bytes_max, Cuts { rest: stream, state: *cuts }), whole, "cut by {cuts}");
        let (heard, end) = whole;
        if !heard.is_empty() && end.is_ok() {
            outcome = Outcome::Accepted;
        }
        for message in &heard {
            check(message, bytes_max);
        }
        let closes = heard.iter().position(|message| matches!(message, Heard::Close(_)));
        assert!(
            closes.is_none_or(|at| at + 1 == heard.len() && end.is_ok()),
            "close is last: {heard:?} {end:?}"
        );
    }
    outcome
}

fn check(message: &Heard, bytes_max: usize) {
    let (bytes, limit) = match message {
        Heard::Text(text) => (text.len(), bytes_max),
        Heard::Binary(bytes) => (bytes.len(), bytes_max),
        Heard::Ping(bytes) | Heard::Pong(bytes) => (bytes.len(), 125),
        Heard::Close(reason) => (reason.as_ref().map_or(0, |(_, text)| text.len()), 123),
    };
    assert!(bytes <= limit, "{bytes} of {limit}: {message:?}");
}

fn decode<'a>(
    role: Role,
    bytes_max: usize,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Heard>, Result<(), Violation>) {
    let (mut decoder, mut heard) = (Decoder::new(role), Vec::new());
    for part in parts {
        let mut part = part.to_vec();
        let mut rest = &mut part[..];
        loop {
            let before = rest.len();
            match decoder.next(&mut rest, bytes_max) {
                Ok(Some(message)) => heard.push(message.into()),
                Ok(None) => break assert!(rest.is_empty(), "all input is used up"),
                Err(violation) => {
                    assert!(rest.is_empty(), "what follows a violation is dropped");
                    assert_eq!(decoder.next(&mut rest, bytes_max), Err(violation), "a violation stays");
                    assert_eq!(decoder.kept_bytes(), 0, "a violation frees what was kept");
                    return (heard, Err(violation));
                }
            }
            assert!(rest.len() < before || before == 0, "a message takes something");
        }
        // A buffer grows by doubling.
        assert!(decoder.kept_bytes() <= 2 * (bytes_max + TAIL_BYTES_MAX) + 8, "{}", decoder.kept_bytes());
    }
    (heard, Ok(()))
}

/// The stream in pieces of 1 to 32 bytes.
struct Cuts<'a> {
    rest: &'a [u8],
    state: u8,
}

impl<'a> Iterator for Cuts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.state = self.state.wrapping_mul(141).wrapping_add(3);
        let bytes = usize::from(self.state >> 3) + 1;
        let (piece, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, &[]));
        self.rest = rest;
        Some(piece).filter(|piece| !piece.is_empty())
    }
}
