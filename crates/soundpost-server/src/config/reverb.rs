//! What Laravel's `REVERB_*` variables say, in our keys. Source: Reverb's `config/reverb.php`.

use super::{
    ConfigError, Note, dotenv,
    environment::Environment,
    error::Place,
    layers::{Flat, put},
    php::Plain,
    redis::laravel::{self, Connection},
};

/// The table of the app that `REVERB_*` names, and the beginning of those of `config/reverb.php`; no index, so it cannot
/// be taken for one of a file.
pub(super) const TABLE: &str = "apps.reverb";

const SERVER: &[(&str, &str)] = &[
    ("REVERB_SERVER_HOST", "server.host"),
    ("REVERB_SERVER_PORT", "server.port"),
    ("REVERB_SERVER_PATH", "server.path"),
    ("REVERB_HOST", "server.hostname"),
    ("REVERB_MAX_REQUEST_SIZE", "server.request_bytes_max"),
    ("REVERB_SCALING_CHANNEL", "redis.channel"),
];

const APP: &[(&str, &str)] = &[
    ("REVERB_APP_ID", "id"),
    ("REVERB_APP_KEY", "key"),
    ("REVERB_APP_SECRET", "secret"),
    ("REVERB_APP_PING_INTERVAL", "ping_interval_seconds"),
    ("REVERB_APP_ACTIVITY_TIMEOUT", "activity_timeout_seconds"),
    (CONNECTIONS, "connections_max"),
    ("REVERB_APP_MAX_MESSAGE_SIZE", "message_bytes_max"),
];

/// Names whose words mean nothing to `env()` here: a secret `true` is the text.
const TEXTS: &[&str] = &["REVERB_APP_ID", "REVERB_APP_KEY", "REVERB_APP_SECRET"];

/// The origin of what nobody wrote.
pub(super) const DEFAULT: &str = "Reverb's default";

const CONNECTIONS: &str = "REVERB_APP_MAX_CONNECTIONS";
const CLIENT_EVENTS: &str = "REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM";
const RATE_ENABLED: &str = "REVERB_APP_RATE_LIMITING_ENABLED";
const RATE_ATTEMPTS: &str = "REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS";
const RATE_SECONDS: &str = "REVERB_APP_RATE_LIMIT_DECAY_SECONDS";
const RATE_TERMINATE: &str = "REVERB_APP_RATE_LIMIT_TERMINATE";
const SCALING: &str = "REVERB_SCALING_ENABLED";

/// Read by Laravel, or by Reverb for what this server has no use for.
const IGNORED: &[&str] = &[
    "REVERB_SERVER",
    "REVERB_PORT",
    "REVERB_SCHEME",
    "REVERB_PULSE_INGEST_INTERVAL",
    "REVERB_TELESCOPE_INGEST_INTERVAL",
];

/// What holds for an app of Reverb's where nobody wrote anything: no limit on client events alone.
pub(super) fn defaults() -> Flat {
    let mut flat = Flat::new();
    put(&mut flat, "client_events_per_second", DEFAULT, 0_i64);
    flat
}

/// The keys that `REVERB_*` sets; an empty or null variable sets nothing.
///
/// Errors: a switch is neither true nor false; a count lets nobody in; `REDIS_*` do not say where Redis is.
pub(super) fn read(environment: &Environment, notes: &mut Vec<Note>) -> Result<Flat, ConfigError> {
    let mut flat = Flat::new();
    server(environment, &mut flat, notes)?;
    if names_app(environment) {
        app(environment, &mut flat)?;
        notes.push(Note::info("the app is named by REVERB_*: Reverb's defaults hold for it"));
    }
    for name in environment.names("REVERB_") {
        let of_app = is_of_app(name);
        if !variables().any(|known| known == name) {
            notes.push(Note::warning(format!(
                "{} is not a variable of Reverb's, ignored",
                environment.origin(name)
            )));
        } else if of_app && !names_app(environment) && laravel(environment, name).is_some() {
            notes.push(Note::warning(format!("{name} is ignored without REVERB_APP_ID, _KEY and _SECRET")));
        }
    }
    Ok(flat)
}

/// Whether the variables name an app, or a part of one.
pub(super) fn names_app(environment: &Environment) -> bool {
    TEXTS.iter().any(|variable| laravel(environment, variable).is_some())
}

/// Whether a variable is about the app rather than the server.
pub(super) fn is_of_app(name: &str) -> bool {
    name.starts_with("REVERB_APP_")
}

/// The server's part of [`read`]. `REDIS_*` are Laravel's, for its own use too: they count with scaling only.
pub(super) fn server(
    environment: &Environment,
    flat: &mut Flat,
    notes: &mut Vec<Note>,
) -> Result<(), ConfigError> {
    if let Some(on) = switch(environment, SCALING)? {
        put(flat, "redis.enabled", &environment.origin(SCALING), on);
        let connection = if on { Connection::of_variables(environment) } else { Connection::default() };
        for (key, said) in connection.lines(notes)? {
            put(flat, key, &said.origin, said.text);
        }
    }
    for (variable, key) in SERVER {
        if let Some(value) = laravel(environment, variable) {
            put(flat, key, &environment.origin(variable), value);
        }
    }
    Ok(())
}

