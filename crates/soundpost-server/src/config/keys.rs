//! Which keys there are: those of the written types, and those of features that this version lacks.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

use super::{
    ConfigError,
    error::Place,
    layers::Flat,
    written::{AdminFile, AppFile, CertificateFile, RedisFile, RedisTlsFile, ServerFile, TlsFile},
};

/// A key of the configuration's contract that only a later version can honour.
struct Later {
    /// The key or the table it heads, apps without their index.
    key: &'static str,
    /// The one value that asks for nothing, if there is one.
    off: Option<&'static str>,
    /// The feature, as the error names it.
    feature: &'static str,
}

const LATER: &[Later] = &[Later { key: "apps.webhooks", off: Some("\"\""), feature: "webhooks" }];

/// Every key of the written types, lists without their index: `server.port`, `apps.key`.
pub(super) fn known() -> Vec<String> {
    let tables = [
        ("server", fields::<ServerFile>()),
        ("server.tls", fields::<TlsFile>()),
        ("server.tls.certificates", fields::<CertificateFile>()),
        ("admin", fields::<AdminFile>()),
        ("redis", fields::<RedisFile>()),
        ("redis.tls", fields::<RedisTlsFile>()),
        ("apps", fields::<AppFile>()),
    ];
    let dotted = |(table, fields): &(&str, &[&str])| -> Vec<String> {
        fields.iter().map(|field| format!("{table}.{field}")).collect()
    };
    let is_key = |key: &String| tables.iter().all(|(table, _)| table != key);
    tables.iter().flat_map(dotted).filter(is_key).collect()
}

/// Refuses unknown keys and features that this version lacks; removes what only says that such a feature is off.
pub(super) fn check(flat: &mut Flat) -> Result<(), ConfigError> {
    let known = known();
    for (key, value) in flat.iter() {
        let plain = without_indices(key);
        let place = || Place { key: key.clone(), origin: value.origin().unwrap_or(key).to_owned() };
        if let Some(later) = later(&plain) {
            if later.off.is_some_and(|off| plain == later.key && value.to_string() == off) {
                continue;
            }
            return Err(ConfigError::Lacking { place: place(), feature: later.feature });
        }
        let is_table = matches!(value.kind, config::ValueKind::Table(_));
        if known.contains(&plain) {
            if is_table {
                return Err(ConfigError::Shape { place: place(), expected: "a value, not a table" });
            }
        } else if known.iter().any(|known| is_within(known, &plain)) {
            if !is_table {
                return Err(ConfigError::Shape { place: place(), expected: "a table of keys" });
            }
        } else {
            let place = place();
            let is_variable = place.origin.starts_with("SOUNDPOST_");
            let nearest =
                nearest(&plain, &known).map(|key| if is_variable { variable(&indexed(&key)) } else { key });
            return Err(ConfigError::UnknownKey { place, nearest });
        }
    }
    flat.retain(|key, _| later(&without_indices(key)).is_none());
    Ok(())
}

/// The entry of [`LATER`] for a key, the more exact one first.
fn later(plain: &str) -> Option<&'static Later> {
    LATER.iter().find(|later| plain == later.key || is_within(plain, later.key))
}

/// Whether a key belongs to a table, or to one within it.
fn is_within(key: &str, table: &str) -> bool {
    key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'))
}

/// `apps.0.allowed_origins.1` gives `apps.allowed_origins`.
fn without_indices(key: &str) -> String {
    let is_name = |part: &&str| !part.chars().all(|c| c.is_ascii_digit());
    key.split('.').filter(is_name).collect::<Vec<_>>().join(".")
}

/// The table of a key.
fn table(key: &str) -> &str {
    key.rsplit_once('.').map_or(key, |(table, _)| table)
}

/// The known key that is a slip of the finger away, or the same word under another table.
fn nearest(key: &str, known: &[String]) -> Option<String> {
    let last = |key: &str| key.rsplit_once('.').map_or(key, |(_, last)| last).to_owned();
    let distance = |candidate: &String| {
        let whole = strsim::damerau_levenshtein(key, candidate);
        whole.min(
            strsim::damerau_levenshtein(&last(key), &last(candidate))
                + usize::from(table(key) != table(candidate)),
        )
    };
    let nearest = known.iter().min_by_key(|candidate| distance(candidate))?;
    (distance(nearest) <= 2.max(last(key).len() / 3)).then(|| nearest.clone())
}

/// `apps.key` gives `apps.0.key`.
fn indexed(key: &str) -> String {
    key.replace("apps.", "apps.0.").replace("certificates.", "certificates.0.")
}

/// The variable that sets a key, indices included: `SOUNDPOST_SERVER__PORT`, `SOUNDPOST_APPS__0__KEY`.
pub(super) fn variable(key: &str) -> String {
    format!("SOUNDPOST_{}", key.replace('.', "__").to_uppercase())
}

/// The names of a struct's fields, as serde has them.
fn fields<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    // Ends in `Stop` always: the fields are known by then.
    drop(T::deserialize(Fields(&mut fields)));
    fields
}

struct Fields<'a>(&'a mut &'static [&'static str]);

/// The end of the question what the fields are.
#[derive(Debug)]
struct Stop;

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("only the fields' names were asked for")
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = Stop;

    fn deserialize_any<V: de::Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        Err(Stop)
    }

    fn deserialize_struct<V: de::Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Stop> {
        *self.0 = fields;
        Err(Stop)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
