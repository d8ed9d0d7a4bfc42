//! RESP2, the protocol of Redis, without input or output: bytes in, replies out, and commands packed into bytes.
//!
//! Replies are read as they come, in any pieces. What is read is taken out of the buffer at once, but for a line or a
//! short text that is not there in whole, so the buffer never holds more than was last read into it, and nothing is
//! looked at twice.
//!
//! # What holds memory
//!
//! A text of [`COPIED_BELOW`] bytes or more that lies in the buffer in whole is a slice of it, so it keeps the whole
//! piece that was read; a shorter one is copied, for it may wait in the queue of a slow client and must not hold the
//! rest there. A long text that comes in pieces gets memory of its own, which grows with what has come of it: that it
//! was announced costs nothing. With reads of 16 KiB, a text never holds more than eight times its size.
//!
//! Source: <https://redis.io/docs/latest/develop/reference/protocol-spec/>, "RESP protocol description", without what
//! RESP3 adds.

use bytes::{Buf, BufMut, Bytes, BytesMut};

#[cfg(test)]
mod tests;

/// The longest text of a reply, bytes: what Redis itself has for `proto-max-bulk-len` unless told otherwise.
pub const BULK_BYTES_MAX: usize = 512 << 20;
/// The most elements of one array. `HGETALL` of a presence channel answers two for each of its users.
pub const ARRAY_LENGTH_MAX: usize = 16 << 20;
/// How deep arrays may be nested. The deepest that is asked for is `CLUSTER SLOTS`, with four.
pub const DEPTH_MAX: usize = 8;
/// The longest line, bytes: errors, numbers and lengths are lines. Redis cuts its errors long before.
pub const LINE_BYTES_MAX: usize = 64 << 10;
/// The most memory that one reply with all that is in it may take, bytes.
pub const REPLY_BYTES_MAX: usize = 1 << 30;
/// A shorter text is copied, see the module.
pub const COPIED_BELOW: usize = 2048;
/// How much memory an array or a long text gets before anything of it is there: elements, and bytes.
const ELEMENTS_FORESEEN: usize = 64;
const BYTES_FORESEEN: usize = 64 << 10;

/// What Redis says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`: a line.
    Simple(Bytes),
    /// `-WRONGPASS invalid ...`: a line that begins with a word in capitals.
    Error(Bytes),
    /// `:1`.
    Integer(i64),
    /// `$3` and a line with three bytes, of any kind.
    Bulk(Bytes),
    /// `$-1` or `*-1`: there is nothing.
    Nil,
    /// `*2` and two replies.
    Array(Vec<Reply>),
}

/// What is wrong with the bytes. The connection is of no use any more: where the next reply begins is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RespError {
    /// A reply begins with a byte that none begins with, as when something else than Redis answers.
    #[error("not the protocol of Redis: a reply begins with byte 0x{found:02x}")]
    Kind {
        /// The byte.
        found: u8,
    },
    /// A line, or a text, ends otherwise than with CR LF.
    #[error("not the protocol of Redis: no CR LF at the end of a line")]
    Ending,
    /// A number is none.
    #[error("not the protocol of Redis: a line that should be a number is not")]
    Number,
    /// A line does not end within [`LINE_BYTES_MAX`].
    #[error("a line of more than {LINE_BYTES_MAX} bytes")]
    LongLine,
    /// A text is longer than [`BULK_BYTES_MAX`].
    #[error("a text of {bytes} bytes, where {BULK_BYTES_MAX} are the most")]
    LongBulk {
        /// Its length.
        bytes: i64,
    },
    /// An array has more than [`ARRAY_LENGTH_MAX`] elements.
    #[error("an array of {length} elements, where {ARRAY_LENGTH_MAX} are the most")]
    LongArray {
        /// How many.
        length: i64,
    },
    /// Arrays are nested deeper than [`DEPTH_MAX`].
    #[error("arrays nested more than {DEPTH_MAX} deep")]
    Deep,
    /// A reply takes more than [`REPLY_BYTES_MAX`].
    #[error("a reply of more than {REPLY_BYTES_MAX} bytes")]
    LongReply,
}

/// Reads replies. One for each connection, for its whole life.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The arrays that are not whole yet, the outermost first; at most [`DEPTH_MAX`].
    open: Vec<Open>,
    /// The text that is not whole yet, its length line read.
    bulk: Option<Bulk>,
    /// So many bytes at the front of the buffer hold no line feed.
    searched: usize,
    /// What the reply takes so far.
    taken: usize,
}