/// The app's part of [`read`], if there is one.
pub(super) fn app(environment: &Environment, flat: &mut Flat) -> Result<(), ConfigError> {
    let mut set = |key: &str, variable: &str, value: config::ValueKind| {
        put(flat, &format!("{TABLE}.{key}"), &environment.origin(variable), value);
    };
    for (variable, key) in APP {
        if let Some(value) = laravel(environment, variable) {
            set(key, variable, value.into());
        }
    }
    // Reverb compares with `members` and `all`; whatever else stands there, even nothing, is nobody.
    if environment.value(CLIENT_EVENTS).is_some_and(|raw| dotenv::env(raw) != Plain::Null) {
        let mode =
            laravel(environment, CLIENT_EVENTS).filter(|mode| ["members", "all"].contains(&mode.as_str()));
        set("client_events", CLIENT_EVENTS, mode.unwrap_or("none".to_owned()).into());
    }
    lets_somebody_in(environment, CONNECTIONS)?;
    rate(environment, flat)
}

/// The limit on all messages, if the variables say whether there is one.
fn rate(environment: &Environment, flat: &mut Flat) -> Result<(), ConfigError> {
    let Some(enabled) = switch(environment, RATE_ENABLED)? else { return Ok(()) };
    let mut set = |key: &str, origin: &str, value: config::ValueKind| {
        put(flat, &format!("{TABLE}.{key}"), origin, value);
    };
    if let Some(terminate) = switch(environment, RATE_TERMINATE)? {
        set("terminate_on_limit", &environment.origin(RATE_TERMINATE), terminate.into());
    } else {
        set("terminate_on_limit", DEFAULT, false.into());
    }
    if !enabled {
        set("messages_per_window", &environment.origin(RATE_ENABLED), 0_i64.into());
        return Ok(());
    }
    lets_somebody_in(environment, RATE_ATTEMPTS)?;
    for (key, variable) in [("messages_per_window", RATE_ATTEMPTS), ("messages_window_seconds", RATE_SECONDS)]
    {
        match laravel(environment, variable) {
            Some(value) => set(key, &environment.origin(variable), value.into()),
            None => set(key, DEFAULT, 60_i64.into()),
        }
    }
    Ok(())
}

/// Errors: a count is 0 or less, at which Reverb lets nobody and nothing in; here that would be no limit.
fn lets_somebody_in(environment: &Environment, variable: &str) -> Result<(), ConfigError> {
    match laravel(environment, variable).filter(|value| is_shut(value)) {
        Some(found) => {
            let origin = environment.origin(variable);
            let place = Place { key: origin.clone(), origin };
            let expected = format!(
                "a number above 0: Reverb lets {} in at 0; for no limit take it out",
                match variable {
                    CONNECTIONS => "nobody",
                    _ => "no message",
                }
            );
            Err(ConfigError::Value { place, found: format!("{found:?}"), expected })
        }
        None => Ok(()),
    }
}

/// Whether a count lets nothing through in Reverb.
pub(super) fn is_shut(count: &str) -> bool {
    count.trim().parse::<i64>().is_ok_and(|count| count <= 0)
}

/// Every variable that Reverb's own `config/reverb.php` asks for, those that are ignored among them.
pub(super) fn variables() -> impl Iterator<Item = &'static str> {
    let mapped = SERVER.iter().chain(APP).map(|(variable, _)| *variable);
    let special = [CLIENT_EVENTS, RATE_ENABLED, RATE_ATTEMPTS, RATE_SECONDS, RATE_TERMINATE, SCALING];
    let redis = laravel::VARIABLES.iter().map(|(_, variable)| *variable);
    mapped.chain(special).chain(redis).chain(IGNORED.iter().copied())
}

/// Whether a variable is of no use here, whatever it says.
pub(super) fn is_ignored(name: &str) -> bool {
    IGNORED.contains(&name)
}

/// The value that Laravel's `env()` would give, as text, unless it is null or empty.
fn laravel(environment: &Environment, variable: &str) -> Option<String> {
    let raw = environment.value(variable)?;
    let value = match dotenv::env(raw) {
        Plain::Text(text) => text,
        Plain::Boolean(_) if TEXTS.contains(&variable) => raw.to_owned(),
        Plain::Boolean(boolean) => boolean.to_string(),
        Plain::Null | Plain::Whole(_) | Plain::Fraction(_) | Plain::List(_) => return None,
    };
    Some(value).filter(|value| !value.is_empty())
}

/// A variable that is a switch. Stricter than PHP, to which even `off` is true.
fn switch(environment: &Environment, variable: &str) -> Result<Option<bool>, ConfigError> {
    let Some(value) = laravel(environment, variable) else { return Ok(None) };
    match super::checks::boolean(&value) {
        Some(value) => Ok(Some(value)),
        None => {
            let origin = environment.origin(variable);
            let place = Place { key: origin.clone(), origin };
            Err(ConfigError::Value {
                place,
                found: format!("{value:?}"),
                expected: "true or false".to_owned(),
            })
        }
    }
}
