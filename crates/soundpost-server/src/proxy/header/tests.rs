use proptest::prelude::*;

use super::*;

fn client(address: &str, is_tls: bool) -> Speaker {
    Speaker::Client { address: address.parse().unwrap(), is_tls }
}

/// A header of version 2.
fn binary(version_and_command: u8, family: u8, said: &[u8]) -> Vec<u8> {
    let length = u16::try_from(said.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[version_and_command, family], &length, said].concat()
}

const V4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0x01, 0xbb];

fn v6() -> Vec<u8> {
    let source: Ipv6Addr = "2001:db8::1".parse().unwrap();
    [&source.octets()[..], &[0; 16], &[0x12, 0x34, 0x01, 0xbb]].concat()
}

/// An addition: kind, length, value.
fn addition(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
}

#[test]
fn lines_of_version_1_name_the_client() {
    let longest = "PROXY TCP6 ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n";
    let full = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let longest = longest.replace("ffff:f...f:ffff", full);
    let unknown = Speaker::Unknown { is_tls: false };
    for (line, speaker) in [
        ("PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\n", client("192.0.2.1", false)),
        ("PROXY TCP6 2001:db8::1 ::1 4711 443\r\n", client("2001:db8::1", false)),
        ("PROXY TCP6 ::ffff:192.0.2.1 ::1 4711 443\r\n", client("192.0.2.1", false)),
        (&longest, client(full, false)),
        ("PROXY UNKNOWN\r\n", unknown),
        ("PROXY UNKNOWN ffff::1 whatever 1 2 3\r\n", unknown),
    ] {
        let whole = Progress::Whole { speaker, bytes: line.len() };
        assert_eq!(read(line.as_bytes()), Ok(whole), "{line:?}");
        assert_eq!(read(format!("{line}GET / HTTP/1.1\r\n").as_bytes()), Ok(whole), "{line:?}");
        for end in 0..line.len() {
            assert_eq!(read(&line.as_bytes()[..end]), Ok(Progress::Partial), "{line:?} {end}");
        }
    }
}

#[test]
fn what_is_no_line_of_version_1_is_refused() {
    let long = format!("PROXY UNKNOWN {}", "x".repeat(93));
    for (line, error) in [
        ("GET /up HTTP/1.1\r\n", Malformed::Absent),
        ("\x16\x03\x01", Malformed::Absent),
        ("PROXYTCP4", Malformed::Absent),
        ("proxy TCP4", Malformed::Absent),
        ("PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\n", Malformed::Words),
        ("PROXY TCP4 192.0.2.1 10.0.0.1 4711\r\n", Malformed::Words),
        ("PROXY TCP4 192.0.2.1 10.0.0.1 4711 443 \r\n", Malformed::Words),
        ("PROXY TCP4 192.0.2.1 10.0.0.1 4711 65536\r\n", Malformed::Words),
        ("PROXY TCP4 192.0.2.1 10.0.0.1 +1 443\r\n", Malformed::Words),
        ("PROXY TCP4 192.0.2.256 10.0.0.1 4711 443\r\n", Malformed::Words),
        ("PROXY TCP4 192.0.2.1 nobody 4711 443\r\n", Malformed::Words),
        ("PROXY TCP4 2001:db8::1 ::1 4711 443\r\n", Malformed::Words),
        ("PROXY TCP6 192.0.2.1 10.0.0.1 4711 443\r\n", Malformed::Words),
        ("PROXY  TCP4 192.0.2.1 10.0.0.1 4711 443\r\n", Malformed::Words),
        ("PROXY UDP4 192.0.2.1 10.0.0.1 4711 443\r\n", Malformed::Words),
        ("PROXY \r\n", Malformed::Words),
        (&long, Malformed::Line),
    ] {
        assert_eq!(read(line.as_bytes()), Err(error), "{line:?}");
    }
    assert_eq!(read(&long.as_bytes()[..106]), Ok(Progress::Partial));
    assert_eq!(read(b"PROXY TCP4 \xff\r\n"), Err(Malformed::Words));
}

