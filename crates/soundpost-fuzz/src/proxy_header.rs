//! PROXY headers of both versions, which come before anything else a trusted proxy sends.

use std::net::IpAddr;

use soundpost_server::proxy::header::{BYTES_MAX, Progress, Speaker, read};

use crate::Outcome;

/// The input is the beginning of a connection.
pub fn proxy_header(data: &[u8]) -> Outcome {
    let result = read(data);
    let used = match &result {
        Ok(Progress::Whole { bytes, .. }) => *bytes,
        Ok(Progress::Partial) => data.len() + 1,
        Err(error) => {
            assert!(!error.to_string().contains('\n'), "{error:?}");
            // Whatever follows makes it no better.
            assert_eq!(read(&[data, b"\r\n"].concat()), result, "{data:x?}");
            return Outcome::Refused;
        }
    };
    assert!(used <= BYTES_MAX, "{data:x?}");
    // However it is cut, it is partial up to its last byte, and then what it is in one piece.
    for end in 0..used.min(data.len()) {
        assert_eq!(read(data.get(..end).unwrap_or_default()), Ok(Progress::Partial), "{data:x?} {end}");
    }
    if let Ok(Progress::Whole { speaker, bytes }) = result {
        let alone = data.get(..bytes).unwrap_or_default();
        assert_eq!(read(alone), result, "{data:x?}");
        if let Speaker::Client { address, is_tls } = speaker {
            assert_eq!(address, address.to_canonical(), "{data:x?}");
            again(address, is_tls);
        }
    }
    Outcome::of(&result)
}

/// The client comes back from headers written for it.
fn again(address: IpAddr, is_tls: bool) {
    let (word, family, source) = match address {
        IpAddr::V4(address) => ("TCP4", 0x11, address.octets().to_vec()),
        IpAddr::V6(address) => ("TCP6", 0x21, address.octets().to_vec()),
    };
    let line = format!("PROXY {word} {address} {address} 1 65535\r\n");
    let tls = if is_tls { &[0x20, 0, 5, 1, 0, 0, 0, 0][..] } else { &[] };
    let said = [&source[..], &source, &[0, 1, 0xff, 0xff], tls].concat();
    let length = u8::try_from(said.len()).unwrap_or(u8::MAX);
    let binary = [&b"\r\n\r\n\0\r\nQUIT\n\x21"[..], &[family, 0, length], &said].concat();
    for (header, is_tls) in [(line.into_bytes(), false), (binary, is_tls)] {
        let speaker = Speaker::Client { address, is_tls };
        assert_eq!(read(&header), Ok(Progress::Whole { speaker, bytes: header.len() }), "{address}");
    }
}
