//! The apps: from what was written of each to what it means.

use std::{collections::BTreeMap, time::Duration};

use soundpost_protocol::app::{App, AppId, AppKey, AppSecret, ClientEvents, Limits, MessageRate, Origins};

use super::{
    ConfigError, DEVELOPMENT_SECRET, Note,
    checks::Table,
    layers::{LayeredApp, missing},
    resolve::BYTES_MAX,
    secrets,
    webhooks::webhooks,
    written::{AppFile, Scalar, Secret},
};

const DAY: u32 = 86_400;
const CACHE_BYTES_MAX: u32 = 1 << 30;

/// Every app, in their order, with notes on secrets. `has_redis`: the nodes meet at one, so that webhooks may use it.
/// Errors: a value that is none, a key that two of them share.
pub(super) fn apps(
    written: &[LayeredApp],
    has_redis: bool,
    notes: &mut Vec<Note>,
) -> Result<Vec<App>, ConfigError> {
    let apps = written.iter().map(|written| app(written, has_redis, notes)).collect::<Result<Vec<_>, _>>()?;
    distinct_keys(written, &apps)?;
    Ok(apps)
}

/// Errors: two apps share a key; which of them a client means could not be told.
fn distinct_keys(written: &[LayeredApp], apps: &[App]) -> Result<(), ConfigError> {
    let mut seen = BTreeMap::new();
    for (written, app) in written.iter().zip(apps) {
        let place = table(written).at("key").to_string();
        if let Some(first) = seen.insert(app.key.clone(), place.clone()) {
            let value = app.key.to_string();
            return Err(ConfigError::Shared { what: "a key", value, first, second: place });
        }
    }
    Ok(())
}

/// Errors: an app that other machines can reach has the development app's secret, which everybody knows.
pub(super) fn no_public_secret(written: &[LayeredApp]) -> Result<(), ConfigError> {
    for written in written {
        let table = table(written);
        for (key, secret) in
            [("secret", &written.app.secret), ("previous_secret", &written.app.previous_secret)]
        {
            if let Some(secret) = secret
                && table.text(key, &secret.0).is_ok_and(|secret| secret == DEVELOPMENT_SECRET)
            {
                let problem =
                    "is the development app's, which everybody knows; choose another, or listen on 127.0.0.1";
                return Err(ConfigError::Secret { place: table.at(key), problem });
            }
        }
    }
    Ok(())
}

fn table(written: &LayeredApp) -> Table<'_> {
    Table { name: &written.table, origins: &written.origins, dotted: false, values: &written.values }
}

fn app(written: &LayeredApp, has_redis: bool, notes: &mut Vec<Note>) -> Result<App, ConfigError> {
    let table = table(written);
    let file = &written.app;
    let name = |key: &str, scalar: &Option<Scalar>| match scalar {
        Some(scalar) => Ok(table.text(key, scalar)?.into_owned()),
        None => Err(missing(table.name, key)),
    };
    let id = name("id", &file.id)?;
    let key = name("key", &file.key)?;
    let id =
        AppId::parse(&id).map_err(|source| ConfigError::Name { place: table.at("id"), found: id, source })?;
    let key = AppKey::parse(&key).map_err(|source| ConfigError::Name {
        place: table.at("key"),
        found: key,
        source,
    })?;
    let secret = secret(table, file, notes)?;
    let mut app = App::new(id, key, secret);
    app.previous_secret = previous_secret(table, file, &app.secret, notes)?;
    app.enabled = table.boolean("enabled", file.enabled.as_ref(), app.enabled)?;
    app.tls_only = table.boolean("tls_only", file.tls_only.as_ref(), app.tls_only)?;
    let modes =
        [("members", ClientEvents::Members), ("all", ClientEvents::All), ("none", ClientEvents::None)];
    app.client_events =
        table.word("client_events", file.client_events.as_ref(), app.client_events, &modes)?;
    let rate = "client_events_per_second";
    app.client_events_per_second =
        table.count(rate, file.client_events_per_second.as_ref(), app.client_events_per_second)?;
    let public = file.client_events_on_public.as_ref();
    app.client_events_on_public =
        table.boolean("client_events_on_public", public, app.client_events_on_public)?;
    app.message_rate = message_rate(table, file)?;
    match &file.allowed_origins {
        Some(entries) => app.allowed_origins = Origins::new(table.texts("allowed_origins", entries)?),
        None => table.note("allowed_origins", vec!["*"]),
    }
    let requests = file.requests_per_second.as_ref();
    app.requests_per_second = table.count("requests_per_second", requests, app.requests_per_second)?;
    app.connections_max =
        table.count("connections_max", file.connections_max.as_ref(), app.connections_max)?;
    timeouts(table, file, &mut app)?;
    users_and_caches(table, file, &mut app)?;
    app.strict_info = table.boolean("strict_info", file.strict_info.as_ref(), app.strict_info)?;
    app.limits = limits(table, file, &app.limits)?;
    app.webhooks = webhooks(table, &file.webhooks, has_redis, notes)?;
    Ok(app)
}

