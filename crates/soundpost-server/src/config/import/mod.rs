//! `soundpost import`: the configuration of Laravel Reverb, soketi or Sockudo as a commented `soundpost.toml`.
//!
//! A file is recognised by what it says, not by its name. What is read becomes a [`draft`](draft::Draft), which is
//! rendered line by line as the server takes it. Reads no file and no environment: texts are passed in.

mod convert;
mod draft;
mod redis;
mod render;
mod reverb;
mod shared;
mod sockudo;
mod soketi;
mod tree;
mod webhooks;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod promise_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod webhook_tests;

use std::{collections::BTreeMap, path::Path};

use config::{FileFormat, Source, ValueKind};
use serde_json::Value;

use super::{ConfigError, dotenv, files::BYTES_MAX, layers};
use draft::Draft;

/// A `soundpost.toml`, and what to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The file. It holds the apps' secrets.
    pub text: String,
    /// What it was taken from: `soketi`, `Laravel Reverb`.
    pub source: &'static str,
    /// How many apps it serves; those that are comments do not count.
    pub apps: usize,
    /// How many apps are comments, each with what it lacks.
    pub left_out: usize,
    /// Why the server does not start with it as it is, in one line.
    pub problem: Option<String>,
}

/// Why nothing was imported. One line, without a secret.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be parsed as what it looks like.
    #[error("{0}")]
    Syntax(String),
    /// More than [`BYTES_MAX`].
    #[error("{name} has more than {BYTES_MAX} bytes; that is no configuration")]
    TooLong {
        /// The file.
        name: String,
    },
    /// It is ours already.
    #[error("{name} is a configuration of Soundpost already: use it with --config")]
    Ours {
        /// The file.
        name: String,
    },
    /// Nothing that is known here.
    #[error(
        "{name} is none of the configurations that are known: Laravel's config/reverb.php or a .env with REVERB_*, \
         SOKETI_* or PUSHER_APP_*, soketi's JSON, Sockudo's TOML or JSON"
    )]
    Unknown {
        /// The file.
        name: String,
    },
}

/// Imports the text of a file that is called `name`. `dotenv` is the text of the `.env` that belongs to it, for files
/// that refer to variables.
///
/// Errors: [`ImportError`].
pub fn import(name: &str, text: &str, dotenv: Option<&str>) -> Result<Imported, ImportError> {
    if text.len() > BYTES_MAX {
        return Err(ImportError::TooLong { name: name.to_owned() });
    }
    let text = text.trim_start_matches('\u{feff}');
    let start = text.trim_start();
    let draft = if start.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("<?php")) {
        reverb::from_php(name, text, &variables_of(dotenv)?)?
    } else if start.starts_with('{') {
        from_json(name, text, dotenv)?
    } else {
        from_lines(name, text, dotenv)?
    };
    Ok(render::render(&draft, name))
}

fn from_json(name: &str, text: &str, dotenv: Option<&str>) -> Result<Draft, ImportError> {
    let parse = |text: &str| serde_json::from_str::<Value>(text);
    // soketi takes a text as it stands, Sockudo replaces `${NAME}` in it, even where that stands for a number.
    if let Some(document) = parse(text).ok().filter(|document| !sockudo::is_sockudo(document)) {
        return match soketi::is_soketi(&document) {
            true => Ok(soketi::from_json(&document)),
            false => Err(ImportError::Unknown { name: name.to_owned() }),
        };
    }
    let document = parse(&with_variables(text, dotenv)?).map_err(|error| {
        // Where it is, and never the text that stands there.
        ImportError::Syntax(format!("{name}:{}:{}: this is not JSON", error.line(), error.column()))
    })?;
    match sockudo::is_sockudo(&document) {
        true => Ok(sockudo::draft(&document)),
        false => Err(ImportError::Unknown { name: name.to_owned() }),
    }
}

