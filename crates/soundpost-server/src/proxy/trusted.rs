//! The addresses of the proxies whose word is taken.

use std::{fmt, net::IpAddr, str::FromStr};

/// The peers that are believed when they say who their clients are. None by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<Network>);

/// The addresses with the same first bits; IPv4 addresses never stand here in their IPv6 form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    first: IpAddr,
    bits: u32,
}

/// Why a text names no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// What stands before the slash.
    #[error("an IP address, a range such as 10.0.0.0/8, or *")]
    Address,
    /// What stands behind the slash.
    #[error("a range whose bits are a number from 0 to {max}")]
    Bits {
        /// 32 or 128.
        max: u32,
    },
    /// An address within the range, not its first: one of both is a mistake.
    #[error("the first address of the range, {first}, or a single address")]
    Within {
        /// The range as it would have to be written.
        first: String,
    },
}

impl TrustedProxies {
    /// Adds what `text` names: an address, a range `ADDRESS/BITS`, `localhost` for both of its own, or `*` for anyone.
    pub fn add(&mut self, text: &str) -> Result<(), NetworkError> {
        let all: &[&str] = match text {
            "*" => &["0.0.0.0/0", "::/0"],
            "localhost" => &["127.0.0.1", "::1"],
            one => &[one],
        };
        for text in all {
            self.0.push(text.parse()?);
        }
        Ok(())
    }

    /// Whether `peer` is believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        // Without a proxy there is nothing to compare.
        !self.0.is_empty() && {
            let peer = peer.to_canonical();
            self.0.iter().any(|network| network.contains(peer))
        }
    }

    /// Whether nobody is.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every address of a kind is, so that anybody can say to be anybody.
    pub fn is_anyone(&self) -> bool {
        self.0.iter().any(|network| network.bits == 0)
    }
}

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        match (self.first, address) {
            // Of no bits at all, none differ.
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                (first.to_bits() ^ address.to_bits()).checked_shr(32 - self.bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                (first.to_bits() ^ address.to_bits()).checked_shr(128 - self.bits).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// The same with every bit behind the first ones 0.
    fn start(self) -> Self {
        let first = match self.first {
            IpAddr::V4(address) => {
                let kept = u32::MAX.checked_shl(32 - self.bits).unwrap_or(0);
                IpAddr::V4((address.to_bits() & kept).into())
            }
            IpAddr::V6(address) => {
                let kept = u128::MAX.checked_shl(128 - self.bits).unwrap_or(0);
                IpAddr::V6((address.to_bits() & kept).into())
            }
        };
        Self { first, ..self }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let written: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let max = if written.is_ipv4() { 32 } else { 128 };
        let is_digits = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
        let bits = bits.map_or(Some(max), |text| Some(text).filter(is_digits)?.parse().ok());
        let bits = bits.filter(|bits| *bits <= max).ok_or(NetworkError::Bits { max })?;
        let network = Self { first: written, bits };
        if network.start() != network {
            return Err(NetworkError::Within { first: network.start().to_string() });
        }
        // Peers are compared in their own form, so an IPv4 range written into IPv6 has to be one of IPv4.
        match written.to_canonical() {
            first @ IpAddr::V4(_) if max == 128 && bits >= 96 => Ok(Self { first, bits: bits - 96 }),
            IpAddr::V4(_) | IpAddr::V6(_) => Ok(network),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(texts: &[&str]) -> TrustedProxies {
        let mut all = TrustedProxies::default();
        texts.iter().for_each(|text| all.add(text).unwrap());
        all
    }

    #[test]
    fn who_is_named_is_trusted_and_nobody_else() {
        for (texts, peer, expected) in [
            (&[][..], "127.0.0.1", false),
            (&["127.0.0.1"], "127.0.0.1", true),
            (&["127.0.0.1"], "::ffff:127.0.0.1", true),
            (&["127.0.0.1"], "127.0.0.2", false),
            (&["127.0.0.1"], "::1", false),
            (&["::1"], "::1", true),
            (&["localhost"], "::1", true),
            (&["localhost"], "127.0.0.1", true),
            (&["10.0.0.0/8"], "10.255.255.255", true),
            (&["10.0.0.0/8"], "11.0.0.0", false),
            (&["10.0.0.0/8"], "9.255.255.255", false),
            (&["192.0.2.128/25"], "192.0.2.128", true),
            (&["192.0.2.128/25"], "192.0.2.127", false),
            (&["192.0.2.1/32"], "192.0.2.1", true),
            (&["192.0.2.1/32"], "192.0.2.0", false),
            (&["2001:db8::/32"], "2001:db8:ffff::1", true),
            (&["2001:db8::/32"], "2001:db9::1", false),
            (&["::ffff:10.0.0.0/104"], "10.1.2.3", true),
            (&["::ffff:10.0.0.0/104"], "11.1.2.3", false),
            (&["0.0.0.0/0"], "203.0.113.9", true),
            (&["0.0.0.0/0"], "2001:db8::1", false),
            (&["*"], "203.0.113.9", true),
            (&["*"], "2001:db8::1", true),
            (&["10.0.0.1", "10.0.0.3"], "10.0.0.3", true),
        ] {
            assert_eq!(trusted(texts).trusts(peer.parse().unwrap()), expected, "{texts:?} {peer}");
        }
        assert!(trusted(&["*"]).is_anyone() && trusted(&["::/0"]).is_anyone());
        assert!(!trusted(&["10.0.0.0/8", "::1"]).is_anyone() && trusted(&[]).is_empty());
    }

    #[test]
    fn what_names_no_network_is_refused_with_what_belongs_there() {
        let address = "an IP address, a range such as 10.0.0.0/8, or *";
        for (text, expected) in [
            ("", address),
            ("nginx", address),
            ("10.0.0", address),
            ("[::1]", address),
            ("10.0.0.1:80", address),
            ("10.0.0.0/33", "a range whose bits are a number from 0 to 32"),
            ("10.0.0.0/", "a range whose bits are a number from 0 to 32"),
            ("10.0.0.0/+8", "a range whose bits are a number from 0 to 32"),
            ("10.0.0.0/255.0.0.0", "a range whose bits are a number from 0 to 32"),
            ("::/129", "a range whose bits are a number from 0 to 128"),
            ("10.1.0.0/8", "the first address of the range, 10.0.0.0/8, or a single address"),
            ("2001:db8::1/32", "the first address of the range, 2001:db8::/32, or a single address"),
        ] {
            let error = TrustedProxies::default().add(text).unwrap_err();
            assert_eq!(error.to_string(), expected, "{text:?}");
        }
    }
}
