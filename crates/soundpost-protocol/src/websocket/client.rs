//! Frames a client sends: masked, each for one socket.

use super::{Opcode, mask};

/// The longest header of a masked frame: two bytes, a length of eight and the mask.
const HEADER_BYTES_MAX: usize = 14;

/// One final, masked frame, ready for the socket. `mask` must be unpredictable to whoever wrote the payload.
pub fn client_frame(opcode: Opcode, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES_MAX + payload.len());
    out.push(0x80 | opcode.bits());
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    let header_bytes = out.len();
    out.extend_from_slice(payload);
    mask::apply(out.get_mut(header_bytes..).unwrap_or_default(), mask, 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 6455, section 5.7: a single-frame masked text message.
        let frame = client_frame(Opcode::Text, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(frame, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn the_header_says_the_length_in_its_shortest_form() {
        for (length, header) in [
            (0, &[0x82, 0x80][..]),
            (125, &[0x82, 0xfd]),
            (126, &[0x82, 0xfe, 0, 126]),
            (65_535, &[0x82, 0xfe, 0xff, 0xff]),
            (65_536, &[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let frame = client_frame(Opcode::Binary, &vec![b'x'; length], [0; 4]);
            assert_eq!(frame[..header.len()], *header, "{length}");
            assert_eq!(frame.len(), header.len() + 4 + length, "{length}");
        }
    }
}
