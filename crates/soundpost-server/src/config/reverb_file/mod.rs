//! What `config/reverb.php` says, in our keys. Reverb reads this file and no variable, so where there is one it decides
//! what `REVERB_*` mean.
//!
//! A value made of variables that are set counts as theirs; what the file itself says gives way to our own file. What is
//! not certain is kept as [`Uncertain`]: to ignore it could open an app to the world. Source: Reverb's
//! `ConfigApplicationProvider`, `Factory`, `StartServer`.

mod apps;
mod scaling;

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use config::ValueKind;

use super::{
    ConfigError, Files, Note, dotenv,
    environment::Environment,
    error::Place,
    files::read_text,
    keys,
    layers::{Flat, Uncertain, put},
    php::{self, Evaluated, Key, Kind, Lookup, Plain, Unread, Value},
    reverb,
};

/// Where Laravel keeps it, from the folder of its `.env`.
const NAME: &str = "config/reverb.php";

/// The file's keys under `servers.reverb`, with ours.
const SERVER: &[(&[&str], &str)] = &[
    (&["host"], "server.host"),
    (&["port"], "server.port"),
    (&["path"], "server.path"),
    (&["hostname"], "server.hostname"),
    (&["max_request_size"], "server.request_bytes_max"),
    (&["scaling", "channel"], "redis.channel"),
    (&["options", "tls", "local_cert"], "server.tls.certificate"),
    (&["options", "tls", "local_pk"], "server.tls.key"),
    (&["options", "tls", "passphrase"], "server.tls.passphrase"),
];

/// Keys that must not be null because a variable is set nowhere: what they limit would have no limit.
const GUARDS: &[&str] = &["host", "max_request_size", "max_connections", "max_message_size"];

/// Reverb's own defaults that differ from ours where the file stands beside no variable: they say nothing.
const STOCK: &[(&str, &str)] =
    &[("server.host", "0.0.0.0"), ("server.request_bytes_max", "10000"), ("redis.channel", "reverb")];

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// In its own words: literals, and defaults of variables that are not set.
    pub(super) own: Flat,
    /// By variables that are set.
    pub(super) variables: Flat,
    /// What is not certain.
    pub(super) uncertain: Vec<Uncertain>,
}

/// The file and its tree, from the first of `folders` that has one; each that was looked for is noted in `files`. Errors: it is there and cannot be read.
pub(super) fn find(folders: &[PathBuf], files: &mut Files) -> Result<Option<(PathBuf, Value)>, ConfigError> {
    for folder in folders {
        let path = folder.join(NAME);
        files.note(&path);
        let text = match read_text(&path) {
            Err(ConfigError::Read { source, .. })
                if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                continue;
            }
            read => read?,
        };
        return match php::parse(&text) {
            Ok(value) => Ok(Some((path, value))),
            Err(error) => {
                let problem = format!(
                    "{}, which is not read without PHP; write the settings into soundpost.toml and start with --env-only",
                    error.problem
                );
                Err(ConfigError::Syntax { path, line: Some(error.line), problem })
            }
        };
    }
    Ok(None)
}

/// The keys that the file sets. Errors: it asks for a feature that this version lacks; a switch is neither on nor off.
pub(super) fn read(
    path: &Path,
    file: &Value,
    environment: &Environment,
    notes: &mut Vec<Note>,
) -> Result<Said, ConfigError> {
    let mut reader = Reader { path, environment, said: Said::default() };
    // Laravel takes what the file does not have out of Reverb's own one, which asks for the usual variables.
    let lacks = |key| file.get(key) == Lookup::Absent;
    let (lacks_server, lacks_apps) = (lacks("servers"), lacks("apps"));
    reader.server(file, notes)?;
    keys::check(&mut reader.said.own)?;
    keys::check(&mut reader.said.variables)?;
    if lacks_server {
        reverb::server(environment, &mut reader.said.variables, notes)?;
    }
    reader.other_tls(file, notes);
    let mut count = reader.apps(file, notes)?;
    if lacks_apps && reverb::names_app(environment) {
        reverb::app(environment, &mut reader.said.variables)?;
        count = 1;
    }
    let path = path.display();
    notes.push(Note::info(format!("{path} says what REVERB_* mean")));
    if count > 0 {
        notes.push(Note::info(format!("the apps of {path} have Reverb's defaults")));
    }
    let mut used = BTreeSet::new();
    variables(file, &mut used);
    for name in environment.names("REVERB_").into_iter().filter(|name| !used.contains(name)) {
        let is_stock = reverb::variables().any(|known| known == name);
        let is_read = is_stock && if reverb::is_of_app(name) { lacks_apps } else { lacks_server };
        if !is_read && !reverb::is_ignored(name) {
            let origin = environment.origin(name);
            notes.push(Note::warning(format!("{origin} is ignored: {path} does not read it")));
        }
    }
    Ok(reader.said)
}

