//! `X-Forwarded-For` and `X-Forwarded-Proto`: lists that trusted proxies and strangers have written to in turn.

use std::{net::IpAddr, sync::LazyLock};

use soundpost_server::proxy::{TrustedProxies, forwarded::Forwarded};

use crate::Outcome;

static TRUSTED: LazyLock<TrustedProxies> = LazyLock::new(|| {
    let mut trusted = TrustedProxies::default();
    ["127.0.0.1", "::1", "10.0.0.0/8"].iter().for_each(|text| assert!(trusted.add(text).is_ok()));
    trusted
});

/// The input is lines: values of `X-Forwarded-For`, an empty line, values of `X-Forwarded-Proto`.
pub fn forwarded(data: &[u8]) -> Outcome {
    let Ok(text) = str::from_utf8(data) else { return Outcome::Refused };
    let (addresses, protocols) = text.split_once("\n\n").unwrap_or((text, ""));
    let read = |addresses: &str, protocols: &str| {
        Forwarded::read(&TRUSTED, addresses.split('\n'), protocols.split('\n'))
    };
    let found = read(addresses, protocols);
    // One header or several: it is one list.
    assert_eq!(read(&addresses.replace('\n', ","), &protocols.replace('\n', ",")), found, "{text:?}");
    let Some(address) = found.address else {
        // A proxy adds what it sees, and that is believed whatever stands before it.
        let seen = read(&format!("{addresses},192.0.2.1"), "http");
        assert_eq!((seen.address, seen.is_tls), ("192.0.2.1".parse().ok(), Some(false)), "{text:?}");
        return Outcome::Refused;
    };
    let names = |entry: &str| {
        let bare = entry.trim().trim_start_matches('[');
        let ends = [bare.len()].into_iter().chain(bare.match_indices([']', ':']).map(|(at, _)| at));
        let mut parts = ends.filter_map(|end| bare.get(..end)?.parse::<IpAddr>().ok());
        parts.any(|part| part.to_canonical() == address)
    };
    assert!(addresses.split([',', '\n']).any(names), "{text:?} {address}");
    if !TRUSTED.trusts(address) {
        // Strangers cannot be somebody else by what they write themselves.
        assert_eq!(read(&format!("198.51.100.9,{addresses}"), protocols), found, "{text:?}");
    }
    Outcome::Accepted
}
