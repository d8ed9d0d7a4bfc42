//! A `soundpost.toml` in the making: lines with what each was taken from, comments for what has no counterpart.
//!
//! Nothing is written that the server would refuse: every line is tried as the server reads it, and one that is refused
//! becomes a comment with the reason. Secrets stand in lines that count and never in comments.

use serde_json::Value;

use super::{
    convert::{Form, convert},
    tree::Found,
};

/// The file so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// `soketi`, `Laravel Reverb`.
    pub(super) source: &'static str,
    /// Lines of `[server]`, `[admin]` and `[redis]`, with their tables: `server.port`.
    pub(super) node: Lines,
    /// The apps in their order.
    pub(super) apps: Vec<Lines>,
}

/// The lines of one table, or of the node's tables.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) entries: Vec<Entry>,
    /// What has no counterpart, or needs a word.
    pub(super) remarks: Vec<String>,
    /// Of an app: its webhooks, each a table of its own.
    pub(super) webhooks: Vec<Lines>,
    /// Why the whole table is a comment, if it is one already here.
    pub(super) left_out: Option<String>,
}

/// One key.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Within its table for an app (`key`), with it for the node (`server.port`).
    pub(super) key: String,
    /// Nothing where the value stands in a variable that is not known here.
    pub(super) value: Option<Value>,
    /// What stands behind the line: `from SOKETI_PORT`, `soketi's default`.
    pub(super) note: String,
}

impl Lines {
    /// A line that was taken from somewhere.
    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>, from: &str) {
        self.put(key, Some(value.into()), format!("from {from}"));
    }

    /// A line for what holds there where nothing is written, and is not what holds here.
    pub(super) fn implied(&mut self, key: &str, value: impl Into<Value>, whose: &str) {
        self.put(key, Some(value.into()), format!("{whose}'s default"));
    }

    /// A line with a note of its own.
    pub(super) fn noted(&mut self, key: &str, value: impl Into<Value>, note: &str) {
        self.put(key, Some(value.into()), note.to_owned());
    }

    /// A line whose value is in a variable that is not known here.
    pub(super) fn missing(&mut self, key: &str, note: String) {
        self.put(key, None, note);
    }

    fn put(&mut self, key: &str, value: Option<Value>, note: String) {
        self.entries.retain(|entry| entry.key != key);
        self.entries.push(Entry { key: key.to_owned(), value, note });
    }

    /// A line in our units, or a remark that the value is none. Nothing found is no line.
    pub(super) fn take(&mut self, key: &str, found: Option<Found>, form: Form) {
        let Some(Found { value, from }) = found else { return };
        match convert(&value, form) {
            Ok(value) => self.set(key, value, &from),
            Err(expected) => self.remark(format!("{from} is not {expected}")),
        }
    }

    /// The same, with what holds there where nothing is written.
    pub(super) fn take_or(
        &mut self,
        key: &str,
        found: Option<Found>,
        form: Form,
        default: impl Into<Value>,
        whose: &str,
    ) {
        match found {
            Some(found) => self.take(key, Some(found), form),
            None => self.implied(key, default, whose),
        }
    }

    pub(super) fn remark(&mut self, remark: impl Into<String>) {
        self.remarks.push(remark.into());
    }

    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|entry| entry.key == key)?.value.as_ref()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }
}