/// An array that is not whole yet.
#[derive(Debug)]
struct Open {
    items: Vec<Reply>,
    /// Not 0.
    missing: usize,
}

/// A text that is not whole yet.
#[derive(Debug)]
struct Bulk {
    bytes: usize,
    /// What was taken out of the buffer of it: nothing as long as the whole may still be there at once.
    gathered: Vec<u8>,
}

/// What became of an attempt to read on.
enum Step {
    /// More bytes are needed.
    Wait,
    /// The beginning of something.
    Begun,
    /// A whole reply, or element of one.
    Whole(Reply),
}

impl Decoder {
    /// At the beginning of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one reply out of `buffer`, as far as it is there; `None`: to be called again when more bytes were added
    /// at the end of the same buffer.
    ///
    /// Errors: [`RespError`]; after one it must not be called again.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Reply>, RespError> {
        loop {
            match self.step(buffer)? {
                Step::Wait => return Ok(None),
                Step::Begun => {}
                Step::Whole(reply) => {
                    if let Some(whole) = self.put(reply) {
                        self.taken = 0;
                        return Ok(Some(whole));
                    }
                }
            }
        }
    }

    /// Whether nothing of a further reply has been taken out of the buffer.
    pub fn is_between_replies(&self) -> bool {
        self.open.is_empty() && self.bulk.is_none()
    }

    /// Puts an element in its place. The whole reply, if it was the last one missing.
    fn put(&mut self, mut reply: Reply) -> Option<Reply> {
        while let Some(mut innermost) = self.open.pop() {
            innermost.items.push(reply);
            innermost.missing -= 1;
            if innermost.missing > 0 {
                self.open.push(innermost);
                return None;
            }
            reply = Reply::Array(innermost.items);
        }
        Some(reply)
    }

    fn step(&mut self, buffer: &mut BytesMut) -> Result<Step, RespError> {
        if let Some(bulk) = self.bulk.take() {
            return self.go_on(bulk, buffer);
        }
        let Some((kind, bytes)) = self.line(buffer)? else { return Ok(Step::Wait) };
        self.take(size_of::<Reply>())?;
        let ending = b"\r\n".len();
        if kind == b'+' || kind == b'-' {
            self.take(bytes)?;
            buffer.advance(1);
            let line = cut(buffer, bytes);
            buffer.advance(ending);
            return Ok(Step::Whole(if kind == b'+' { Reply::Simple(line) } else { Reply::Error(line) }));
        }
        let number = number(buffer.get(1..=bytes).unwrap_or_default())?;
        buffer.advance(1 + bytes + ending);
        match kind {
            b'$' => self.begin_text(buffer, number),
            b'*' => self.begin_array(number),
            _ => Ok(Step::Whole(Reply::Integer(number))),
        }
    }

    /// The kind of the line that the buffer begins with, and how many bytes stand between its kind and its end.
    fn line(&mut self, buffer: &BytesMut) -> Result<Option<(u8, usize)>, RespError> {
        let Some(&kind) = buffer.first() else { return Ok(None) };
        if !b"+-:$*".contains(&kind) {
            return Err(RespError::Kind { found: kind });
        }
        let rest = buffer.get(self.searched..).unwrap_or_default();
        let Some(end) = rest.iter().position(|byte| *byte == b'\n').map(|at| self.searched + at) else {
            self.searched = buffer.len();
            return if self.searched > LINE_BYTES_MAX { Err(RespError::LongLine) } else { Ok(None) };
        };
        self.searched = 0;
        if end > LINE_BYTES_MAX {
            return Err(RespError::LongLine);
        }
        let is_ended = end >= 2 && buffer.get(end - 1) == Some(&b'\r');
        if is_ended { Ok(Some((kind, end - 2))) } else { Err(RespError::Ending) }
    }

    fn begin_text(&mut self, buffer: &mut BytesMut, announced: i64) -> Result<Step, RespError> {
        if announced == -1 {
            return Ok(Step::Whole(Reply::Nil));
        }
        let too_long = RespError::LongBulk { bytes: announced };
        let bytes = usize::try_from(announced).map_err(|_| too_long)?;
        if bytes > BULK_BYTES_MAX {
            return Err(too_long);
        }
        self.take(bytes)?;
        let bulk = Bulk { bytes, gathered: Vec::new() };
        self.go_on(bulk, buffer)
    }

    fn begin_array(&mut self, announced: i64) -> Result<Step, RespError> {
        let too_long = RespError::LongArray { length: announced };
        match announced {
            -1 => return Ok(Step::Whole(Reply::Nil)),
            0 => return Ok(Step::Whole(Reply::Array(Vec::new()))),
            _ => {}
        }
        let length = usize::try_from(announced).map_err(|_| too_long)?;
        if length > ARRAY_LENGTH_MAX {
            return Err(too_long);
        }
        if self.open.len() == DEPTH_MAX {
            return Err(RespError::Deep);
        }
        let items = Vec::with_capacity(length.min(ELEMENTS_FORESEEN));
        self.open.push(Open { items, missing: length });
        Ok(Step::Begun)
    }

    /// Goes on with a text.
    fn go_on(&mut self, mut bulk: Bulk, buffer: &mut BytesMut) -> Result<Step, RespError> {
        let text = if bulk.gathered.is_empty() && buffer.len() >= bulk.bytes + 2 {
            cut(buffer, bulk.bytes)
        } else {
            bulk.gather(buffer);
            if !bulk.is_whole(buffer) {
                self.bulk = Some(bulk);
                return Ok(Step::Wait);
            }
            Bytes::from(bulk.gathered)
        };
        if !buffer.starts_with(b"\r\n") {
            return Err(RespError::Ending);
        }
        buffer.advance(2);
        Ok(Step::Whole(Reply::Bulk(text)))
    }

    /// Counts what the reply takes.
    fn take(&mut self, bytes: usize) -> Result<(), RespError> {
        self.taken += bytes;
        if self.taken > REPLY_BYTES_MAX { Err(RespError::LongReply) } else { Ok(()) }
    }
}