#[test]
fn headers_of_version_2_name_the_client_and_whether_it_speaks_tls() {
    let tls = addition(0x20, &[0x01, 0, 0, 0, 0, 0x21, 0, 3, b'1', b'.', b'3']);
    let plain = addition(0x20, &[0x02, 0, 0, 0, 0]);
    let aws = addition(0xea, &[1, b'v', b'p', b'c']);
    let unknown = |is_tls| Speaker::Unknown { is_tls };
    for (header, speaker) in [
        (binary(0x21, 0x11, &V4), client("192.0.2.1", false)),
        (binary(0x21, 0x21, &v6()), client("2001:db8::1", false)),
        (binary(0x21, 0x11, &[&V4[..], &tls].concat()), client("192.0.2.1", true)),
        (binary(0x21, 0x11, &[&V4[..], &aws, &tls, &aws].concat()), client("192.0.2.1", true)),
        (binary(0x21, 0x21, &[&v6()[..], &tls].concat()), client("2001:db8::1", true)),
        (binary(0x21, 0x11, &[&V4[..], &plain].concat()), client("192.0.2.1", false)),
        (binary(0x21, 0x11, &[&V4[..], &addition(0x20, &[])].concat()), client("192.0.2.1", false)),
        (binary(0x21, 0x11, &[&V4[..], &addition(0x04, &[0; 400])].concat()), client("192.0.2.1", false)),
        (binary(0x20, 0x00, &[]), Speaker::Proxy),
        (binary(0x20, 0x11, &V4), Speaker::Proxy),
        (binary(0x20, 0xff, b"anything"), Speaker::Proxy),
        (binary(0x21, 0x00, &[]), unknown(false)),
        (binary(0x21, 0x00, &tls), unknown(true)),
        (binary(0x21, 0x12, &V4), unknown(false)),
        (binary(0x21, 0x31, &[0; 216]), unknown(false)),
    ] {
        let whole = Progress::Whole { speaker, bytes: header.len() };
        assert_eq!(read(&header), Ok(whole), "{header:x?}");
        assert_eq!(read(&[&header[..], b"\x16\x03\x01"].concat()), Ok(whole), "{header:x?}");
        for end in 0..header.len() {
            assert_eq!(read(&header[..end]), Ok(Progress::Partial), "{header:x?} {end}");
        }
    }
}

#[test]
fn what_is_no_header_of_version_2_is_refused() {
    for (header, error) in [
        (b"\r\n\r\n\0\r\nQUIX".to_vec(), Malformed::Absent),
        (b"\r\n\r\nGET / HTTP/1.1\r\n".to_vec(), Malformed::Absent),
        (binary(0x11, 0x11, &V4), Malformed::Kind),
        (binary(0x22, 0x11, &V4), Malformed::Kind),
        (binary(0x21, 0x13, &V4), Malformed::Kind),
        (binary(0x21, 0x41, &V4), Malformed::Kind),
        (binary(0x21, 0x11, &V4[..11]), Malformed::Short),
        (binary(0x21, 0x21, &V4), Malformed::Short),
        (binary(0x21, 0x31, &[0; 215]), Malformed::Short),
        (binary(0x21, 0x11, &[&V4[..], &[0x20, 0]].concat()), Malformed::Short),
        (binary(0x21, 0x11, &[&V4[..], &[0x20, 0, 2, 1]].concat()), Malformed::Short),
        (binary(0x21, 0x11, &[0; 521]), Malformed::TooLong { bytes: 537 }),
        (binary(0x20, 0x11, &[0; 65_535]), Malformed::TooLong { bytes: 65_551 }),
    ] {
        assert_eq!(read(&header), Err(error), "{header:x?}");
    }
    assert!(matches!(read(&binary(0x20, 0, &[0; 520])), Ok(Progress::Whole { bytes: 536, .. })));
}

proptest! {
    #[test]
    fn every_client_comes_back(source: [u8; 4], destination: [u8; 4], ports: [u16; 2], after: Vec<u8>) {
        let [from, to] = [source, destination].map(Ipv4Addr::from);
        let line = format!("PROXY TCP4 {from} {to} {} {}\r\n", ports[0], ports[1]);
        let said = [&source[..], &destination, &ports[0].to_be_bytes(), &ports[1].to_be_bytes()].concat();
        for header in [line.into_bytes(), binary(0x21, 0x11, &said)] {
            let speaker = Speaker::Client { address: from.into(), is_tls: false };
            let expected = Progress::Whole { speaker, bytes: header.len() };
            prop_assert_eq!(read(&[&header[..], &after].concat()), Ok(expected));
        }
    }

    #[test]
    fn no_bytes_panic_and_none_wait_for_ever(start in 0..3_usize, bytes: Vec<u8>) {
        let beginnings: [&[u8]; 3] = [b"", WORD, SIGNATURE];
        let bytes = [beginnings[start], &bytes[..]].concat();
        match read(&bytes) {
            Ok(Progress::Partial) => prop_assert!(bytes.len() < BYTES_MAX),
            Ok(Progress::Whole { bytes: used, .. }) => prop_assert!(used <= bytes.len().min(BYTES_MAX)),
            Err(_) => {}
        }
    }
}
