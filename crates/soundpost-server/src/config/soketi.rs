//! What soketi's `SOKETI_*` variables say, in our keys. Source: soketi's `cli.ts`, `server.ts`, `app.ts`.

mod redis;
pub(super) mod webhooks;

use config::ValueKind;
use serde_json::Value as Json;

use super::{
    ConfigError, Note, checks,
    environment::{Environment, is_injected},
    error::Place,
    keys,
    layers::{Flat, put},
};

/// The table of the app that `SOKETI_DEFAULT_APP_*` names; no index, so it cannot be taken for one of a file.
pub(super) const TABLE: &str = "apps.soketi";

const PREFIX: &str = "SOKETI_";

/// What is ours as it stands.
const SERVER: &[(&str, &str)] = &[
    ("HOST", "server.host"),
    ("PORT", "server.port"),
    ("PATH_PREFIX", "server.path"),
    ("SSL_CERT", "server.tls.certificate"),
    ("SSL_KEY", "server.tls.key"),
    ("SSL_PASS", "server.tls.passphrase"),
];

/// Names and keys of the app, which soketi has defaults for.
const NAMES: &[(&str, &str, &str)] = &[
    ("DEFAULT_APP_ID", "id", "app-id"),
    ("DEFAULT_APP_KEY", "key", "app-key"),
    ("DEFAULT_APP_SECRET", "secret", "app-secret"),
];

/// Limits of the app; soketi's are the server's, for all its apps.
const LIMITS: &[(&str, &str)] = &[
    ("CHANNEL_LIMITS_MAX_NAME_LENGTH", "channel_name_chars_max"),
    ("CHANNEL_CACHE_TTL", "cache_ttl_seconds"),
    ("EVENT_MAX_NAME_LENGTH", "event_name_chars_max"),
    ("PRESENCE_MAX_MEMBERS", "presence_members_max"),
];

/// Limits of the app in kilobytes, which may have a fraction.
const KILOBYTES: &[(&str, &str)] =
    &[("EVENT_MAX_SIZE_IN_KB", "event_data_bytes_max"), ("PRESENCE_MAX_MEMBER_SIZE", "user_info_bytes_max")];

const ENABLED: &str = "DEFAULT_APP_ENABLED";
const CLIENT_MESSAGES: &str = "DEFAULT_APP_ENABLE_CLIENT_MESSAGES";
const CONNECTIONS: &str = "DEFAULT_APP_MAX_CONNS";
const CLIENT_EVENTS: &str = "DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC";
const PUBLISHES: &str = "DEFAULT_APP_MAX_BACKEND_EVENTS_PER_SEC";
const READS: &str = "DEFAULT_APP_MAX_READ_REQ_PER_SEC";
const AUTHENTICATION: &str = "DEFAULT_APP_USER_AUTHENTICATION";
const AUTHENTICATION_TIMEOUT: &str = "USER_AUTHENTICATION_TIMEOUT";
const DEBUG: &str = "DEBUG";
const GRACE: &str = "SHUTDOWN_GRACE_PERIOD";
const METRICS: &str = "METRICS_ENABLED";
const METRICS_HOST: &str = "METRICS_HOST";
const METRICS_PORT: &str = "METRICS_SERVER_PORT";

/// What must have one of these values: any other asks for what this version lacks, and to ignore it would do harm.
const MUST_BE: &[(&str, &[&str], &str)] = &[
    ("APP_MANAGER_DRIVER", &["array"], "apps out of a database"),
    ("MODE", &["full", "server"], "a process for webhooks alone"),
    ("SSL_CA", &[], "certificates of clients"),
];

/// What has no counterpart; with our key, where there is one that comes near. A family is named by its beginning.
const IGNORED: &[(&str, &str)] = &[
    ("ADAPTER_", ""),
    ("APP_MANAGER_", ""),
    ("CACHE_", ""),
    ("CLUSTER_", ""),
    ("DB_", ""),
    ("EVENT_MAX_BATCH_SIZE", "a batch holds 10 events"),
    ("EVENT_MAX_CHANNELS_AT_ONCE", "an event goes to 100 channels"),
    ("HTTP_ACCEPT_TRAFFIC_MEMORY_THRESHOLD", "server.connections_max comes near"),
    ("METRICS_DRIVER", ""),
    ("METRICS_PROMETHEUS_PREFIX", "names of metrics begin with soundpost_"),
    ("QUEUE_", ""),
    ("RATE_LIMITER_", ""),
    ("WEBHOOKS_", ""),
];

