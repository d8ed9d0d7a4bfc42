//! The PROXY header, versions 1 and 2: what a proxy says of a client before the client's first byte.
//!
//! Source: HAProxy, "The PROXY protocol", versions 1 and 2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest header that is read, bytes: what the protocol wants every receiver to take at once.
pub const BYTES_MAX: usize = 536;
/// The longest header of version 1, its end of line included, bytes.
const LINE_BYTES_MAX: usize = 107;

const WORD: &[u8] = b"PROXY ";
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length of the rest.
const FIXED_BYTES: usize = 16;

/// Who a header says is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// The proxy itself, which mostly looks whether we are there: `LOCAL`.
    Proxy,
    /// A client whom the proxy cannot name: `UNKNOWN`, or an address of another kind than IP over TCP.
    Unknown {
        /// Whether it speaks TLS to the proxy.
        is_tls: bool,
    },
    /// A client.
    Client {
        /// Its address.
        address: IpAddr,
        /// Whether it speaks TLS to the proxy. Version 1 cannot say so.
        is_tls: bool,
    },
}

/// How far a header has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All bytes so far belong to it, and more must come.
    Partial,
    /// It is complete.
    Whole {
        /// What it says.
        speaker: Speaker,
        /// Its length; what follows is the client's.
        bytes: usize,
    },
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They begin otherwise.
    #[error("there is no PROXY header; have the proxy send one, or set server.proxy_protocol to false")]
    Absent,
    /// Version 1: no end of line within 107 bytes.
    #[error("the line of the PROXY header is longer than 107 bytes")]
    Line,
    /// Version 1: not `PROXY TCP4 SOURCE DESTINATION PORT PORT`, nor with TCP6, nor `PROXY UNKNOWN`.
    #[error("the line of the PROXY header is not as version 1 has it")]
    Words,
    /// Version 2: another version, command or kind of address than there are.
    #[error("the PROXY header has a version, command or kind of address that does not exist")]
    Kind,
    /// Version 2: longer than anybody needs.
    #[error("the PROXY header announces {bytes} bytes, more than {BYTES_MAX}")]
    TooLong {
        /// Announced, all in all.
        bytes: usize,
    },
    /// Version 2: too short for its addresses, or an addition longer than the header.
    #[error("the PROXY header is shorter than what it has to hold")]
    Short,
}

/// Reads the header that `bytes` begin with. Total: whatever they are.
///
/// Errors: [`Malformed`], as soon as the bytes cannot become a header any more.
pub fn read(bytes: &[u8]) -> Result<Progress, Malformed> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(byte, expected)| byte == expected);
    if begins(WORD) {
        read_line(bytes)
    } else if begins(SIGNATURE) {
        read_binary(bytes)
    } else {
        Err(Malformed::Absent)
    }
}

fn read_line(bytes: &[u8]) -> Result<Progress, Malformed> {
    let window = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() < LINE_BYTES_MAX { Ok(Progress::Partial) } else { Err(Malformed::Line) };
    };
    let line = window.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(Malformed::Words)?;
    let line = str::from_utf8(line).map_err(|_| Malformed::Words)?;
    let mut words = line.split(' ').skip(1);
    let mut word = || words.next().unwrap_or_default();
    let client = |address| Speaker::Client { address, is_tls: false };
    let speaker = match word() {
        // What follows is for nobody to read.
        "UNKNOWN" => {
            return Ok(Progress::Whole { speaker: Speaker::Unknown { is_tls: false }, bytes: end + 1 });
        }
        "TCP4" => {
            let both: [Option<Ipv4Addr>; 2] = [word().parse().ok(), word().parse().ok()];
            if let [Some(source), Some(_)] = both { Some(client(source.into())) } else { None }
        }
        "TCP6" => {
            let both: [Option<Ipv6Addr>; 2] = [word().parse().ok(), word().parse().ok()];
            if let [Some(source), Some(_)] = both { Some(client(source.to_canonical())) } else { None }
        }
        _ => None,
    };
    let has_ports = is_port(word()) && is_port(word()) && words.next().is_none();
    let speaker = speaker.filter(|_| has_ports).ok_or(Malformed::Words)?;
    Ok(Progress::Whole { speaker, bytes: end + 1 })
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

fn read_binary(bytes: &[u8]) -> Result<Progress, Malformed> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else { return Ok(Progress::Partial) };
    let [.., version_and_command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let whole = FIXED_BYTES + length;
    if whole > BYTES_MAX {
        return Err(Malformed::TooLong { bytes: whole });
    }
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed::Kind),
    };
    let Some(said) = rest.get(..length) else { return Ok(Progress::Partial) };
    let speaker = if is_local { Speaker::Proxy } else { speaker_of(family, said)? };
    Ok(Progress::Whole { speaker, bytes: whole })
}

/// The client in what a header says behind its fixed part.
fn speaker_of(family: u8, said: &[u8]) -> Result<Speaker, Malformed> {
    // Two addresses, two ports; of Unix sockets two paths.
    let (addresses, is_tcp) = match family {
        0x00 => (0, false),
        0x11 => (12, true),
        0x12 => (12, false),
        0x21 => (36, true),
        0x22 => (36, false),
        0x31 | 0x32 => (216, false),
        _ => return Err(Malformed::Kind),
    };
    let (addresses, additions) = said.split_at_checked(addresses).ok_or(Malformed::Short)?;
    let is_tls = is_tls(additions)?;
    let v4 = || addresses.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes));
    let v6 = || addresses.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes).to_canonical());
    let address = if family == 0x11 { v4() } else { v6() };
    Ok(match address.filter(|_| is_tcp) {
        Some(address) => Speaker::Client { address, is_tls },
        None => Speaker::Unknown { is_tls },
    })
}

/// Looks through the additions, each a kind, a length and as many bytes, for the one about TLS.
fn is_tls(mut additions: &[u8]) -> Result<bool, Malformed> {
    const SSL: u8 = 0x20;
    const CLIENT_SSL: u8 = 0x01;
    let mut is_tls = false;
    while !additions.is_empty() {
        let ([kind, high, low], rest) = additions.split_first_chunk().ok_or(Malformed::Short)?;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, rest) = rest.split_at_checked(length).ok_or(Malformed::Short)?;
        if *kind == SSL {
            is_tls = value.first().is_some_and(|flags| flags & CLIENT_SSL != 0);
        }
        additions = rest;
    }
    Ok(is_tls)
}

#[cfg(test)]
mod tests;