fn secret(table: Table<'_>, file: &AppFile, notes: &mut Vec<Note>) -> Result<AppSecret, ConfigError> {
    let Some(written) = &file.secret else { return Err(missing(table.name, "secret")) };
    one_secret(table, "secret", written, file, notes)
}

/// The secret that is being replaced by the other, which it must not be.
fn previous_secret(
    table: Table<'_>,
    file: &AppFile,
    secret: &AppSecret,
    notes: &mut Vec<Note>,
) -> Result<Option<AppSecret>, ConfigError> {
    let Some(written) = &file.previous_secret else { return Ok(None) };
    let previous = one_secret(table, "previous_secret", written, file, notes)?;
    let place = table.at("previous_secret");
    notes.push(match previous.is_same(secret) {
        true => Note::warning(format!("{place} is the same as the secret, so nothing is replaced")),
        false => Note::info(format!("{place} is still accepted beside the secret")),
    });
    Ok(Some(previous))
}

fn one_secret(
    table: Table<'_>,
    key: &str,
    written: &Secret,
    file: &AppFile,
    notes: &mut Vec<Note>,
) -> Result<AppSecret, ConfigError> {
    let refuse = |problem| ConfigError::Secret { place: table.at(key), problem };
    let Ok(text) = table.text(key, &written.0) else {
        return Err(refuse("is not text; write it in quotes"));
    };
    if text.is_empty() {
        return Err(refuse("is empty"));
    }
    let app_key = file.key.as_ref().map(|key| table.text("key", key)).transpose()?;
    if let Some(weakness) = secrets::weakness(&text, app_key.as_deref()) {
        notes.push(Note::warning(format!("{} {weakness}", table.at(key))));
    }
    Ok(AppSecret::new(&text))
}

fn message_rate(table: Table<'_>, file: &AppFile) -> Result<Option<MessageRate>, ConfigError> {
    let minute = table.count("messages_per_minute", file.messages_per_minute.as_ref(), None)?;
    let window = table.count("messages_per_window", file.messages_per_window.as_ref(), None)?;
    let length = file.messages_window_seconds.as_ref();
    let length = table.seconds("messages_window_seconds", length, Duration::from_secs(60), 1..=DAY)?;
    let terminate = table.boolean("terminate_on_limit", file.terminate_on_limit.as_ref(), false)?;
    match (minute, window) {
        (Some(_), Some(_)) => {
            let (first, second) = (table.at("messages_per_minute"), table.at("messages_per_window"));
            Err(ConfigError::Exclusive { first, second })
        }
        (Some(messages_max), None) => {
            Ok(Some(MessageRate { messages_max, window: Duration::from_secs(60), terminate }))
        }
        (None, Some(messages_max)) => Ok(Some(MessageRate { messages_max, window: length, terminate })),
        (None, None) => Ok(None),
    }
}

