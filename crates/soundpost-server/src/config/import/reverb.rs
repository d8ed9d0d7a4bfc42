//! Laravel's side: `config/reverb.php`, `REVERB_*` of a `.env`, and `PUSHER_*` of an app that was Pusher's.

use std::{collections::BTreeMap, path::Path};

use config::ValueKind;
use serde_json::Value;

use super::{
    super::{
        NoteLevel,
        environment::Environment,
        layers::{Flat, Uncertain},
        php::{self, Lookup},
        reverb, reverb_file,
    },
    ImportError,
    draft::{Draft, Entry, Lines},
    json,
};

const SOURCE: &str = "Laravel Reverb";
/// Keys whose digits are a text.
const TEXTS: &[&str] = &[
    "id",
    "key",
    "secret",
    "server.host",
    "server.hostname",
    "server.path",
    "redis.username",
    "redis.password",
    "redis.channel",
];

/// The draft of a `.env` with `REVERB_*`: what the server itself makes of it.
pub(super) fn from_variables(variables: &BTreeMap<String, String>) -> Draft {
    let mut draft = Draft { source: SOURCE, ..Draft::default() };
    let environment = Environment::new(variables.clone());
    let mut notes = Vec::new();
    match reverb::read(&environment, &mut notes) {
        Ok(flat) => take(&mut draft, flat),
        Err(error) => draft.node.remark(error.to_string()),
    }
    let remarks = notes.into_iter().filter(|note| note.text.contains("ignored"));
    draft.node.remarks.extend(remarks.map(|note| note.text));
    draft.node.remark(
        "beside a .env with REVERB_* the server needs no file: without --config it reads them, and they win over this file",
    );
    draft
}

/// The draft of `config/reverb.php`, with the variables of its `.env`. Errors: it is not such a file, or asks for what
/// this version lacks.
pub(super) fn from_php(
    name: &str,
    text: &str,
    variables: &BTreeMap<String, String>,
) -> Result<Draft, ImportError> {
    let file = php::parse(text)
        .map_err(|error| ImportError::Syntax(format!("{name}:{}: {}", error.line, error.problem)))?;
    // What is not there Laravel takes out of Reverb's own file, as the server does.
    if ["servers", "apps"].iter().all(|key| !is_reverbs(&file, key)) {
        return Err(ImportError::Unknown { name: name.to_owned() });
    }
    let mut draft = Draft { source: SOURCE, ..Draft::default() };
    let environment = Environment::new(variables.clone());
    let mut notes = Vec::new();
    let said = reverb_file::read(Path::new(name), &file, &environment, &mut notes)
        .map_err(|error| ImportError::Syntax(error.to_string()))?;
    let mut apps: BTreeMap<String, Lines> = BTreeMap::new();
    for (key, value) in said.own.into_iter().chain(said.variables) {
        // What the file itself says names the file, which the first line of ours does already.
        let from = value.origin().unwrap_or_default().trim_start_matches(&format!("{name}: ")).to_owned();
        match of_app(&key) {
            _ if value.kind == ValueKind::Nil => {}
            Some((table, key)) => {
                apps.entry(table.to_owned()).or_default().set(key, typed(key, value.kind), &from);
            }
            None => draft.node.set(&key, typed(&key, value.kind), &from),
        }
    }
    for Uncertain { keys, error } in said.uncertain {
        let key = keys.first().map(String::as_str).unwrap_or_default();
        match of_app(key) {
            Some((table, key)) => {
                apps.entry(table.to_owned()).or_default().missing(key, error.to_string());
            }
            None if key.starts_with("server.") || key.starts_with("redis.") => {
                draft.node.missing(key, error.to_string())
            }
            None => draft.node.remark(error.to_string()),
        }
    }
    let is_open = |entry: &Entry| entry.key.starts_with("redis.") && entry.value.is_none();
    if draft.node.entries.iter().any(is_open) {
        let reason = "fill in what is missing of this table, then take away the # of its lines";
        draft.node.missing("redis.enabled", reason.to_owned());
    }
    draft.apps = apps
        .into_values()
        .map(|mut app| {
            finish(&mut app);
            app
        })
        .collect();
    let left_out = notes.into_iter().filter(|note| note.level == NoteLevel::Warning);
    draft.node.remarks.extend(left_out.map(|note| note.text));
    draft.node.remark(
        "the server reads config/reverb.php and its .env itself, without --config; they win over this file, but for \
         --env-only",
    );
    Ok(draft)
}

/// Whether the file has Reverb's servers or Reverb's apps: other files of Laravel's may have something else by that name.
fn is_reverbs(file: &php::Value, key: &str) -> bool {
    let within = match key {
        "servers" => &["reverb"][..],
        _ => &["provider", "apps"],
    };
    match file.get(key) {
        Lookup::Found(table) => within.iter().any(|key| table.get(key) != Lookup::Absent),
        Lookup::Absent => false,
        Lookup::Unreadable(_) => true,
    }
}

/// `apps.reverb_00001.key` is `key` of `apps.reverb_00001`.
fn of_app(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix("apps.")?.split_once('.')
}

/// What holds for an app of Reverb's where nobody wrote anything.
fn finish(app: &mut Lines) {
    for (key, value) in reverb::defaults() {
        if !app.has(&key) {
            app.implied(&key, json(value.kind), SOURCE);
        }
    }
}

fn take(draft: &mut Draft, flat: Flat) {
    let mut app = Lines::default();
    for (key, value) in flat {
        let from = value.origin().unwrap_or_default().to_owned();
        match key.strip_prefix(reverb::TABLE).and_then(|rest| rest.strip_prefix('.')) {
            Some(key) => app.set(key, typed(key, value.kind), &from),
            None => draft.node.set(&key, typed(&key, value.kind), &from),
        }
    }
    if !app.entries.is_empty() {
        finish(&mut app);
        draft.apps.push(app);
    }
}

/// Variables are texts; a number or a switch is written as one.
fn typed(key: &str, kind: ValueKind) -> Value {
    let ValueKind::String(text) = kind else { return json(kind) };
    if TEXTS.contains(&key) {
        return text.into();
    }
    let number = text.trim().parse::<i64>().ok().map(Value::from);
    number.or_else(|| text.trim().parse::<bool>().ok().map(Value::from)).unwrap_or_else(|| text.into())
}

/// The draft of a `.env` for Pusher's own service, or for a server that was put in its place.
pub(super) fn from_pusher(variables: &BTreeMap<String, String>) -> Draft {
    let mut draft = Draft { source: "Pusher", ..Draft::default() };
    let mut app = Lines::default();
    for key in ["id", "key", "secret"] {
        let variable = format!("PUSHER_APP_{}", key.to_uppercase());
        if let Some(value) = variables.get(&variable).filter(|value| !value.is_empty()) {
            app.set(key, value.as_str(), &variable);
        }
    }
    draft.apps.push(app);
    let of_pusher = ["PUSHER_APP_CLUSTER", "PUSHER_HOST", "PUSHER_PORT", "PUSHER_SCHEME"];
    let set: Vec<_> =
        of_pusher.into_iter().filter(|name| variables.get(*name).is_some_and(|v| !v.is_empty())).collect();
    if !set.is_empty() {
        let text = format!(
            "{}: say where Laravel and Echo find the server; set them to this one's address",
            set.join(", ")
        );
        draft.node.remark(text);
    }
    draft
}
