//! Addresses of Redis as people write them: URLs, `host:port` in lists, Laravel's hosts. What is refused is never
//! repeated: a password may stand anywhere in it.

use std::{net::Ipv6Addr, os::unix, path::PathBuf};

use super::RedisAddress;

/// Where Redis listens unless another port is written.
pub(in super::super) const PORT: u16 = 6379;
/// The highest number of a database that Redis can be configured to have.
pub(in super::super) const DATABASE_MAX: u32 = 2_147_483_647;

const FORM: &str = "is no URL of Redis; expected redis://[user:password@]host[:port][/database], rediss:// for TLS, or \
                    unix:///path[?db=database]";
const HOST: &str = "names no host; expected a host name or an IP address, an IPv6 one in brackets";
const NUMBER: &str =
    "has a port that is no number from 1 to 65535; an @ or : in a password is written %40 or %3A";
const DATABASE: &str = "names a database that is no number from 0 to 2147483647";
const SOCKET: &str = "names no Unix socket; expected the path of one from the root, of at most 107 bytes";

/// A host or a socket as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Target {
    /// The port, if one was written.
    Tcp(String, Option<u16>),
    /// A path from the root.
    Unix(PathBuf),
}

impl Target {
    /// The address, with that port if none was written.
    pub(in super::super) fn address(self, port: u16) -> RedisAddress {
        match self {
            Self::Tcp(host, written) => RedisAddress::Tcp(host, written.unwrap_or(port)),
            Self::Unix(path) => RedisAddress::Unix(path),
        }
    }
}

/// What a URL says. Its parts are percent-decoded. No `Debug`: it holds the password.
#[derive(Clone, PartialEq, Eq)]
pub(in super::super) struct RedisUrl {
    /// `rediss://` and `tls://`.
    pub(in super::super) tls: bool,
    pub(in super::super) target: Target,
    /// Empty where only a password stands before the `@`.
    pub(in super::super) username: Option<String>,
    pub(in super::super) password: Option<String>,
    pub(in super::super) database: Option<u32>,
    /// Whether options other than the database stand behind a `?`.
    pub(in super::super) has_options: bool,
}

impl RedisUrl {
    /// Reads `redis://`, `rediss://`, `unix://`, and their names `tcp://`, `tls://` (Laravel's) and `redis+unix://`.
    ///
    /// What stands before the last `@` is user and password, as it comes or percent-encoded. Errors: what is wrong, to
    /// stand behind the place.
    pub(in super::super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.trim().split_once("://").ok_or(FORM)?;
        let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (tls, target, path) = match scheme.to_ascii_lowercase().as_str() {
            scheme @ ("redis" | "tcp" | "rediss" | "tls") => {
                let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
                (matches!(scheme, "rediss" | "tls"), tcp(host)?, path)
            }
            "unix" | "redis+unix" => (false, unix(rest)?, ""),
            _ => return Err(FORM),
        };
        let (username, password) = match login {
            None => (None, None),
            Some(login) => {
                let (user, password) =
                    login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
                (Some(decoded(user)?), password.map(decoded).transpose()?)
            }
        };
        let mut url = Self { tls, target, username, password, database: None, has_options: false };
        if !path.is_empty() {
            url.database = Some(database(path)?);
        }
        for option in query.into_iter().flat_map(|query| query.split('&')).filter(|option| !option.is_empty())
        {
            match option.split_once('=') {
                Some(("db" | "database", number)) if url.database.is_none() => {
                    url.database = Some(database(number)?);
                }
                Some(_) | None => url.has_options = true,
            }
        }
        Ok(url)
    }

    /// Whether it says who logs in.
    pub(in super::super) const fn logs_in(&self) -> bool {
        self.username.is_some() || self.password.is_some()
    }

    /// The URL with the port and without what is secret, for `soundpost check`.
    pub(in super::super) fn shown(&self) -> String {
        let login = if self.logs_in() { "(hidden)@" } else { "" };
        let (scheme, mark) = match (&self.target, self.tls) {
            (Target::Unix(_), _) => ("unix", "?db="),
            (Target::Tcp(..), true) => ("rediss", "/"),
            (Target::Tcp(..), false) => ("redis", "/"),
        };
        let database = self.database.map_or(String::new(), |number| format!("{mark}{number}"));
        format!("{scheme}://{login}{}{database}", self.target.clone().address(PORT))
    }
}

/// An entry of a list: `host`, `host:port`, perhaps with `redis://`, `rediss://` and their like before it; and whether
/// that asks for TLS. Errors: what is wrong, to stand behind the place.
pub(in super::super) fn entry(text: &str) -> Result<(Option<bool>, Target), &'static str> {
    const EXPECTED: &str =
        "has an entry that is no host:port; user, password and database have keys of their own";
    let text = text.trim();
    if !text.contains("://") {
        return Ok((None, tcp(text).map_err(|_| EXPECTED)?));
    }
    let url = RedisUrl::parse(text).map_err(|_| EXPECTED)?;
    let says_more = url.logs_in() || url.database.is_some_and(|number| number > 0) || url.has_options;
    match url.target {
        Target::Tcp(..) if !says_more => Ok((Some(url.tls), url.target)),
        Target::Tcp(..) | Target::Unix(_) => Err(EXPECTED),
    }
}

