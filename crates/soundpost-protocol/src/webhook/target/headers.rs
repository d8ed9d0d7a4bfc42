//! Headers of the operator's own, sent with every request of a webhook.

use std::fmt;

/// Names and values in the order given, each name once, none that is ours or the connection's.
///
/// The values are mostly tokens: `Debug` shows the names alone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ExtraHeaders(Vec<(Box<str>, Box<str>)>);

/// Why headers cannot be sent. Each names the header, none shows a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// No name, or a character that cannot stand in one. Source: RFC 9110, "Field names".
    #[error(
        "{name:?} is not the name of a header; allowed are letters, digits and !#$%&'*+-.^_`|~, at most 100"
    )]
    Name {
        /// The name, cut after 100 characters.
        name: String,
    },
    /// A header that Soundpost or the connection sets.
    #[error("{name} is set by Soundpost and cannot be another's")]
    Reserved {
        /// The name.
        name: String,
    },
    /// Names are the same in upper and lower case.
    #[error("{name} is given twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// A value with a character that cannot stand in one, or with a space at an end.
    #[error("the value of {name} must be visible ASCII with spaces only inside; its character {at} is not")]
    Value {
        /// The name.
        name: String,
        /// Which character, from 1 on.
        at: usize,
    },
    /// A value is longer than servers take.
    #[error("the value of {name} has {bytes} bytes, more than {}", ExtraHeaders::VALUE_BYTES_MAX)]
    TooLong {
        /// The name.
        name: String,
        /// Bytes found.
        bytes: usize,
    },
    /// More than anybody needs.
    #[error("are {count}, more than {}", ExtraHeaders::COUNT_MAX)]
    TooMany {
        /// Headers found.
        count: usize,
    },
}

/// What belongs to the request itself, or to Pusher's signature, beside everything that begins with
/// [`RESERVED_PREFIXES`]. In lower case.
const RESERVED: [&str; 14] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "accept-encoding",
];
const RESERVED_PREFIXES: [&str; 3] = ["x-pusher-", "x-soundpost-", "proxy-"];

impl ExtraHeaders {
    /// Headers in all.
    pub const COUNT_MAX: usize = 32;
    /// Bytes of one value: servers take about 8 kB of a line.
    pub const VALUE_BYTES_MAX: usize = 4096;

    /// Checks names and values once. Errors: [`HeaderError`], the first there is.
    pub fn parse<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, HeaderError> {
        let mut known: Vec<(Box<str>, Box<str>)> = Vec::new();
        for (name, value) in headers {
            check_name(name)?;
            if known.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
                return Err(HeaderError::Twice { name: name.to_owned() });
            }
            check_value(name, value)?;
            known.push((name.into(), value.into()));
        }
        if known.len() > Self::COUNT_MAX {
            return Err(HeaderError::TooMany { count: known.len() });
        }
        Ok(Self(known))
    }

    /// Name and value of each, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

fn check_name(name: &str) -> Result<(), HeaderError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > 100 || !name.bytes().all(fits) {
        return Err(HeaderError::Name { name: name.chars().take(100).collect() });
    }
    let lowercase = name.to_ascii_lowercase();
    let is_reserved = RESERVED.contains(&lowercase.as_str())
        || RESERVED_PREFIXES.iter().any(|prefix| lowercase.starts_with(prefix));
    if is_reserved { Err(HeaderError::Reserved { name: name.to_owned() }) } else { Ok(()) }
}

fn check_value(name: &str, value: &str) -> Result<(), HeaderError> {
    let name = || name.to_owned();
    if value.len() > ExtraHeaders::VALUE_BYTES_MAX {
        return Err(HeaderError::TooLong { name: name(), bytes: value.len() });
    }
    let last = value.chars().count().saturating_sub(1);
    let fits = |at: usize, c: char| c.is_ascii_graphic() || c == ' ' && at > 0 && at < last;
    match value.chars().enumerate().find(|(at, c)| !fits(*at, *c)) {
        Some((at, _)) => Err(HeaderError::Value { name: name(), at: at + 1 }),
        None => Ok(()),
    }
}

impl fmt::Debug for ExtraHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headers_are_kept_as_given() {
        let given = [("Authorization", "Bearer a b"), ("x-tenant", "7"), ("X-Empty", "")];
        let headers = ExtraHeaders::parse(given).unwrap();
        assert_eq!(headers.iter().collect::<Vec<_>>(), given);
        assert_eq!(format!("{headers:?}"), r#"["Authorization", "x-tenant", "X-Empty"]"#);
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_refused_without_its_value() {
        let long = "x".repeat(4097);
        for (headers, line) in [
            (
                vec![("", "a")],
                "\"\" is not the name of a header; allowed are letters, digits and !#$%&'*+-.^_`|~, at most 100",
            ),
            (
                vec![("X Y", "a")],
                "\"X Y\" is not the name of a header; allowed are letters, digits and !#$%&'*+-.^_`|~, at most 100",
            ),
            (vec![("Content-Type", "a")], "Content-Type is set by Soundpost and cannot be another's"),
            (vec![("HOST", "a")], "HOST is set by Soundpost and cannot be another's"),
            (vec![("X-Pusher-Key", "a")], "X-Pusher-Key is set by Soundpost and cannot be another's"),
            (vec![("X-A", "1"), ("x-a", "2")], "x-a is given twice"),
            (
                vec![("X-A", "secret\r\nX-B: c")],
                "the value of X-A must be visible ASCII with spaces only inside; its character 7 is not",
            ),
            (
                vec![("X-A", "secret ")],
                "the value of X-A must be visible ASCII with spaces only inside; its character 7 is not",
            ),
            (
                vec![("X-A", "é")],
                "the value of X-A must be visible ASCII with spaces only inside; its character 1 is not",
            ),
            (vec![("X-A", long.as_str())], "the value of X-A has 4097 bytes, more than 4096"),
        ] {
            assert_eq!(ExtraHeaders::parse(headers).unwrap_err().to_string(), line);
        }
        let names: Vec<String> = (0..33).map(|n| format!("X-{n}")).collect();
        let many = ExtraHeaders::parse(names.iter().map(|name| (name.as_str(), "a")));
        assert_eq!(many, Err(HeaderError::TooMany { count: 33 }));
    }

    proptest! {
        #[test]
        fn nothing_that_is_taken_can_end_a_line(name in "\\PC{0,8}|[a-zA-Z-]{1,8}", value in any::<String>()) {
            if let Ok(headers) = ExtraHeaders::parse([(name.as_str(), value.as_str())]) {
                for (name, value) in headers.iter() {
                    prop_assert!(!name.is_empty() && !name.contains([':', ' ', '\r', '\n']));
                    prop_assert!(value.is_ascii() && !value.contains(|c: char| c.is_ascii_control()));
                }
            }
        }
    }
}
