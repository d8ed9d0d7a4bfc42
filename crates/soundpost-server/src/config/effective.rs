//! What each key comes to in the end, for `soundpost check`. The checks note it as they go, so that no key is forgotten
//! and none is shown that the server does not follow. Secrets are never taken in.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use serde_json::Value;

/// What stands in place of a secret.
pub(super) const HIDDEN: &str = "(hidden)";

/// Words in a key's name that say its value is a secret.
const SECRET_WORDS: &[&str] = &["secret", "pass", "token", "credential"];

/// Values by key, as [`Table`](super::checks::Table) looks them up.
#[derive(Debug, Default)]
pub(super) struct Values(RefCell<BTreeMap<String, Value>>);

impl Values {
    /// Notes a value, or that there is none (`null`); the last word counts.
    pub(super) fn note(&self, key: &str, value: Value) {
        let value = if is_secret(key) { Value::from(HIDDEN) } else { masked(value) };
        self.0.borrow_mut().insert(key.to_owned(), value);
    }

    /// The indices of a list of tables, in order: of `list` for `list.0.key`.
    pub(super) fn indices(&self, list: &str) -> BTreeSet<usize> {
        let index = |key: &String| key.strip_prefix(list)?.strip_prefix('.')?.split('.').next()?.parse().ok();
        self.0.borrow().keys().filter_map(index).collect()
    }

    /// The value, unless nobody noted one.
    pub(super) fn value(&self, key: &str) -> Option<Value> {
        self.0.borrow().get(key).cloned().filter(|value| !value.is_null())
    }
}

/// Whether the last part of a key (`apps.0.secret`, `REDIS_PASSWORD`) names a secret.
pub(super) fn is_secret(key: &str) -> bool {
    let last = key.rsplit('.').next().unwrap_or(key).to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| last.contains(word))
}

/// The value without the user and password that URLs may hold.
pub(super) fn masked(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(masked_text(&text)),
        Value::Array(values) => values.into_iter().map(masked).collect(),
        Value::Object(values) => values.into_iter().map(|(key, value)| (key, masked(value))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

/// `redis://user:password@host/0` gives `redis://(hidden)@host/0`.
fn masked_text(text: &str) -> String {
    // A password may hold any character, so the last `@` ends it; a path with an `@` hides a little too much.
    match text.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
        Some((scheme, (_, host))) => format!("{scheme}://{HIDDEN}@{host}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_hidden_by_the_names_of_their_keys() {
        for (key, hidden) in [
            ("apps.0.secret", true),
            ("previous_secret", true),
            ("server.tls.passphrase", true),
            ("REDIS_PASSWORD", true),
            ("apps.0.key", false),
            ("server.tls.key", false),
            ("apps.0.messages_per_minute", false),
        ] {
            let values = Values::default();
            values.note(key, json!("hush"));
            assert_eq!(values.value(key) == Some(json!(HIDDEN)), hidden, "{key}");
        }
    }

    #[test]
    fn urls_are_shown_without_who_logs_in() {
        for (text, expected) in [
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("redis://:hush@127.0.0.1:6379/0", "redis://(hidden)@127.0.0.1:6379/0"),
            ("redis://me:hu/sh@host/0", "redis://(hidden)@host/0"),
            ("someone@app.test", "someone@app.test"),
        ] {
            let values = Values::default();
            values.note("redis.url", json!([text]));
            assert_eq!(values.value("redis.url"), Some(json!([expected])), "{text}");
        }
    }
}
