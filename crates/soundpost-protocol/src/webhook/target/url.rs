//! Where a webhook is sent.

use std::{fmt, net::Ipv6Addr};

/// `http://` or `https://`, a host, perhaps a port, a path and a query; at most [`TargetUrl::BYTES_MAX`] bytes.
///
/// Shown without its query, which may hold a token.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetUrl {
    is_https: bool,
    host: Box<str>,
    port: u16,
    path_and_query: Box<str>,
}

/// Why a text is not the URL of a webhook.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Neither `http://` nor `https://` stands at its beginning.
    #[error("must begin with https:// or http://")]
    Scheme,
    /// A character that must be escaped in a URL.
    #[error("contains {found:?}, which must be percent-encoded there (a host name in its xn-- form)")]
    Character {
        /// The first such character.
        found: char,
    },
    /// Nothing that could be a host stands behind the scheme.
    #[error("has no host, or one that is neither a name nor an address")]
    Host,
    /// The port is none.
    #[error("has a port that is not within 1 to 65535")]
    Port,
    /// A name or a password stands before the host.
    #[error("holds a user name before its '@'; give an Authorization under headers instead")]
    Credentials,
    /// A part that is never sent.
    #[error("has a part behind '#', which no server is sent")]
    Fragment,
    /// Longer than servers take.
    #[error("has {bytes} bytes, more than {}", TargetUrl::BYTES_MAX)]
    TooLong {
        /// Bytes found.
        bytes: usize,
    },
}

impl TargetUrl {
    /// Bytes of the whole.
    pub const BYTES_MAX: usize = 2048;

    /// Checks `text` once. Errors: [`UrlError`]; none of them holds more of the text than a character.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.len() > Self::BYTES_MAX {
            return Err(UrlError::TooLong { bytes: text.len() });
        }
        let fits = |c: char| c.is_ascii_graphic() && !r#""<>\^`{|}"#.contains(c);
        if let Some(found) = text.chars().find(|c| !fits(*c)) {
            return Err(UrlError::Character { found });
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(UrlError::Scheme),
        };
        if rest.contains('#') {
            return Err(UrlError::Fragment);
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(UrlError::Credentials);
        }
        let (host, port) = host_and_port(authority)?;
        let port = port.map_or(Ok(if is_https { 443 } else { 80 }), parse_port)?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self { is_https, host: host.into(), port, path_and_query: format!("{slash}{path}").into() })
    }

    /// Whether it is sent over TLS.
    pub const fn is_https(&self) -> bool {
        self.is_https
    }

    /// A name or an address in lower case, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, given or not.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What stands in the first line of the request; begins with `/`.
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    /// The value of `Host`: without the port that everybody expects.
    pub fn host_header(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.to_string() };
        let usual = if self.is_https { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }
}

fn host_and_port(authority: &str) -> Result<(String, Option<&str>), UrlError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or(UrlError::Host)?;
        let address: Ipv6Addr = address.parse().map_err(|_| UrlError::Host)?;
        let port = if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(UrlError::Port)?) };
        return Ok((address.to_string(), port));
    }
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if host.is_empty() || host.len() > 253 || !host.chars().all(fits) {
        return Err(UrlError::Host);
    }
    Ok((host.to_ascii_lowercase(), port))
}

fn parse_port(text: &str) -> Result<u16, UrlError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0).ok_or(UrlError::Port)
}

/// `https://app.test/hook`, without the query.
impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        let path = self.path_and_query.split('?').next().unwrap_or_default();
        write!(f, "{scheme}://{}{path}", self.host_header())
    }
}

/// As [`fmt::Display`] shows it.
impl fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_whom_to_ask_for_what() {
        for (text, host, port, path, header, shown) in [
            ("https://app.test", "app.test", 443, "/", "app.test", "https://app.test/"),
            ("HTTP://App.Test:80/a", "app.test", 80, "/a", "app.test", "http://app.test/a"),
            ("http://app.test:8080?t=1", "app.test", 8080, "/?t=1", "app.test:8080", "http://app.test:8080/"),
            ("https://10.0.0.7/a?t=x/y", "10.0.0.7", 443, "/a?t=x/y", "10.0.0.7", "https://10.0.0.7/a"),
            ("http://[::1]:81/", "::1", 81, "/", "[::1]:81", "http://[::1]:81/"),
            ("https://my_app/%C3%A9", "my_app", 443, "/%C3%A9", "my_app", "https://my_app/%C3%A9"),
        ] {
            let url = TargetUrl::parse(text).unwrap();
            assert_eq!((url.host(), url.port(), url.path_and_query()), (host, port, path), "{text}");
            assert_eq!((url.host_header().as_str(), url.to_string().as_str()), (header, shown), "{text}");
            assert_eq!(url.is_https(), text.to_lowercase().starts_with("https"));
            assert_eq!(format!("{url:?}"), shown);
        }
    }

    #[test]
    fn what_is_no_url_of_a_webhook_is_refused() {
        for (text, error) in [
            ("", UrlError::Scheme),
            ("app.test/hook", UrlError::Scheme),
            ("ftp://app.test", UrlError::Scheme),
            ("https://", UrlError::Host),
            ("https:///hook", UrlError::Host),
            ("https://:80/", UrlError::Host),
            ("https://a,b/", UrlError::Host),
            ("https://::1/", UrlError::Host),
            ("https://[::g]/", UrlError::Host),
            ("https://[::1/", UrlError::Host),
            ("https://[::1]x/", UrlError::Port),
            ("https://app.test:/", UrlError::Port),
            ("https://app.test:0/", UrlError::Port),
            ("https://app.test:+1/", UrlError::Port),
            ("https://app.test:65536/", UrlError::Port),
            ("https://me:pw@app.test/", UrlError::Credentials),
            ("https://app.test/#a", UrlError::Fragment),
            ("https://app.test/a b", UrlError::Character { found: ' ' }),
            ("https://app.test/\r\nX: y", UrlError::Character { found: '\r' }),
            ("https://äpp.test/", UrlError::Character { found: 'ä' }),
            ("https://app.test/{id}", UrlError::Character { found: '{' }),
        ] {
            assert_eq!(TargetUrl::parse(text), Err(error), "{text}");
        }
        let long = format!("https://app.test/{}", "a".repeat(2048));
        assert_eq!(TargetUrl::parse(&long), Err(UrlError::TooLong { bytes: 2065 }));
    }
}