/// What soketi's server has where nothing is written and [`TABLE`] is named.
const PORT_DEFAULT: i64 = 6001;

/// What holds for an app of soketi's where nobody wrote anything.
pub(super) fn defaults() -> Flat {
    let mut flat = Flat::new();
    let mut set = |key, value: ValueKind| put(&mut flat, key, "soketi's default", value);
    set("client_events", "none".into());
    set("client_events_per_second", 0_i64.into());
    set("presence_members_max", 100_i64.into());
    set("cache_ttl_seconds", 3600_i64.into());
    // soketi takes client events of as much data as publishers may send; quoted, they can be twice as long.
    set("message_bytes_max", 204_800_i64.into());
    flat
}

/// What the variables say, and what soketi's defaults say where nobody does.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) flat: Flat,
    pub(super) defaults: Flat,
}

/// The keys that `SOKETI_*` set; an empty variable sets nothing.
///
/// Errors: a variable asks for a feature that this version lacks, or its value has no meaning here.
pub(super) fn read(environment: &Environment, notes: &mut Vec<Note>) -> Result<Said, ConfigError> {
    let mut reader = Reader { environment, said: Said::default() };
    reader.lacking()?;
    reader.server()?;
    reader.redis()?;
    keys::check(&mut reader.said.flat)?;
    let is_named = NAMES.iter().any(|(name, ..)| reader.text(name).is_some());
    if is_named {
        reader.app(notes)?;
    }
    reader.metrics()?;
    reader.notes(is_named, notes);
    Ok(reader.said)
}

struct Reader<'a> {
    environment: &'a Environment,
    said: Said,
}

