//! One written value each: is it of the right kind and in its range.

use std::{net::IpAddr, ops::RangeInclusive, time::Duration};

use super::{
    ConfigError,
    error::Place,
    layers::{Origins, is_foreign},
    written::{List, Scalar},
};

/// `true` and `false` in the words people write into environments.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Some(true),
        "false" | "0" | "off" | "no" => Some(false),
        _ => None,
    }
}

/// The values of one table, for the errors about them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'a> {
    /// `server`, `apps.0`.
    pub(super) name: &'a str,
    /// Where each value was written, by the key that [`Self::at`] looks up.
    pub(super) origins: &'a Origins,
    /// Whether the origins' keys begin with the table's name.
    pub(super) dotted: bool,
}

impl Table<'_> {
    /// The place of a key of this table.
    pub(super) fn at(&self, key: &str) -> Place {
        let full = format!("{}.{key}", self.name);
        let origin = self.origins.get(if self.dotted { full.as_str() } else { key });
        match origin {
            Some(origin) if is_foreign(self.name) => Place { key: origin.clone(), origin: origin.clone() },
            Some(origin) => Place { key: full, origin: origin.clone() },
            None => Place { key: full.clone(), origin: full },
        }
    }

    fn refuse<T>(&self, key: &str, found: &impl ToString, expected: &str) -> Result<T, ConfigError> {
        Err(ConfigError::Value {
            place: self.at(key),
            found: found.to_string(),
            expected: expected.to_owned(),
        })
    }

    /// A whole number in a range.
    pub(super) fn whole(
        &self,
        key: &str,
        written: Option<&Scalar>,
        default: u32,
        range: RangeInclusive<u32>,
    ) -> Result<u32, ConfigError> {
        let Some(written) = written else { return Ok(default) };
        let number = match written {
            Scalar::Whole(number) => Some(*number),
            Scalar::Text(text) => text.trim().parse().ok(),
            Scalar::Fraction(_) | Scalar::Boolean(_) => None,
        };
        match number.and_then(|number| u32::try_from(number).ok()).filter(|number| range.contains(number)) {
            Some(number) => Ok(number),
            None => self.refuse(
                key,
                written,
                &format!("a whole number from {} to {}", range.start(), range.end()),
            ),
        }
    }

    /// A whole number of bytes or characters.
    pub(super) fn size(
        &self,
        key: &str,
        written: Option<&Scalar>,
        default: usize,
        range: RangeInclusive<u32>,
    ) -> Result<usize, ConfigError> {
        let default = u32::try_from(default).unwrap_or(u32::MAX);
        self.whole(key, written, default, range).map(|number| usize::try_from(number).unwrap_or(usize::MAX))
    }

    /// A whole number of seconds.
    pub(super) fn seconds(
        &self,
        key: &str,
        written: Option<&Scalar>,
        default: Duration,
        range: RangeInclusive<u32>,
    ) -> Result<Duration, ConfigError> {
        let default = u32::try_from(default.as_secs()).unwrap_or(u32::MAX);
        self.whole(key, written, default, range).map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// True or false.
    pub(super) fn boolean(
        &self,
        key: &str,
        written: Option<&Scalar>,
        default: bool,
    ) -> Result<bool, ConfigError> {
        let found = match written {
            None => Some(default),
            Some(Scalar::Boolean(found)) => Some(*found),
            Some(Scalar::Text(text)) => boolean(text.trim()),
            Some(Scalar::Whole(_) | Scalar::Fraction(_)) => None,
        };
        match (found, written) {
            (Some(found), _) => Ok(found),
            (None, Some(written)) => self.refuse(key, written, "true or false"),
            (None, None) => Ok(default),
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        &self,
        key: &str,
        written: Option<&Scalar>,
        default: T,
        words: &[(&str, T)],
    ) -> Result<T, ConfigError> {
        let Some(written) = written else { return Ok(default) };
        let text = if let Scalar::Text(text) = written { text.as_str() } else { "" };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(*value),
            None => {
                let known: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
                self.refuse(key, written, &known.join(" or "))
            }
        }
    }

    /// Text; a whole number counts as its digits, because ids are often written so. Fractions and booleans do not:
    /// what they look like in text is not what was written.
    pub(super) fn text<'a>(
        &self,
        key: &str,
        written: &'a Scalar,
    ) -> Result<std::borrow::Cow<'a, str>, ConfigError> {
        match written {
            Scalar::Text(text) => Ok(text.as_str().into()),
            Scalar::Whole(number) => Ok(number.to_string().into()),
            Scalar::Fraction(_) | Scalar::Boolean(_) => self.refuse(key, written, "text in quotes"),
        }
    }

    /// Several texts.
    pub(super) fn texts(&self, key: &str, written: &List) -> Result<Vec<String>, ConfigError> {
        written.0.iter().map(|scalar| self.text(key, scalar).map(Into::into)).collect()
    }

    /// An IP address, or `localhost` for both of its own.
    pub(super) fn addresses(&self, key: &str, text: &str) -> Result<Vec<IpAddr>, ConfigError> {
        let bare =
            text.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text.trim());
        if bare.eq_ignore_ascii_case("localhost") {
            return Ok(super::settings::LOOPBACK.to_vec());
        }
        match bare.parse() {
            Ok(address) => Ok(vec![address]),
            Err(_) => {
                self.refuse(key, &format!("{text:?}"), "an IP address of this machine, such as 0.0.0.0 or ::")
            }
        }
    }
}
