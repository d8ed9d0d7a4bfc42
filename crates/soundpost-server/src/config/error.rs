//! Why the server does not start: one line each, naming the key, what was found and what is allowed.

use std::{borrow::Cow, fmt, io, path::PathBuf};

use soundpost_protocol::app::AppNameError;

use super::webhooks::WebhookMistake;
use crate::tls::TlsError;

/// Where a value was written: its key and the file, variable or flag that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The dotted key, such as `server.port` or `apps.0.secret`.
    pub key: String,
    /// `soundpost.toml`, `REVERB_APP_KEY in .env`, `--port`.
    pub origin: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key == self.origin {
            f.write_str(&one_line(&self.key))
        } else {
            write!(f, "{} ({})", one_line(&self.key), one_line(&self.origin))
        }
    }
}

/// Keys and variables are named as they were written, and may hold anything: control characters are escaped.
pub(super) fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(escaped).collect())
}

/// What is wrong with the configuration. `Display` is one line and holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that was asked for, or is there, cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file's text does not follow its grammar.
    #[error("{}:{} {problem}", path.display(), line.map(|line| format!("{line}:")).unwrap_or_default())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1, if it is known.
        line: Option<usize>,
        /// What is wrong there, without the line's own text: it may hold a secret.
        problem: String,
    },
    /// The file or the environment has another shape than the keys ask for, such as text in place of a table.
    #[error("{place}: expected {expected}")]
    Shape {
        /// Where.
        place: Place,
        /// What belongs there.
        expected: &'static str,
    },
    /// The layered values do not fit the written form.
    #[error("configuration: {0}")]
    Layers(String),
    /// What a PHP file says of a key is not certain, and no other source says it.
    #[error("{}", one_line(&format!("{}:{line}: {key} {problem}; {remedy}", path.display())))]
    Uncertain {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The dotted key of the PHP file.
        key: String,
        /// What stands there, in words.
        problem: String,
        /// What to set instead.
        remedy: String,
    },
    /// A key that no version has.
    #[error("{place}: unknown key{}", nearest.as_ref().map(|key| format!("; did you mean {key}?")).unwrap_or_default())]
    UnknownKey {
        /// Where.
        place: Place,
        /// The nearest known key, if one is near.
        nearest: Option<String>,
    },
    /// A key, or a value, of a feature that this version lacks.
    #[error("{place}: this version of Soundpost does not have {feature}")]
    Lacking {
        /// Where.
        place: Place,
        /// The feature in words.
        feature: &'static str,
    },
    /// A value outside its range.
    #[error("{place} is {found}; expected {expected}")]
    Value {
        /// Where.
        place: Place,
        /// The value, quoted if it is text.
        found: String,
        /// The range in words.
        expected: String,
    },
    /// An id or key that cannot be one.
    #[error("{place} is {found:?}, which {source}")]
    Name {
        /// Where.
        place: Place,
        /// The text.
        found: String,
        /// What is wrong with it.
        source: AppNameError,
    },
    /// A secret that cannot be used; the value is never shown.
    #[error("{place} {problem}")]
    Secret {
        /// Where.
        place: Place,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An app lacks what every app needs.
    #[error("{}", one_line(&format!("{key} is missing{hint}")))]
    Missing {
        /// The key or variable.
        key: String,
        /// What to do, or nothing.
        hint: String,
    },
    /// Two apps share an id or a key.
    #[error(
        "{} and {} are both {value:?}; every app needs {what} of its own",
        one_line(first),
        one_line(second)
    )]
    Shared {
        /// `an id` or `a key`.
        what: &'static str,
        /// The shared text.
        value: String,
        /// The first app's key.
        first: String,
        /// The second app's key.
        second: String,
    },
    /// Two keys that say the same thing, both set.
    #[error("{first} and {second} exclude each other; set one")]
    Exclusive {
        /// One.
        first: Place,
        /// The other.
        second: Place,
    },
    /// A webhook that cannot be one.
    #[error("{place}: {source}")]
    Webhook {
        /// Where.
        place: Place,
        /// What is wrong with it.
        source: WebhookMistake,
    },
    /// A file of certificates that a webhook names cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No app is configured, and the development app is not for other machines.
    #[error(
        "no app is configured, and the development app is served on 127.0.0.1 and ::1 only, not on {host}: set \
         SOUNDPOST_APPS__0__ID, SOUNDPOST_APPS__0__KEY and SOUNDPOST_APPS__0__SECRET \
         (or REVERB_APP_ID, REVERB_APP_KEY and REVERB_APP_SECRET)"
    )]
    NoApp {
        /// The address asked for.
        host: String,
    },
}

impl ConfigError {
    /// The key that it is about, if it is about one.
    pub(super) fn key(&self) -> Option<&str> {
        match self {
            Self::Shape { place, .. }
            | Self::UnknownKey { place, .. }
            | Self::Lacking { place, .. }
            | Self::Value { place, .. }
            | Self::Name { place, .. }
            | Self::Webhook { place, .. }
            | Self::Secret { place, .. } => Some(&place.key),
            Self::Missing { key, .. } | Self::Uncertain { key, .. } => Some(key),
            Self::Shared { second, .. } => Some(second),
            Self::Exclusive { second, .. } => Some(&second.key),
            Self::NoApp { .. } => Some("server.host"),
            Self::Read { .. } | Self::Syntax { .. } | Self::Tls(_) | Self::Layers(_) => None,
        }
    }
}