/// `host`, `host:port`, `[::1]:port`, `::1`.
pub(in super::super) fn tcp(text: &str) -> Result<Target, &'static str> {
    let number = |text: &str| text.parse().ok().filter(|port| *port > 0).ok_or(NUMBER);
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(HOST)?;
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(number(port)?)),
            None if rest.is_empty() => (host, None),
            None => return Err(HOST),
        }
    } else if text.parse::<Ipv6Addr>().is_ok() {
        (text, None)
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(number(port)?)),
            None => (text, None),
        }
    };
    let is_name = |host: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        !host.is_empty() && host.len() <= 253 && host.chars().all(allowed)
    };
    match is_name(host) || host.parse::<Ipv6Addr>().is_ok() {
        true => Ok(Target::Tcp(host.to_owned(), port)),
        false => Err(HOST),
    }
}

/// The path of a Unix socket.
pub(in super::super) fn unix(text: &str) -> Result<Target, &'static str> {
    let path = PathBuf::from(decoded(text)?);
    match path.is_absolute() && unix::net::SocketAddr::from_pathname(&path).is_ok() {
        true => Ok(Target::Unix(path)),
        false => Err(SOCKET),
    }
}

fn database(text: &str) -> Result<u32, &'static str> {
    text.parse().ok().filter(|number| *number <= DATABASE_MAX).ok_or(DATABASE)
}

/// `%40` is `@`; a `%` that begins no such triple stays, as in PHP.
fn decoded(text: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits =
            behind.get(..2).filter(|digits| *first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
    String::from_utf8(bytes).map_err(|_| "holds percent-encoded bytes that are no UTF-8 text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_where_and_who() {
        let tcp = |host: &str, port| Target::Tcp(host.to_owned(), port);
        let socket = |path: &str| Target::Unix(path.into());
        for (text, tls, target, login, database) in [
            ("redis://127.0.0.1:6379/0", false, tcp("127.0.0.1", Some(6379)), None, Some(0)),
            ("redis://cache", false, tcp("cache", None), None, None),
            ("REDISS://cache/", true, tcp("cache", None), None, None),
            ("tls://cache:6380/15", true, tcp("cache", Some(6380)), None, Some(15)),
            ("tcp://[::1]:7/1", false, tcp("::1", Some(7)), None, Some(1)),
            ("redis://:p%40ss@h", false, tcp("h", None), Some(("", Some("p@ss"))), None),
            (
                "redis://me:a/b@c?d:e%zz@h:1",
                false,
                tcp("h", Some(1)),
                Some(("me", Some("a/b@c?d:e%zz"))),
                None,
            ),
            ("redis://me@h?db=3", false, tcp("h", None), Some(("me", None)), Some(3)),
            ("unix:///run/redis.sock?db=2", false, socket("/run/redis.sock"), None, Some(2)),
            ("redis+unix://u:p@/r%20s", false, socket("/r s"), Some(("u", Some("p"))), None),
        ] {
            let url = RedisUrl::parse(text).unwrap();
            assert_eq!((url.tls, url.database, url.has_options), (tls, database, false), "{text}");
            assert_eq!(url.target, target, "{text}");
            let found = url.username.as_deref().map(|user| (user, url.password.as_deref()));
            assert_eq!(found, login, "{text}");
        }
        assert!(RedisUrl::parse("redis://h/1?timeout=5").is_ok_and(|url| url.has_options));
    }

    #[test]
    fn what_is_no_url_is_refused_without_its_text() {
        let long = format!("unix:///{}", "s".repeat(107));
        for (text, expected) in [
            ("", FORM),
            ("localhost:6379", FORM),
            ("http://h", FORM),
            ("redis+sentinel://h", FORM),
            ("redis://", HOST),
            ("redis://:hush", NUMBER),
            ("redis://me:hush", NUMBER),
            ("redis://h:0", NUMBER),
            ("redis://h:65536", NUMBER),
            ("redis://[::1", HOST),
            ("redis://[::1]6379", HOST),
            ("redis://a b", HOST),
            ("redis://h/one", DATABASE),
            ("redis://h/-1", DATABASE),
            ("redis://h/2147483648", DATABASE),
            ("redis://h?db=x", DATABASE),
            ("unix://run/redis.sock", SOCKET),
            (&long, SOCKET),
        ] {
            assert_eq!(RedisUrl::parse(text).err(), Some(expected), "{text}");
        }
        assert!(RedisUrl::parse("redis://:%ff@h").is_err());
    }

    #[test]
    fn a_list_names_hosts_alone() {
        let tcp = |host: &str, port| Target::Tcp(host.to_owned(), port);
        for (text, expected) in [
            ("a", Some((None, tcp("a", None)))),
            (" a:1 ", Some((None, tcp("a", Some(1))))),
            ("::1", Some((None, tcp("::1", None)))),
            ("redis://a:1", Some((Some(false), tcp("a", Some(1))))),
            ("rediss://a/0", Some((Some(true), tcp("a", None)))),
            ("redis://:hush@a", None),
            ("redis://a/1", None),
            ("unix:///a", None),
            ("a:b", None),
            ("", None),
        ] {
            assert_eq!(entry(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_url_is_shown_without_who_logs_in() {
        for (text, expected) in [
            ("redis://h", "redis://h:6379"),
            ("tls://me:hush@h:1/2", "rediss://(hidden)@h:1/2"),
            ("unix://:hush@/s?db=1&pass=hush", "unix://(hidden)@/s?db=1"),
            ("tcp://[::1]", "redis://[::1]:6379"),
        ] {
            assert_eq!(RedisUrl::parse(text).unwrap().shown(), expected);
        }
    }
}