impl Bulk {
    /// Takes what is there of a long text out of the buffer. A short one stays there until it is whole.
    fn gather(&mut self, buffer: &mut BytesMut) {
        if self.bytes < COPIED_BELOW {
            return;
        }
        let missing = self.bytes - self.gathered.len();
        let there = missing.min(buffer.len());
        if self.gathered.capacity() - self.gathered.len() < there {
            // Doubled, but not beyond what was announced, so that nothing is left over in the end.
            let more = self.gathered.len().max(BYTES_FORESEEN).max(there).min(missing);
            self.gathered.reserve_exact(more);
        }
        self.gathered.extend_from_slice(buffer.get(..there).unwrap_or_default());
        buffer.advance(there);
    }

    /// Whether all of a text that is gathered is there, and its line's end in the buffer.
    fn is_whole(&self, buffer: &BytesMut) -> bool {
        self.bytes >= COPIED_BELOW && self.gathered.len() == self.bytes && buffer.len() >= 2
    }
}

/// Takes so many bytes, which are there, from the front of the buffer, in the way that the module describes.
fn cut(buffer: &mut BytesMut, bytes: usize) -> Bytes {
    if bytes >= COPIED_BELOW {
        return buffer.split_to(bytes).freeze();
    }
    let text = buffer.get(..bytes).unwrap_or_default();
    let copy = match text {
        // With one of these begins every message on a topic.
        b"message" => Bytes::from_static(b"message"),
        b"smessage" => Bytes::from_static(b"smessage"),
        _ => Bytes::copy_from_slice(text),
    };
    buffer.advance(bytes);
    copy
}

fn number(line: &[u8]) -> Result<i64, RespError> {
    let (is_negative, digits) = match line {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    // Downwards, for there is one number more below zero.
    let negated = digits.iter().try_fold(0_i64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_sub(digit)
    });
    let number = negated.and_then(|value| if is_negative { Some(value) } else { value.checked_neg() });
    number.filter(|_| !digits.is_empty()).ok_or(RespError::Number)
}

/// Puts a command behind what is in `out`: an array of texts, the first of which is its name.
pub fn pack(out: &mut BytesMut, words: &[&[u8]]) {
    // Of each word: its kind, at most 20 digits and two line ends. That is more than is needed, but asked for once.
    out.reserve(25 * (words.len() + 1) + words.iter().map(|word| word.len()).sum::<usize>());
    announce(out, b'*', words.len());
    for word in words {
        announce(out, b'$', word.len());
        out.put_slice(word);
        out.put_slice(b"\r\n");
    }
}

/// A kind, a length and the end of the line.
fn announce(out: &mut BytesMut, kind: u8, mut length: usize) {
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for place in digits.iter_mut().rev() {
        // Below ten, so it fits.
        *place += (length % 10) as u8;
        length /= 10;
        used += 1;
        if length == 0 {
            break;
        }
    }
    out.put_u8(kind);
    out.put_slice(digits.get(digits.len() - used..).unwrap_or_default());
    out.put_slice(b"\r\n");
}
