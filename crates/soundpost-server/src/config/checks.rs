//! One written value each: is it of the right kind and in its range.

use std::{borrow::Cow, net::IpAddr, num::NonZeroU32, ops::RangeInclusive, time::Duration};

use super::{
    ConfigError,
    effective::Values,
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

/// The values of one table, for the errors about them. What each comes to is noted for `soundpost check`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'a> {
    /// `server`, `apps.0`.
    pub(super) name: &'a str,
    /// Where each value was written, by the key that [`Self::at`] looks up.
    pub(super) origins: &'a Origins,
    /// Whether the keys of the origins and values begin with the table's name.
    pub(super) dotted: bool,
    /// What each key comes to, by the same keys as the origins.
    pub(super) values: &'a Values,
}

impl Table<'_> {
    /// The place of a key of this table.
    pub(super) fn at(&self, key: &str) -> Place {
        let full = format!("{}.{key}", self.name);
        let origin = self.origins.get(self.lookup(key).as_ref());
        match origin {
            // One variable holds all webhooks, so the key tells which of them.
            Some(origin) if is_foreign(self.name) && key.contains('.') => {
                Place { key: key.to_owned(), origin: origin.clone() }
            }
            Some(origin) if is_foreign(self.name) => Place { key: origin.clone(), origin: origin.clone() },
            Some(origin) => Place { key: full, origin: origin.clone() },
            None => Place { key: full.clone(), origin: full },
        }
    }

    /// The key as the origins and values have it.
    fn lookup<'k>(&self, key: &'k str) -> Cow<'k, str> {
        if self.dotted { format!("{}.{key}", self.name).into() } else { key.into() }
    }

    /// Notes what the key comes to. Whoever works on a value after its check notes what became of it.
    pub(super) fn note(&self, key: &str, value: impl Into<serde_json::Value>) {
        self.values.note(&self.lookup(key), value.into());
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
        let Some(written) = written else {
            self.note(key, default);
            return Ok(default);
        };
        let number = match written {
            Scalar::Whole(number) => Some(*number),
            Scalar::Text(text) => text.trim().parse().ok(),
            Scalar::Fraction(_) | Scalar::Boolean(_) => None,
        };
        match number.and_then(|number| u32::try_from(number).ok()).filter(|number| range.contains(number)) {
            Some(number) => {
                self.note(key, number);
                Ok(number)
            }
            None => self.refuse(
                key,
                written,
                &format!("a whole number from {} to {}", range.start(), range.end()),
            ),
        }
    }

    /// A count whose 0 means no limit.
    pub(super) fn count(
        &self,
        key: &str,
        written: Option<&Scalar>,
        default: Option<NonZeroU32>,
    ) -> Result<Option<NonZeroU32>, ConfigError> {
        self.whole(key, written, default.map_or(0, NonZeroU32::get), 0..=u32::MAX).map(NonZeroU32::new)
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
            (Some(found), _) => {
                self.note(key, found);
                Ok(found)
            }
            (None, Some(written)) => self.refuse(key, written, "true or false"),
            (None, None) => Ok(default),
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy + PartialEq>(
        &self,
        key: &str,
        written: Option<&Scalar>,
        default: T,
        words: &[(&str, T)],
    ) -> Result<T, ConfigError> {
        let Some(written) = written else {
            self.note(key, words.iter().find(|(_, value)| *value == default).map(|(word, _)| *word));
            return Ok(default);
        };
        let text = if let Scalar::Text(text) = written { text.as_str() } else { "" };
        match words.iter().find(|(word, _)| *word == text) {
            Some((word, value)) => {
                self.note(key, *word);
                Ok(*value)
            }
            None => {
                let known: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
                self.refuse(key, written, &known.join(" or "))
            }
        }
    }

    /// Text; a whole number counts as its digits, because ids are often written so. Fractions and booleans do not:
    /// what they look like in text is not what was written.
    pub(super) fn text<'a>(&self, key: &str, written: &'a Scalar) -> Result<Cow<'a, str>, ConfigError> {
        let text: Cow<'a, str> = match written {
            Scalar::Text(text) => text.as_str().into(),
            Scalar::Whole(number) => number.to_string().into(),
            Scalar::Fraction(_) | Scalar::Boolean(_) => return self.refuse(key, written, "text in quotes"),
        };
        self.note(key, text.as_ref());
        Ok(text)
    }

    /// Several texts.
    pub(super) fn texts(&self, key: &str, written: &List) -> Result<Vec<String>, ConfigError> {
        let texts = written.0.iter().map(|scalar| self.text(key, scalar).map(Into::into));
        let texts: Vec<String> = texts.collect::<Result<_, _>>()?;
        self.note(key, texts.clone());
        Ok(texts)
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
