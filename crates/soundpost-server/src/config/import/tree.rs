//! The settings of another server as paths and values, with a memory of what was asked for: what nobody asked for has no
//! counterpart.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// A value and its path as it is written, for the comment behind the line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    /// A text, a number, true, false, an array of those, or an object without anything in it.
    pub(super) value: Value,
    /// `appManager.array.apps.0.maxConnections`, `SOKETI_PORT`.
    pub(super) from: String,
}

/// Values by path, all parts in `snake_case`: `app_manager.array.apps.0.max_connections`.
#[derive(Debug, Default)]
pub(super) struct Tree {
    leaves: BTreeMap<String, Found>,
    asked: BTreeSet<String>,
}

impl Tree {
    /// Every value of a document. Keys with dots in them (`"appManager.array.apps.0.id"`) are paths, as soketi has them.
    pub(super) fn new(document: &Value) -> Self {
        let mut tree = Self::default();
        tree.add("", "", document);
        tree
    }

    /// Adds a value by its path in `snake_case`; what stood there gives way. Objects, arrays of objects, and webhooks
    /// written as a text of JSON are taken apart; `null` says nothing.
    pub(super) fn add(&mut self, path: &str, from: &str, value: &Value) {
        let joined = |path: &str, part: &str| match path {
            "" => part.to_owned(),
            path => format!("{path}.{part}"),
        };
        let is_array_of_objects =
            value.as_array().is_some_and(|array| !array.is_empty() && array.iter().all(Value::is_object));
        match value {
            Value::Null => {}
            Value::Object(object) if !object.is_empty() => {
                for (key, value) in object {
                    self.add(&joined(path, &snake_case(key)), &joined(from, key), value);
                }
            }
            Value::Array(array) if is_array_of_objects => {
                for (index, value) in array.iter().enumerate() {
                    self.add(&joined(path, &index.to_string()), &joined(from, &index.to_string()), value);
                }
            }
            Value::String(text) if path.ends_with("webhooks") => {
                if let Ok(value @ Value::Array(_)) = serde_json::from_str(text) {
                    self.add(path, from, &value);
                }
            }
            // An empty object may mean something: `{"tls": {}}` does.
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                let found = Found { value: value.clone(), from: from.to_owned() };
                self.leaves.insert(path.to_owned(), found);
            }
        }
    }

    /// The value of a path; from now on somebody has asked for it.
    pub(super) fn take(&mut self, path: &str) -> Option<Found> {
        self.asked.insert(path.to_owned());
        self.leaves.get(path).cloned()
    }

    /// The value of the first of several paths that has one; all of them count as asked for.
    pub(super) fn take_any(&mut self, paths: &[String]) -> Option<Found> {
        let found: Vec<_> = paths.iter().map(|path| self.take(path)).collect();
        found.into_iter().flatten().next()
    }

    /// The indices below a path, in order: of `apps` for `apps.0.id`, `apps.1.id`.
    pub(super) fn indices(&self, path: &str) -> BTreeSet<usize> {
        let index = |(rest, _): (&str, &Found)| rest.split('.').next().and_then(|part| part.parse().ok());
        self.below(path).filter_map(index).collect()
    }

    /// Takes everything below a path: the rest of each path and its value.
    pub(super) fn take_below(&mut self, path: &str) -> Vec<(String, Found)> {
        let below: Vec<_> = self.below(path).map(|(rest, found)| (rest.to_owned(), found.clone())).collect();
        self.asked.extend(below.iter().map(|(rest, _)| format!("{path}.{rest}")));
        below
    }

    fn below<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a str, &'a Found)> {
        let within = move |(key, found): (&'a String, &'a Found)| {
            Some((key.strip_prefix(path)?.strip_prefix('.')?, found))
        };
        self.leaves
            .range(path.to_owned()..)
            .take_while(move |(key, _)| key.starts_with(path))
            .filter_map(within)
    }

    /// What nobody asked for, by path. Empty texts, arrays and objects say nothing.
    pub(super) fn rest(&self) -> impl Iterator<Item = (&str, &Found)> {
        let says_something = |value: &Value| {
            let is_empty =
                value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
            value.as_str() != Some("") && !is_empty
        };
        self.leaves
            .iter()
            .filter(move |(path, found)| !self.asked.contains(*path) && says_something(&found.value))
            .map(|(path, found)| (path.as_str(), found))
    }
}

/// `maxConnections`, `MaxConnections` and `max_connections` are `max_connections`.
fn snake_case(key: &str) -> String {
    let mut text = String::new();
    let mut before = '_';
    for c in key.chars() {
        if c.is_ascii_uppercase() && !matches!(before, '_' | '.') && !before.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(c.to_ascii_lowercase());
        before = c;
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_way_to_write_a_path_is_one() {
        for document in [
            json!({"appManager": {"array": {"apps": [{"maxConnections": 5}]}}}),
            json!({"appManager.array.apps.0.maxConnections": 5}),
            json!({"appManager.array.apps": [{"MaxConnections": 5}]}),
            json!({"app_manager": {"array.apps": [{"max_connections": 5}]}}),
        ] {
            let mut tree = Tree::new(&document);
            assert_eq!(tree.indices("app_manager.array.apps"), BTreeSet::from([0]));
            let found = tree.take("app_manager.array.apps.0.max_connections").unwrap();
            assert_eq!(found.value, 5, "{document}");
            assert_eq!(found.from.to_lowercase().replace('_', ""), "appmanager.array.apps.0.maxconnections");
            assert_eq!(tree.rest().count(), 0);
        }
    }

    #[test]
    fn what_nobody_asked_for_is_the_rest() {
        let mut tree = Tree::new(&json!({"a": {"b": 1, "c": [1, 2], "d": "", "e": [], "f": null}, "ab": 2}));
        assert_eq!(tree.take_below("a").len(), 4);
        assert_eq!(tree.take("f"), None);
        assert_eq!(tree.rest().map(|(path, _)| path).collect::<Vec<_>>(), ["ab"]);
    }

    #[test]
    fn webhooks_may_be_a_text() {
        let mut tree =
            Tree::new(&json!({"webhooks": "[{\"url\":\"https://a.test\"}]", "other": "[{\"b\":1}]"}));
        assert_eq!(tree.take("webhooks.0.url").unwrap().value, "https://a.test");
        assert_eq!(tree.take("other").unwrap().value, "[{\"b\":1}]");
    }
}