/// A `.env`, or TOML.
fn from_lines(name: &str, text: &str, dotenv: Option<&str>) -> Result<Draft, ImportError> {
    let variables = dotenv::parse(text, Path::new(name), &BTreeMap::new());
    if let Ok(variables) = &variables
        && let Some(draft) = from_variables(variables)
    {
        return Ok(draft);
    }
    let toml = config::File::from_str(&with_variables(text, dotenv)?, FileFormat::Toml).collect();
    match (toml, variables) {
        (Ok(values), _) => {
            let document: Value = values.into_iter().map(|(key, value)| (key, json(value.kind))).collect();
            if sockudo::is_sockudo(&document) {
                Ok(sockudo::draft(&document))
            } else if ["apps", "server", "admin"].iter().any(|table| document.get(table).is_some()) {
                Err(ImportError::Ours { name: name.to_owned() })
            } else {
                Err(ImportError::Unknown { name: name.to_owned() })
            }
        }
        // Which of the two it was meant to be shows in its tables.
        (Err(error), _) if text.lines().any(|line| line.trim_start().starts_with('[')) => {
            Err(ImportError::Syntax(layers::syntax(name.into(), &error).to_string()))
        }
        (Err(_), Err(error @ ConfigError::Syntax { .. })) if has_known_variables(text) => {
            Err(ImportError::Syntax(error.to_string()))
        }
        (Err(_), _) => Err(ImportError::Unknown { name: name.to_owned() }),
    }
}

fn has_known_variables(text: &str) -> bool {
    ["REVERB_", "SOKETI_", "PUSHER_APP_"].iter().any(|prefix| text.contains(prefix))
}

/// The draft of variables that are known by name; those that name an app go before the others.
fn from_variables(variables: &BTreeMap<String, String>) -> Option<Draft> {
    let has =
        |prefix: &str| variables.iter().any(|(name, value)| name.starts_with(prefix) && !value.is_empty());
    let names = |prefix: &str| ["ID", "KEY", "SECRET"].iter().any(|key| has(&format!("{prefix}{key}")));
    if names("REVERB_APP_") {
        Some(reverb::from_variables(variables))
    } else if has("SOKETI_") {
        Some(soketi::from_variables(variables))
    } else if names("PUSHER_APP_") {
        Some(reverb::from_pusher(variables))
    } else if has("REVERB_") {
        Some(reverb::from_variables(variables))
    } else {
        None
    }
}

/// The variables of the `.env` that belongs to a file, if there is one. Errors: it cannot be read.
fn variables_of(dotenv: Option<&str>) -> Result<BTreeMap<String, String>, ImportError> {
    let parse = |text| dotenv::parse(text, Path::new(".env"), &BTreeMap::new());
    dotenv.map_or(Ok(BTreeMap::new()), parse).map_err(|error| ImportError::Syntax(error.to_string()))
}

/// The text with `${NAME}` and `${NAME:-default}` replaced as Sockudo does, from the `.env` alone. What is not known
/// stays.
fn with_variables(text: &str, dotenv: Option<&str>) -> Result<String, ImportError> {
    let variables = variables_of(dotenv)?;
    let mut parts = text.split("${");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let value = part.split_once('}').and_then(|(inner, rest)| {
            let (variable, default) = inner.split_once(":-").map_or((inner, None), |(v, d)| (v, Some(d)));
            let is_name =
                !variable.is_empty() && variable.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let known = variables.get(variable).map(String::as_str).filter(|value| !value.is_empty());
            Some((known.or(default).filter(|_| is_name)?.to_owned(), rest))
        });
        match value {
            Some((value, rest)) => result.extend([value.as_str(), rest]),
            None => result.extend(["${", part]),
        }
    }
    Ok(result)
}

/// The config crate's value as JSON has it.
fn json(kind: ValueKind) -> Value {
    match kind {
        ValueKind::Nil => Value::Null,
        ValueKind::Boolean(value) => value.into(),
        ValueKind::I64(value) => value.into(),
        ValueKind::I128(value) => i64::try_from(value).unwrap_or(i64::MAX).into(),
        ValueKind::U64(value) => value.into(),
        ValueKind::U128(value) => u64::try_from(value).unwrap_or(u64::MAX).into(),
        ValueKind::Float(value) => value.into(),
        ValueKind::String(value) => value.into(),
        ValueKind::Table(table) => table.into_iter().map(|(key, value)| (key, json(value.kind))).collect(),
        ValueKind::Array(array) => array.into_iter().map(|value| json(value.kind)).collect(),
    }
}
