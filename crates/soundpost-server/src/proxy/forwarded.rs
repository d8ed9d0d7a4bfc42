//! `X-Forwarded-For` and `X-Forwarded-Proto`: the client behind proxies that are trusted.
//!
//! Each proxy adds what it sees at the end, so both are read from the end, and only as far as those who wrote them are
//! trusted: what stands before that anybody may have written. The standard `Forwarded` is not read: a client could send
//! it past a proxy that only knows these two.

use std::net::{IpAddr, SocketAddr};

use super::TrustedProxies;

/// Proxies in a row that are looked at; more than any real way has.
const HOPS_MAX: usize = 32;

/// What trusted proxies say of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// Its address; `None` if they name none.
    pub address: Option<IpAddr>,
    /// Whether it speaks TLS to the outermost of them; `None` if they do not say.
    pub is_tls: Option<bool>,
}

impl Forwarded {
    /// From the values of all headers of each kind, in their order, of a request whose sender is trusted.
    ///
    /// The client is the first address from the end that is no trusted proxy's; if all are, the last one looked at. What
    /// is no address ends the way, as do more than 32. `protocols` may have one value for each proxy, or a single one
    /// that each hands on: it is the one at the client's place, or the farthest from the end before that.
    pub fn read<'h>(
        trusted: &TrustedProxies,
        addresses: impl DoubleEndedIterator<Item = &'h str>,
        protocols: impl DoubleEndedIterator<Item = &'h str>,
    ) -> Self {
        let (mut address, mut hops) = (None, 0);
        for found in from_the_end(addresses).take(HOPS_MAX).map_while(address_of) {
            address = Some(found);
            hops += 1;
            if !trusted.trusts(found) {
                break;
            }
        }
        let protocol = from_the_end(protocols).take(hops.max(1)).last().filter(|word| !word.is_empty());
        let is_tls = |word: &str| ["https", "wss"].iter().any(|secure| word.eq_ignore_ascii_case(secure));
        Self { address, is_tls: protocol.map(is_tls) }
    }
}

/// The entries of comma-separated headers, the last of the last first.
fn from_the_end<'h>(values: impl DoubleEndedIterator<Item = &'h str>) -> impl Iterator<Item = &'h str> {
    values.rev().flat_map(|value| value.rsplit(',')).map(str::trim)
}

/// An address as proxies write it: bare, IPv6 also in brackets, both with or without a port.
fn address_of(text: &str) -> Option<IpAddr> {
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let bare: Option<IpAddr> = text.parse().ok();
    let with_port = || text.parse().ok().map(|socket: SocketAddr| socket.ip());
    bare.or_else(in_brackets).or_else(with_port).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trusted() -> TrustedProxies {
        let mut trusted = TrustedProxies::default();
        ["127.0.0.1", "::1", "10.0.0.0/8"].iter().for_each(|text| trusted.add(text).unwrap());
        trusted
    }

    fn read(addresses: &[&str], protocols: &[&str]) -> Forwarded {
        Forwarded::read(&trusted(), addresses.iter().copied(), protocols.iter().copied())
    }

    #[test]
    fn the_client_is_the_last_address_that_no_trusted_proxy_has() {
        for (headers, expected) in [
            (&[][..], None),
            (&[""], None),
            (&["192.0.2.1"], Some("192.0.2.1")),
            (&[" 192.0.2.1 "], Some("192.0.2.1")),
            (&["192.0.2.1:4711"], Some("192.0.2.1")),
            (&["2001:db8::1"], Some("2001:db8::1")),
            (&["[2001:db8::1]"], Some("2001:db8::1")),
            (&["[2001:db8::1]:4711"], Some("2001:db8::1")),
            (&["::ffff:192.0.2.1"], Some("192.0.2.1")),
            // What a client wrote itself stands before what the proxy saw.
            (&["198.51.100.9, 192.0.2.1"], Some("192.0.2.1")),
            (&["198.51.100.9", "192.0.2.1"], Some("192.0.2.1")),
            (&["127.0.0.1, 192.0.2.1"], Some("192.0.2.1")),
            // A way of several trusted proxies, in one header or several.
            (&["192.0.2.1, 10.0.0.1, 10.0.0.2"], Some("192.0.2.1")),
            (&["198.51.100.9,192.0.2.1", "10.0.0.1,10.0.0.2"], Some("192.0.2.1")),
            // Somebody within the trusted network.
            (&["10.0.0.7"], Some("10.0.0.7")),
            (&["10.0.0.7, 10.0.0.2"], Some("10.0.0.7")),
            // What is no address hides what stands before it.
            (&["192.0.2.1, unknown"], None),
            (&["192.0.2.1, unknown, 10.0.0.2"], Some("10.0.0.2")),
            (&["192.0.2.1,,10.0.0.2"], Some("10.0.0.2")),
            (&["192.0.2.1", "", "10.0.0.2"], Some("10.0.0.2")),
            (&["192.0.2.1, 10.0.0"], None),
            (&["fe80::1%eth0"], None),
            (&["[192.0.2.1]"], None),
            (&["[2001:db8::1"], None),
            (&["\"192.0.2.1\""], None),
            (&["192.0.2.1:99999"], None),
        ] {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(read(headers, &[]).address, expected, "{headers:?}");
        }
    }

    #[test]
    fn a_way_without_end_is_followed_for_32_proxies() {
        let way = |proxies: usize| {
            let mut way = vec!["192.0.2.1"];
            way.resize(proxies + 1, "10.0.0.1");
            read(&[&way.join(",")], &[]).address.unwrap().to_string()
        };
        assert_eq!([31, 32, 3000].map(way), ["192.0.2.1", "10.0.0.1", "10.0.0.1"]);
    }

    #[test]
    fn the_protocol_is_the_one_between_the_client_and_the_proxy_that_saw_it() {
        let one = &["192.0.2.1"][..];
        let two = &["192.0.2.1, 10.0.0.1"][..];
        for (addresses, protocols, expected) in [
            (one, &[][..], None),
            (one, &[""], None),
            (one, &["https"], Some(true)),
            (one, &["WSS"], Some(true)),
            (one, &["http"], Some(false)),
            (one, &["ws"], Some(false)),
            (one, &["httpsx"], Some(false)),
            (&[], &["https"], Some(true)),
            // The first word is the client's own.
            (one, &["https, http"], Some(false)),
            (one, &["https", "http"], Some(false)),
            (&[], &["https,http"], Some(false)),
            (one, &["http, https"], Some(true)),
            // Each proxy added its own: TLS ends at the first.
            (two, &["https, http"], Some(true)),
            (two, &["http, https"], Some(false)),
            (two, &["https, http, https"], Some(false)),
            // One proxy handed on what another said.
            (two, &["https"], Some(true)),
            (two, &["http"], Some(false)),
        ] {
            assert_eq!(read(addresses, protocols).is_tls, expected, "{addresses:?} {protocols:?}");
        }
    }

    proptest! {
        #[test]
        fn what_stands_before_the_client_changes_nothing(before in "[ -~]{0,60}", garbage in "[ -~]{0,60}") {
            let whole = format!("{before},192.0.2.1, 10.0.0.1");
            let read_whole = read(&[&garbage, &whole], &[]);
            prop_assert_eq!(read_whole.address, "192.0.2.1".parse().ok());
        }

        #[test]
        fn nothing_that_can_be_written_panics(text in "\\PC{0,100}", other in "[0-9a-f:.,\\[\\] /%]{0,100}") {
            let _ = read(&[&text, &other], &[&other, &text]);
            let _ = read(&[&other], &[]);
        }
    }
}
