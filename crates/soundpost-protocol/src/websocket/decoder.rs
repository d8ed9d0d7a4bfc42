//! From the bytes of a socket to messages, as strict as RFC 6455 asks.
//!
//! Knows no socket: bytes come in as they were read, cut anywhere. A whole frame is decoded where it lies; only what
//! is cut or fragmented is kept, and never more of it than arrived.

use std::mem;

use super::{
    Violation,
    header::{Begun, Expected, Header, Kind, Role},
    mask,
};

/// Fragments of one message, the last not counted, that may hold nothing: they cost the peer bytes and the message
/// none, so `message_bytes_max` does not bound them.
pub const EMPTY_FRAGMENTS_MAX: u16 = 1024;

/// What one frame, or all fragments of a message, said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// Asks for a pong with the same payload, at most 125 bytes.
    Ping(&'a [u8]),
    /// Answers a ping, or none; at most 125 bytes.
    Pong(&'a [u8]),
    /// Nothing follows; with the peer's code and reason if it gave them.
    Close(Option<(u16, &'a str)>),
}

impl<'a> Message<'a> {
    fn read(kind: Kind, payload: &'a [u8]) -> Result<Self, Violation> {
        Ok(match kind {
            Kind::Text => Self::Text(text(payload)?),
            Kind::Binary => Self::Binary(payload),
            Kind::Ping => Self::Ping(payload),
            Kind::Pong => Self::Pong(payload),
            Kind::Close => Self::Close(match payload.split_first_chunk() {
                Some((code, reason)) => Some((close_code(u16::from_be_bytes(*code))?, text(reason)?)),
                None => None,
            }),
        })
    }
}

fn text(bytes: &[u8]) -> Result<&str, Violation> {
    str::from_utf8(bytes).map_err(|_| Violation::NotUtf8)
}

/// Source: RFC 6455, section 7.4, and IANA's WebSocket Close Code Number Registry: 1004 means nothing, 1005, 1006
/// and 1015 never stand in a frame, below 3000 the rest is unassigned.
const fn close_code(code: u16) -> Result<u16, Violation> {
    match code {
        1000..=1003 | 1007..=1014 | 3000..=4999 => Ok(code),
        _ => Err(Violation::CloseCode { code }),
    }
}

/// Decodes what one peer sends. Between messages it holds no memory of its own.
#[derive(Debug)]
pub struct Decoder {
    status: Status,
    partial: Option<Box<Partial>>,
}

#[derive(Clone, Copy, Debug)]
enum Status {
    Open(Role),
    Closed,
    Failed(Violation),
}

/// A complete frame that ends a message, or is one.
enum Found<'i> {
    /// Its payload lay whole in the input.
    InPlace(Kind, &'i [u8]),
    /// The decoder's own buffer ends with it.
    Buffered(Kind),
}

impl Decoder {
    /// A decoder at the start of a stream; `role` is that of the party that decodes.
    pub const fn new(role: Role) -> Self {
        Self { status: Status::Open(role), partial: None }
    }

    /// Takes from the front of `input` what makes the next message, unmasking in place.
    ///
    /// `None`: all input is used up and more is needed. After a close message what follows is ignored; after a
    /// violation, which also empties `input`, every call returns that violation. What a message was gathered in is
    /// freed by the next call, so call until `None`:
    ///
    /// ```
    /// # use soundpost_protocol::websocket::{Decoder, Message, Opcode, Role, Violation, client_frame};
    /// # let mut input = client_frame(Opcode::Text, b"Hello", [1, 2, 3, 4]);
    /// let mut decoder = Decoder::new(Role::Server);
    /// let mut rest = &mut input[..];
    /// while let Some(message) = decoder.next(&mut rest, 10_000)? {
    ///     assert_eq!(message, Message::Text("Hello"));
    /// }
    /// # Ok::<(), Violation>(())
    /// ```
    ///
    /// `message_bytes_max` bounds the payload of a message over all its fragments; a header that announces more fails
    /// before any of it is kept. Control frames do not count.
    pub fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i mut [u8],
        message_bytes_max: usize,
    ) -> Result<Option<Message<'a>>, Violation> {
        let role = match self.status {
            Status::Open(role) => role,
            Status::Closed | Status::Failed(_) => return self.refuse(input),
        };
        let found = match self.advance(role, input, message_bytes_max) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(violation) => {
                self.status = Status::Failed(violation);
                return self.refuse(input);
            }
        };
        let (kind, payload) = match found {
            Found::InPlace(kind, payload) => (kind, payload),
            Found::Buffered(kind) => {
                (kind, self.partial.as_ref().map_or(&[][..], |partial| partial.payload(kind)))
            }
        };
        let message = Message::read(kind, payload);
        match message {
            Ok(Message::Close(_)) => self.status = Status::Closed,
            Ok(Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Pong(_)) => {}
            Err(violation) => {
                self.status = Status::Failed(violation);
                *input = &mut [];
            }
        }
        message.map(Some)
    }

    /// Bytes of memory held for what is cut or fragmented: none between messages, and never more than twice what
    /// arrived of the message and one control frame or header.
    pub fn kept_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.buffer.capacity())
    }

    /// Drops what is kept and what comes in: nothing is decoded any more.
    fn refuse(&mut self, input: &mut &mut [u8]) -> Result<Option<Message<'static>>, Violation> {
        self.partial = None;
        *input = &mut [];
        match self.status {
            Status::Failed(violation) => Err(violation),
            Status::Open(_) | Status::Closed => Ok(None),
        }
    }

    /// Goes on to the frame that completes the next message.
    fn advance<'i>(
        &mut self,
        role: Role,
        input: &mut &'i mut [u8],
        message_bytes_max: usize,
    ) -> Result<Option<Found<'i>>, Violation> {
        if let Some(partial) = &mut self.partial {
            partial.forget_lent();
        }
        loop {
            if let Some(partial) = &mut self.partial {
                if let Some(frame) = partial.frame {
                    if !partial.take_payload(frame, input)? {
                        return Ok(None);
                    }
                    if partial.end_frame(frame)? {
                        return Ok(Some(Found::Buffered(frame.kind)));
                    }
                } else if partial.is_empty() {
                    self.partial = None;
                }
            }
            if input.is_empty() {
                return Ok(None);
            }
            let Some(frame) = self.take_header(role, input, message_bytes_max)? else { return Ok(None) };
            let begun = self.partial.as_ref().is_some_and(|partial| partial.begun.is_some());
            if frame.is_final && (frame.kind.is_control() || !begun) && frame.payload_bytes <= input.len() {
                let payload = take_front(input, frame.payload_bytes);
                if let Some(mask) = frame.mask {
                    mask::apply(payload, mask, 0);
                }
                return Ok(Some(Found::InPlace(frame.kind, payload)));
            }
            self.partial.get_or_insert_default().frame = Some(frame);
        }
    }

    /// The next header, from what is kept of it and `input`; `None`: all input is now kept and it is not whole yet.
    fn take_header(
        &mut self,
        role: Role,
        input: &mut &mut [u8],
        message_bytes_max: usize,
    ) -> Result<Option<Header>, Violation> {
        let begun = self.partial.as_ref().and_then(|partial| partial.begun);
        let expected = Expected { role, begun, message_bytes_max };
        if self.partial.as_ref().is_none_or(|partial| partial.tail().is_empty())
            && let Some((header, header_bytes)) = Header::parse(input, expected)?
        {
            take_front(input, header_bytes);
            return Ok(Some(header));
        }
        let partial = self.partial.get_or_insert_default();
        // At most 14 times.
        while let [byte] = take_front(input, 1) {
            partial.buffer.push(*byte);
            if let Some((header, _)) = Header::parse(partial.tail(), expected)? {
                partial.cut_tail();
                return Ok(Some(header));
            }
        }
        Ok(None)
    }
}

