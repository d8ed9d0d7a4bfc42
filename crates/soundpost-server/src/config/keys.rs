//! Which keys there are: those of the written types.

use std::fmt;

use config::{Value, ValueKind};
use serde::{Deserialize, Deserializer, de};

use super::{
    ConfigError,
    error::Place,
    layers::Flat,
    written::{
        AdminFile, AppFile, CertificateFile, FilterFile, LaravelQueueFile, RedisFile, RedisTlsFile,
        ServerFile, TlsFile, WebhookFile,
    },
};

/// Tables that are numbered within their own, and how they are written.
const LISTS: [(&str, &str); 2] = [
    (
        "server.tls.certificates",
        "tables with keys, as [[server.tls.certificates]] makes them, or a number in the variable, as \
         SOUNDPOST_SERVER__TLS__CERTIFICATES__0__CERTIFICATE",
    ),
    (
        "apps.webhooks",
        "tables with keys, as [[apps.webhooks]] makes them, or a number in the variable, as \
         SOUNDPOST_APPS__0__WEBHOOKS__0__URL",
    ),
];

/// The one key whose value is a table of names that are not ours. It is kept as the text of a JSON object, which is how
/// its variable has it: such a name may hold dots, and a variable's name not everything that such a name may.
const MAP: &str = "apps.webhooks.headers";

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
        ("apps.webhooks", fields::<WebhookFile>()),
        ("apps.webhooks.filter", fields::<FilterFile>()),
        ("apps.webhooks.laravel_queue", fields::<LaravelQueueFile>()),
    ];
    let dotted = |(table, fields): &(&str, &[&str])| -> Vec<String> {
        fields.iter().map(|field| format!("{table}.{field}")).collect()
    };
    let is_key = |key: &String| tables.iter().all(|(table, _)| table != key);
    tables.iter().flat_map(dotted).filter(is_key).collect()
}

/// Refuses unknown keys and values of another shape; removes lists of nothing, which say nothing.
pub(super) fn check(flat: &mut Flat) -> Result<(), ConfigError> {
    let known = known();
    flat.retain(|key, value| {
        !(LISTS.iter().any(|(list, _)| without_indices(key) == *list) && is_empty_list(value))
    });
    for (key, value) in flat.iter() {
        let plain = without_indices(key);
        let place = || Place { key: key.clone(), origin: value.origin().unwrap_or(key).to_owned() };
        let is_table = matches!(value.kind, ValueKind::Table(_));
        if let Some(expected) = badly_numbered(key, is_table) {
            return Err(ConfigError::Shape { place: place(), expected });
        }
        if known.contains(&plain) {
            if is_table {
                return Err(ConfigError::Shape { place: place(), expected: "a value, not a table" });
            }
        } else if known.iter().any(|known| is_within(known, &plain)) {
            if !is_table {
                return Err(ConfigError::Shape { place: place(), expected: "a table of keys" });
            }
        } else if is_within(&plain, MAP) {
            let expected = "all headers as one JSON object of texts, in a variable that ends in __HEADERS";
            return Err(ConfigError::Shape { place: place(), expected });
        } else {
            let place = place();
            let is_variable = place.origin.starts_with("SOUNDPOST_");
            let nearest =
                nearest(&plain, &known).map(|key| if is_variable { variable(&indexed(&key)) } else { key });
            return Err(ConfigError::UnknownKey { place, nearest });
        }
    }
    Ok(())
}

fn is_empty_list(value: &Value) -> bool {
    matches!(&value.kind, ValueKind::Array(array) if array.is_empty())
}

/// What belongs there, if the key is one of [`LISTS`] or below it and its table has no number or no keys.
fn badly_numbered(key: &str, is_table: bool) -> Option<&'static str> {
    let mut names = Vec::new();
    let mut parts = key.split('.');
    while let Some(part) = parts.next() {
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        names.push(part);
        let name = names.join(".");
        let Some((_, expected)) = LISTS.iter().find(|(list, _)| *list == name) else { continue };
        let is_number = |index: &str| index.parse::<u16>().is_ok_and(|number| number.to_string() == index);
        let is_good = parts.next().is_some_and(is_number) && !(is_table && parts.next().is_none());
        return (!is_good).then_some(*expected);
    }
    None
}

/// Whether the key's table is one value: see [`MAP`].
pub(super) fn is_map(key: &str) -> bool {
    without_indices(key) == MAP
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
pub(super) fn indexed(key: &str) -> String {
    let numbered = |key: String, list: &str| key.replace(&format!("{list}."), &format!("{list}.0."));
    ["apps", "certificates", "webhooks"].into_iter().fold(key.to_owned(), numbered)
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