/// The names that a value asks the environment for, wherever in it.
fn variables<'a>(value: &'a Value, names: &mut BTreeSet<&'a str>) {
    match &value.kind {
        Kind::Env { name, default } => {
            names.insert(name);
            default.iter().for_each(|default| variables(default, names));
        }
        Kind::Array(items) => items.iter().for_each(|item| variables(&item.value, names)),
        Kind::Cast(_, inner) => variables(inner, names),
        Kind::Call(_, parts) | Kind::Joined(parts) => parts.iter().for_each(|part| variables(part, names)),
        Kind::Coalesced(first, second) | Kind::Chosen(first, second) => {
            variables(first, names);
            variables(second, names);
        }
        Kind::Null
        | Kind::Boolean(_)
        | Kind::Whole(_)
        | Kind::Fraction(_)
        | Kind::Text(_)
        | Kind::Unreadable(_) => {}
    }
}

struct Reader<'a> {
    path: &'a Path,
    environment: &'a Environment,
    said: Said,
}

impl Reader<'_> {
    fn evaluate(&self, value: &Value) -> Result<Evaluated, Unread> {
        php::evaluate(value, &|name| self.environment.value(name).map(dotenv::env))
    }

    /// What stands under several keys in a row, evaluated; `None` if one of them is not there.
    fn at(&self, value: &Value, keys: &[&str]) -> Result<Option<(Evaluated, usize)>, Unread> {
        match look_up(value, keys)? {
            Some(found) => self.evaluate(found).map(|evaluated| Some((evaluated, found.line))),
            None => Ok(None),
        }
    }

    /// Puts a value where it belongs, with the name of its variable or its place in the file.
    fn put(&mut self, key: &str, dotted: &str, from: &Evaluated, value: impl Into<ValueKind>) {
        let origin = self.origin(from, dotted);
        let flat = if from.variables.is_empty() { &mut self.said.own } else { &mut self.said.variables };
        put(flat, key, &origin, value);
    }

    /// The first variable that a value is made of, or its place in the file.
    fn origin(&self, from: &Evaluated, dotted: &str) -> String {
        from.variables.first().map_or_else(|| self.own(dotted), |name| self.environment.origin(name))
    }

    /// The origin of what the file itself says.
    fn own(&self, dotted: &str) -> String {
        format!("{}: {dotted}", self.path.display())
    }

    fn doubt(&mut self, keys: &[&str], line: usize, dotted: &str, problem: String, remedy: String) {
        let error = ConfigError::Uncertain {
            path: self.path.to_owned(),
            line,
            key: dotted.to_owned(),
            problem,
            remedy,
        };
        self.said
            .uncertain
            .push(Uncertain { keys: keys.iter().map(|key| (*key).to_owned()).collect(), error });
    }

    fn server(&mut self, file: &Value, notes: &mut Vec<Note>) -> Result<(), ConfigError> {
        for (keys, ours) in SERVER {
            let keys = [&["servers", "reverb"], *keys].concat();
            let dotted = keys.join(".");
            let doubt = |reader: &mut Self, line, problem| {
                reader.doubt(&[ours], line, &dotted, problem, remedy(ours))
            };
            match self.at(file, &keys) {
                Ok(None) => {}
                Ok(Some((found, line))) => match scalar(&found.plain) {
                    Some(kind) => {
                        let is_stock =
                            STOCK.contains(&(*ours, &*kind.to_string())) && found.variables.is_empty();
                        if !is_stock {
                            self.put(ours, &dotted, &found, kind);
                        }
                    }
                    None => {
                        let is_guard = keys.last().is_some_and(|key| GUARDS.contains(key));
                        if let Some(problem) = why_not(&found, is_guard) {
                            doubt(self, line, problem);
                        }
                    }
                },
                Err(unread) => doubt(self, unread.line, is_unread(&unread)),
            }
        }
        self.one_file_for_both();
        self.scaling(file, notes)
    }

    /// PHP takes the key out of the certificate's file where no other is named.
    fn one_file_for_both(&mut self) {
        for flat in [&mut self.said.own, &mut self.said.variables] {
            if let Some(certificate) = flat.get("server.tls.certificate").cloned() {
                flat.entry("server.tls.key".to_owned()).or_insert(certificate);
            }
        }
    }

    /// Names what else stands beside a certificate.
    fn other_tls(&self, file: &Value, notes: &mut Vec<Note>) {
        let keys = ["servers", "reverb", "options", "tls"];
        if let Ok(Some(Value { kind: Kind::Array(items), .. })) = look_up(file, &keys) {
            for item in items {
                let Key::Text(name) = &item.key else { continue };
                if !["local_cert", "local_pk", "passphrase"].contains(&name.as_str()) {
                    let place = self.own(&format!("{}.{name}", keys.join(".")));
                    notes.push(Note::warning(format!("{place} is ignored")));
                }
            }
        }
    }

    fn place(&self, found: &Evaluated, dotted: &str) -> Place {
        let origin = self.origin(found, dotted);
        Place { key: origin.clone(), origin }
    }

    /// A switch; stricter than PHP, to which even `off` is true.
    fn switch(&self, found: &Evaluated, dotted: &str) -> Result<bool, ConfigError> {
        let on = match &found.plain {
            Plain::Null => Some(false),
            Plain::Boolean(on) => Some(*on),
            Plain::Text(text) if text.is_empty() => Some(false),
            Plain::Text(text) => super::checks::boolean(text),
            Plain::Whole(number @ (0 | 1)) => Some(*number == 1),
            Plain::Whole(_) | Plain::Fraction(_) | Plain::List(_) => None,
        };
        on.ok_or_else(|| ConfigError::Value {
            place: self.place(found, dotted),
            found: scalar(&found.plain).map_or("a list".to_owned(), |kind| format!("{:?}", kind.to_string())),
            expected: "true or false".to_owned(),
        })
    }
}