impl Reader<'_> {
    /// The value as soketi takes it: JSON if it is some, else text. Empty and null are nothing.
    fn json(&self, name: &str) -> Option<Json> {
        let name = format!("{PREFIX}{name}");
        let raw = self.environment.value(&name).filter(|raw| !raw.is_empty() && !is_injected(&name, raw))?;
        let json = serde_json::from_str(raw).ok().filter(|json| *json != Json::Null);
        Some(json.unwrap_or_else(|| Json::String(raw.to_owned())))
    }

    /// The same as text: what is no JSON text stays as it was written, so that no digit of an id is lost.
    fn text(&self, name: &str) -> Option<String> {
        match self.json(name)? {
            Json::String(text) => Some(text).filter(|text| !text.is_empty()),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => {
                self.environment.value(&format!("{PREFIX}{name}")).map(str::to_owned)
            }
        }
    }

    fn origin(&self, name: &str) -> String {
        self.environment.origin(&format!("{PREFIX}{name}"))
    }

    fn place(&self, name: &str) -> Place {
        let origin = self.origin(name);
        Place { key: origin.clone(), origin }
    }

    fn put(&mut self, key: &str, name: &str, value: impl Into<ValueKind>) {
        put(&mut self.said.flat, key, &self.environment.origin(&format!("{PREFIX}{name}")), value);
    }

    fn put_app(&mut self, key: &str, name: &str, value: impl Into<ValueKind>) {
        self.put(&format!("{TABLE}.{key}"), name, value);
    }

    fn refuse<T>(&self, name: &str, expected: &str) -> Result<T, ConfigError> {
        let found = format!("{:?}", self.text(name).unwrap_or_default());
        Err(ConfigError::Value { place: self.place(name), found, expected: expected.to_owned() })
    }

    /// True or false; stricter than soketi, to which every text is true.
    fn switch(&self, name: &str) -> Result<Option<bool>, ConfigError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match checks::boolean(&text) {
            Some(on) => Ok(Some(on)),
            None => self.refuse(name, "true or false"),
        }
    }

    /// A whole number.
    fn whole(&self, name: &str) -> Result<Option<i64>, ConfigError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => self.refuse(name, "a whole number"),
        }
    }

    /// A rate a second, below 0 none, which is 0 here. At 0 soketi lets nothing through: nobody means that.
    fn rate(&self, name: &str) -> Result<Option<i64>, ConfigError> {
        match self.whole(name)? {
            Some(0) => self.refuse(name, "a number above 0, or -1 for no limit"),
            Some(number) => Ok(Some(number.max(0))),
            None => Ok(None),
        }
    }

    /// Milliseconds as seconds, never fewer.
    fn seconds(&self, name: &str) -> Result<Option<i64>, ConfigError> {
        match self.whole(name)? {
            Some(number) if number < 0 => self.refuse(name, "milliseconds, from 0"),
            number => Ok(number.map(|number| number / 1000 + i64::from(number % 1000 > 0))),
        }
    }

    fn lacking(&self) -> Result<(), ConfigError> {
        for (name, allowed, feature) in MUST_BE {
            if self.text(name).is_some_and(|text| !allowed.contains(&text.as_str())) {
                return Err(ConfigError::Lacking { place: self.place(name), feature });
            }
        }
        Ok(())
    }

    fn server(&mut self) -> Result<(), ConfigError> {
        for (name, key) in SERVER {
            if let Some(text) = self.text(name) {
                self.put(key, name, text);
            }
        }
        if let Some(on) = self.switch(DEBUG)? {
            self.put("server.debug", DEBUG, on);
        }
        if let Some(seconds) = self.seconds(GRACE)? {
            self.put("server.drain_seconds", GRACE, seconds);
        }
        Ok(())
    }

    /// Without `METRICS_ENABLED` soketi's listener tells nothing that ours must.
    fn metrics(&mut self) -> Result<(), ConfigError> {
        if self.switch(METRICS)? == Some(true) {
            let host = self.text(METRICS_HOST);
            let named = if host.is_some() { METRICS_HOST } else { METRICS };
            self.put("admin.host", named, host.unwrap_or("0.0.0.0".to_owned()));
            if let Some(port) = self.text(METRICS_PORT) {
                self.put("admin.port", METRICS_PORT, port);
            }
        }
        Ok(())
    }

    fn app(&mut self, notes: &mut Vec<Note>) -> Result<(), ConfigError> {
        for (name, key, default) in NAMES {
            match self.text(name) {
                Some(text) => self.put_app(key, name, text),
                None => put(&mut self.said.flat, &format!("{TABLE}.{key}"), "soketi's default", *default),
            }
        }
        if self.text("DEFAULT_APP_SECRET").is_none_or(|secret| secret == "app-secret") {
            notes.push(Note::warning("the secret of the app is soketi's default, which everybody knows"));
        }
        notes.push(Note::info("the app is named by SOKETI_*: soketi's port and defaults hold"));
        put(&mut self.said.defaults, "server.port", "soketi's default", PORT_DEFAULT);
        for (name, key) in LIMITS {
            if let Some(text) = self.text(name) {
                self.put_app(key, name, text);
            }
        }
        for (name, key) in KILOBYTES {
            if let Some(bytes) = self.bytes(name)? {
                self.put_app(key, name, bytes);
            }
        }
        if let Some(on) = self.switch(ENABLED)? {
            self.put_app("enabled", ENABLED, on);
        }
        if let Some(on) = self.switch(CLIENT_MESSAGES)? {
            self.put_app("client_events", CLIENT_MESSAGES, if on { "members" } else { "none" });
            self.put_app("client_events_on_public", CLIENT_MESSAGES, on);
        }
        if let Some(number) = self.whole(CONNECTIONS)? {
            self.put_app("connections_max", CONNECTIONS, number.max(0));
        }
        self.rates()?;
        self.webhooks()?;
        let timeout = self.seconds(AUTHENTICATION_TIMEOUT)?.unwrap_or(30);
        if let Some(on) = self.switch(AUTHENTICATION)? {
            self.put_app("authorized_timeout_seconds", AUTHENTICATION, if on { timeout } else { 0 });
        }
        Ok(())
    }

    /// Here one limit is on all requests of an app together.
    fn rates(&mut self) -> Result<(), ConfigError> {
        if let Some(rate) = self.rate(CLIENT_EVENTS)? {
            self.put_app("client_events_per_second", CLIENT_EVENTS, rate);
        }
        let reads = self.rate(READS)?.unwrap_or(0);
        if let Some(publishes) = self.rate(PUBLISHES)? {
            let both = if publishes > 0 { publishes.saturating_add(reads) } else { 0 };
            self.put_app("requests_per_second", PUBLISHES, both);
        }
        Ok(())
    }

    /// Kilobytes of 1024 as whole bytes.
    fn bytes(&self, name: &str) -> Result<Option<i64>, ConfigError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let bytes = text.trim().parse::<f64>().ok().map(|kilobytes| (kilobytes * 1024.0).floor());
        // Every whole number up to there is exact.
        match bytes
            .filter(|bytes| (1.0..=1e12).contains(bytes))
            .and_then(|bytes| format!("{bytes:.0}").parse().ok())
        {
            Some(bytes) => Ok(Some(bytes)),
            None => self.refuse(name, "kilobytes, above 0"),
        }
    }

    /// Names what is ignored, and why.
    fn notes(&self, is_named: bool, notes: &mut Vec<Note>) {
        let has_metrics = self.text(METRICS).is_some_and(|text| checks::boolean(&text) == Some(true));
        for name in self.environment.names(PREFIX) {
            let Some(short) = name.strip_prefix(PREFIX) else { continue };
            // Neither an empty one nor one that Kubernetes has set for a service of that name.
            let Some(value) = self.text(short) else { continue };
            if is_injected(name, &value) {
                continue;
            }
            let is_of_app = ["DEFAULT_APP_", "WEBHOOKS_"].iter().any(|begin| short.starts_with(begin))
                || short == AUTHENTICATION_TIMEOUT;
            let is_of_limits = LIMITS.iter().chain(KILOBYTES).any(|(known, _)| *known == short);
            let why = if (is_of_app || is_of_limits) && !is_named {
                "without SOKETI_DEFAULT_APP_ID, _KEY or _SECRET".to_owned()
            } else if [METRICS_HOST, METRICS_PORT].contains(&short) && !has_metrics {
                "without SOKETI_METRICS_ENABLED=true; admin.host and admin.port are the same".to_owned()
            } else if short == READS && self.text(PUBLISHES).is_none() && value != "-1" {
                "apps.requests_per_second limits all requests together".to_owned()
            } else if redis::variables().any(|known| known == short) && !self.has_redis() {
                "without SOKETI_ADAPTER_DRIVER=redis".to_owned()
            } else if let Some(why) = self.idle_webhooks(short).filter(|_| is_named) {
                why.to_owned()
            } else if variables().any(|known| known == short) {
                continue;
            } else if let Some((_, why)) = IGNORED.iter().find(|(begin, _)| short.starts_with(begin)) {
                let is_default = MUST_BE.iter().any(|(known, ..)| *known == short);
                if is_default {
                    continue;
                }
                (*why).to_owned()
            } else {
                "not a variable of soketi's".to_owned()
            };
            let colon = if why.is_empty() { "" } else { ": " };
            notes.push(Note::warning(format!("{} is ignored{colon}{why}", self.environment.origin(name))));
        }
    }
}

/// Every variable that has a meaning here, without its prefix.
pub(super) fn variables() -> impl Iterator<Item = &'static str> {
    let singles = [
        ENABLED,
        CLIENT_MESSAGES,
        CONNECTIONS,
        CLIENT_EVENTS,
        PUBLISHES,
        READS,
        AUTHENTICATION,
        AUTHENTICATION_TIMEOUT,
        DEBUG,
        GRACE,
        METRICS,
        METRICS_HOST,
        METRICS_PORT,
        redis::DRIVER,
    ];
    let pairs = SERVER.iter().chain(LIMITS).chain(KILOBYTES).map(|(name, _)| *name);
    let names = NAMES.iter().map(|(name, ..)| *name);
    let must = MUST_BE.iter().map(|(name, ..)| *name);
    let others = redis::variables().chain(webhooks::variables());
    singles.into_iter().chain(pairs).chain(names).chain(must).chain(others)
}