/// Takes `bytes` from the front, or all there is.
fn take_front<'i>(input: &mut &'i mut [u8], bytes: usize) -> &'i mut [u8] {
    let all = mem::take(input);
    let (front, rest) = all.split_at_mut(bytes.min(all.len()));
    *input = rest;
    front
}

/// What is kept from one input to the next.
#[derive(Debug, Default)]
struct Partial {
    /// The unmasked payload of the message begun, and behind it the tail: the bytes of a cut header, or the unmasked
    /// payload of `frame`. Grows with what arrives, whatever a header announces.
    buffer: Vec<u8>,
    /// The message whose fragments are gathered.
    begun: Option<Begun>,
    /// The frame whose payload is arriving.
    frame: Option<Header>,
    /// Bytes of `buffer` known to be whole characters, if it is text.
    text_bytes: usize,
    /// Fragments of the message that held nothing.
    empty_fragments: u16,
    /// What the last call lent from `buffer`.
    lent: Option<Kind>,
}

impl Partial {
    fn begun_bytes(&self) -> usize {
        self.begun.map_or(0, |begun| begun.bytes)
    }

    fn tail(&self) -> &[u8] {
        self.buffer.get(self.begun_bytes()..).unwrap_or_default()
    }

    fn cut_tail(&mut self) {
        self.buffer.truncate(self.begun_bytes());
    }

    /// Whether nothing is under way.
    fn is_empty(&self) -> bool {
        self.begun.is_none() && self.frame.is_none() && self.buffer.is_empty()
    }

    /// What the frame that just ended makes: a control frame is the tail, a message is everything.
    fn payload(&self, kind: Kind) -> &[u8] {
        if kind.is_control() { self.tail() } else { &self.buffer }
    }

    /// The message of the last call is gone: its bytes go too.
    fn forget_lent(&mut self) {
        match self.lent.take() {
            None => {}
            Some(kind) if kind.is_control() => self.cut_tail(),
            Some(_) => *self = Self::default(),
        }
    }

    /// Keeps what `input` has of the frame's payload and says whether that was all of it.
    fn take_payload(&mut self, frame: Header, input: &mut &mut [u8]) -> Result<bool, Violation> {
        let offset = self.tail().len();
        let part = take_front(input, frame.payload_bytes.saturating_sub(offset));
        if let Some(mask) = frame.mask {
            mask::apply(part, mask, offset);
        }
        self.buffer.extend_from_slice(part);
        if frame.kind == Kind::Text {
            self.check_text()?;
        }
        Ok(self.tail().len() == frame.payload_bytes)
    }

    /// Refuses text at its first wrong byte; a character may still lack its end.
    fn check_text(&mut self) -> Result<(), Violation> {
        match str::from_utf8(self.buffer.get(self.text_bytes..).unwrap_or_default()) {
            Ok(text) => self.text_bytes += text.len(),
            Err(error) if error.error_len().is_none() => self.text_bytes += error.valid_up_to(),
            Err(_) => return Err(Violation::NotUtf8),
        }
        Ok(())
    }

    /// The payload of `frame` is all there. Says whether that makes a message, which is then about to be lent.
    fn end_frame(&mut self, frame: Header) -> Result<bool, Violation> {
        self.frame = None;
        if frame.is_final {
            self.lent = Some(frame.kind);
            return Ok(true);
        }
        if frame.payload_bytes == 0 {
            self.empty_fragments += 1;
            if self.empty_fragments > EMPTY_FRAGMENTS_MAX {
                return Err(Violation::EmptyFragments);
            }
        }
        self.begun = Some(Begun { kind: frame.kind, bytes: self.buffer.len() });
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