/// What stands under several keys in a row.
fn look_up<'a>(value: &'a Value, keys: &[&str]) -> Result<Option<&'a Value>, Unread> {
    let mut value = value;
    for key in keys {
        match value.get(key) {
            Lookup::Found(found) => value = found,
            Lookup::Absent => return Ok(None),
            Lookup::Unreadable(unread) => return Err(unread),
        }
    }
    Ok(Some(value))
}

/// A value that one key can hold; `None` for null, for nothing and for lists.
fn scalar(plain: &Plain) -> Option<ValueKind> {
    match plain {
        Plain::Boolean(boolean) => Some((*boolean).into()),
        Plain::Whole(number) => Some((*number).into()),
        Plain::Fraction(number) => Some((*number).into()),
        Plain::Text(text) if !text.is_empty() => Some(text.as_str().into()),
        Plain::Null | Plain::Text(_) | Plain::List(_) => None,
    }
}

/// A variable that is set nowhere and is not one of Reverb's own, which may be left unset.
fn unknown(found: &Evaluated) -> Option<&String> {
    found.unset.as_ref().filter(|name| !reverb::variables().any(|known| known == *name))
}

/// What is wrong with a value that says nothing, if anything is.
fn why_not(found: &Evaluated, is_guard: bool) -> Option<String> {
    match (&found.plain, unknown(found)) {
        (Plain::List(_), _) => Some("is a list".to_owned()),
        (_, Some(name)) if is_guard => Some(format!("asks for {name}, which is set nowhere")),
        _ => None,
    }
}

fn is_unread(unread: &Unread) -> String {
    format!("is {}, which is not read without PHP", unread.what)
}

/// What to set in place of a key of the server's.
fn remedy(key: &str) -> String {
    format!("set {key} in soundpost.toml, or SOUNDPOST_{}", key.replace('.', "__").to_uppercase())
}