fn timeouts(table: Table<'_>, file: &AppFile, app: &mut App) -> Result<(), ConfigError> {
    let hour = 1..=3600;
    let (activity, ping) = (file.activity_timeout_seconds.as_ref(), file.ping_interval_seconds.as_ref());
    app.activity_timeout =
        table.seconds("activity_timeout_seconds", activity, app.activity_timeout, hour.clone())?;
    app.ping_interval = table.seconds("ping_interval_seconds", ping, app.ping_interval, hour.clone())?;
    let pong = app.pong_timeout.min(app.ping_interval);
    app.pong_timeout =
        table.seconds("pong_timeout_seconds", file.pong_timeout_seconds.as_ref(), pong, hour)?;
    let window = file.timestamp_window_seconds.as_ref();
    let default = app.timestamp_window.unwrap_or_default();
    let window = table.seconds("timestamp_window_seconds", window, default, 0..=DAY)?;
    app.timestamp_window = (!window.is_zero()).then_some(window);
    Ok(())
}

fn users_and_caches(table: Table<'_>, file: &AppFile, app: &mut App) -> Result<(), ConfigError> {
    let authorized = file.authorized_timeout_seconds.as_ref();
    let authorized = table.seconds("authorized_timeout_seconds", authorized, Duration::ZERO, 0..=DAY)?;
    app.authorized_timeout = (!authorized.is_zero()).then_some(authorized);
    app.watchlists = table.boolean("watchlists", file.watchlists.as_ref(), app.watchlists)?;
    let terminate = file.terminate_presence.as_ref();
    app.terminate_presence = table.boolean("terminate_presence", terminate, app.terminate_presence)?;
    let counted = file.subscription_count.as_ref();
    app.subscription_count = table.boolean("subscription_count", counted, app.subscription_count)?;
    let hold = file.presence_leave_hold_milliseconds.as_ref();
    let hold = table.whole("presence_leave_hold_milliseconds", hold, 0, 0..=60_000)?;
    app.presence_leave_hold = Duration::from_millis(hold.into());
    let ttl = file.cache_ttl_seconds.as_ref();
    app.cache_ttl = table.seconds("cache_ttl_seconds", ttl, app.cache_ttl, 1..=DAY)?;
    let bytes = file.cache_bytes_max.as_ref();
    app.cache_bytes_max = table.size("cache_bytes_max", bytes, app.cache_bytes_max, 1..=CACHE_BYTES_MAX)?;
    Ok(())
}

fn limits(table: Table<'_>, file: &AppFile, default: &Limits) -> Result<Limits, ConfigError> {
    let bytes = |key: &str, written, default| table.size(key, written, default, 1..=BYTES_MAX);
    let chars = |key: &str, written, default| table.size(key, written, default, 1..=4096);
    let members = file.presence_members_max.as_ref();
    let channels = file.channels_per_connection_max.as_ref();
    let event_data = file.event_data_bytes_max.as_ref();
    let channel_name = file.channel_name_chars_max.as_ref();
    let event_name = file.event_name_chars_max.as_ref();
    let user_info = file.user_info_bytes_max.as_ref();
    Ok(Limits {
        message_bytes_max: bytes(
            "message_bytes_max",
            file.message_bytes_max.as_ref(),
            default.message_bytes_max,
        )?,
        event_data_bytes_max: bytes("event_data_bytes_max", event_data, default.event_data_bytes_max)?,
        channel_name_chars_max: chars(
            "channel_name_chars_max",
            channel_name,
            default.channel_name_chars_max,
        )?,
        event_name_chars_max: chars("event_name_chars_max", event_name, default.event_name_chars_max)?,
        user_id_chars_max: chars(
            "user_id_chars_max",
            file.user_id_chars_max.as_ref(),
            default.user_id_chars_max,
        )?,
        user_info_bytes_max: bytes("user_info_bytes_max", user_info, default.user_info_bytes_max)?,
        presence_members_max: table.count("presence_members_max", members, default.presence_members_max)?,
        channels_per_connection_max: table.count(
            "channels_per_connection_max",
            channels,
            default.channels_per_connection_max,
        )?,
    })
}
