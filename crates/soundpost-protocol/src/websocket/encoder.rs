//! Frames the server sends: whole, unmasked, ready to be written to any number of sockets.

use bytes::Bytes;

use super::Opcode;

/// The longest header of an unmasked frame: two bytes and a length of eight.
const HEADER_BYTES_MAX: usize = 10;

/// One unmasked WebSocket frame, header and payload, ready for the socket. Clones share the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// A text frame whose payload `write` appends. `payload_hint`: bytes expected, to allocate once.
    pub fn text(payload_hint: usize, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        Self::build(Opcode::Text, payload_hint, write)
    }

    /// A binary frame. The protocol has none; the echo server for the Autobahn test suite sends them.
    pub fn binary(payload: &[u8]) -> Self {
        Self::build(Opcode::Binary, payload.len(), |out| out.extend_from_slice(payload))
    }

    /// A pong with the ping's payload.
    pub fn pong(payload: &[u8]) -> Self {
        Self::build(Opcode::Pong, payload.len(), |out| out.extend_from_slice(payload))
    }

    /// An empty ping.
    pub fn ping() -> Self {
        Self::build(Opcode::Ping, 0, |_| {})
    }

    /// A close frame; without a code it is empty. Text beyond what a control frame holds is cut at a character.
    pub fn close(reason: Option<(u16, &str)>) -> Self {
        const TEXT_BYTES_MAX: usize = 123;
        Self::build(Opcode::Close, 2, |out| {
            if let Some((code, text)) = reason {
                out.extend_from_slice(&code.to_be_bytes());
                let end = text.floor_char_boundary(TEXT_BYTES_MAX);
                out.extend_from_slice(text.get(..end).unwrap_or_default().as_bytes());
            }
        })
    }

    /// A text frame that another node has built. `None` unless it is whole, unmasked, not compressed, and its header
    /// says the length of the rest in the shortest form.
    pub fn received(bytes: Bytes) -> Option<Self> {
        let length = match *bytes.get(1)? {
            length @ 0..=125 => u64::from(length),
            126 => {
                let length = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
                u64::from(length).checked_sub(126)? + 126
            }
            127 => {
                let length = u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
                length.checked_sub(0x1_0000)? + 0x1_0000
            }
            _ => return None,
        };
        let frame = Self(bytes);
        let is_text = frame.0.first() == Some(&(0x80 | Opcode::Text.bits()));
        (is_text && frame.payload().len() as u64 == length).then_some(frame)
    }

    fn build(opcode: Opcode, payload_hint: usize, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut out = Vec::with_capacity(HEADER_BYTES_MAX + payload_hint);
        out.extend_from_slice(&[0; HEADER_BYTES_MAX]);
        write(&mut out);
        let length = out.len().saturating_sub(HEADER_BYTES_MAX);
        // The header is written against the payload, so that no byte of it is moved.
        let head = out.first_chunk_mut::<HEADER_BYTES_MAX>();
        let first = 0x80 | opcode.bits();
        let start = match (head, length) {
            (Some(head), 0..=125) => {
                head[8..].copy_from_slice(&[first, length as u8]);
                8
            }
            (Some(head), 126..=0xffff) => {
                let [a, b] = (length as u16).to_be_bytes();
                head[6..].copy_from_slice(&[first, 126, a, b]);
                6
            }
            (Some(head), _) => {
                head[..2].copy_from_slice(&[first, 127]);
                head[2..].copy_from_slice(&(length as u64).to_be_bytes());
                0
            }
            (None, _) => 0,
        };
        Self(Bytes::from(out).slice(start..))
    }

    /// Header and payload.
    pub const fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The payload alone.
    pub fn payload(&self) -> &[u8] {
        let header = match self.0.get(1) {
            Some(127) => 10,
            Some(126) => 4,
            _ => 2,
        };
        self.0.get(header..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_says_the_length_in_its_shortest_form() {
        for (length, header) in [
            (0, &[0x81, 0][..]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 0xff, 0xff]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let frame = Frame::text(length, |out| out.resize(out.len() + length, b'x'));
            assert_eq!(frame.bytes()[..header.len()], *header, "{length}");
            assert_eq!(frame.payload(), vec![b'x'; length], "{length}");
        }
    }

    #[test]
    fn a_frame_of_another_node_is_taken_whole_or_not_at_all() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let frame = Frame::text(length, |out| out.resize(out.len() + length, b'x'));
            assert_eq!(Frame::received(frame.bytes().clone()), Some(frame.clone()), "{length}");
            assert_eq!(Frame::received(frame.bytes().slice(..frame.bytes().len() - 1)), None, "{length}");
            let longer = [frame.bytes(), &b"x"[..]].concat();
            assert_eq!(Frame::received(longer.into()), None, "{length}");
        }
        for bytes in [
            &[][..],
            &[0x81],
            &[0x82, 0],            // binary
            &[0x01, 0],            // a fragment
            &[0xc1, 0],            // compressed
            &[0x81, 0x80],         // masked
            &[0x81, 126, 0, 1, 0], // longer than its length needs
            &[0x81, 127, 0, 0, 0, 0, 0, 0, 0, 1, 0],
            &[0x81, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(Frame::received(Bytes::copy_from_slice(bytes)), None, "{bytes:?}");
        }
    }

    #[test]
    fn frames_of_each_kind() {
        assert_eq!(&Frame::binary(b"hi").bytes()[..], [0x82, 2, b'h', b'i']);
        assert_eq!(&Frame::ping().bytes()[..], [0x89, 0]);
        assert_eq!(&Frame::pong(b"hi").bytes()[..], [0x8a, 2, b'h', b'i']);
        assert_eq!(&Frame::close(None).bytes()[..], [0x88, 0]);
        assert_eq!(&Frame::close(Some((4200, "bye"))).bytes()[..], [0x88, 5, 0x10, 0x68, b'b', b'y', b'e']);
        assert_eq!(Frame::close(Some((1000, &"é".repeat(100)))).payload().len(), 2 + 122);
    }
}
