//! soketi: its JSON file and its `SOKETI_*` variables. Source: soketi 1.6, `src/server.ts`, `src/app.ts`, `src/cli/cli.ts`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    super::soketi as server_soketi,
    convert::{self, Form},
    draft::{Draft, Lines},
    json, redis,
    shared::{self, APPS, Words},
    tree::{Found, Tree},
    webhooks::{self, Batching},
};

const SOURCE: &str = "soketi";
/// Variables after `SOKETI_`, and their paths in the file.
const VARIABLES: &[(&str, &str)] = &[
    ("DEBUG", "debug"),
    ("HOST", "host"),
    ("PORT", "port"),
    ("PATH_PREFIX", "path_prefix"),
    ("MODE", "mode"),
    ("SHUTDOWN_GRACE_PERIOD", "shutdown_grace_period"),
    ("USER_AUTHENTICATION_TIMEOUT", "user_authentication_timeout"),
    ("SSL_CERT", "ssl.cert_path"),
    ("SSL_KEY", "ssl.key_path"),
    ("SSL_PASS", "ssl.passphrase"),
    ("SSL_CA", "ssl.ca_path"),
    ("DEFAULT_APP_ID", "app_manager.array.apps.0.id"),
    ("DEFAULT_APP_KEY", "app_manager.array.apps.0.key"),
    ("DEFAULT_APP_SECRET", "app_manager.array.apps.0.secret"),
    ("DEFAULT_APP_ENABLED", "app_manager.array.apps.0.enabled"),
    ("DEFAULT_APP_MAX_CONNS", "app_manager.array.apps.0.max_connections"),
    ("DEFAULT_APP_ENABLE_CLIENT_MESSAGES", "app_manager.array.apps.0.enable_client_messages"),
    ("DEFAULT_APP_MAX_BACKEND_EVENTS_PER_SEC", "app_manager.array.apps.0.max_backend_events_per_second"),
    ("DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC", "app_manager.array.apps.0.max_client_events_per_second"),
    ("DEFAULT_APP_MAX_READ_REQ_PER_SEC", "app_manager.array.apps.0.max_read_requests_per_second"),
    ("DEFAULT_APP_USER_AUTHENTICATION", "app_manager.array.apps.0.enable_user_authentication"),
    ("DEFAULT_APP_WEBHOOKS", "app_manager.array.apps.0.webhooks"),
    ("APP_MANAGER_DRIVER", "app_manager.driver"),
    ("CHANNEL_LIMITS_MAX_NAME_LENGTH", "channel_limits.max_name_length"),
    ("CHANNEL_CACHE_TTL", "channel_limits.cache_ttl"),
    ("EVENT_MAX_BATCH_SIZE", "event_limits.max_batch_size"),
    ("EVENT_MAX_CHANNELS_AT_ONCE", "event_limits.max_channels_at_once"),
    ("EVENT_MAX_NAME_LENGTH", "event_limits.max_name_length"),
    ("EVENT_MAX_SIZE_IN_KB", "event_limits.max_payload_in_kb"),
    ("PRESENCE_MAX_MEMBER_SIZE", "presence.max_member_size_in_kb"),
    ("PRESENCE_MAX_MEMBERS", "presence.max_members_per_channel"),
    ("WEBHOOKS_BATCHING", "webhooks.batching.enabled"),
    ("WEBHOOKS_BATCHING_DURATION", "webhooks.batching.duration"),
    ("METRICS_ENABLED", "metrics.enabled"),
    ("METRICS_HOST", "metrics.host"),
    ("METRICS_SERVER_PORT", "metrics.port"),
    ("ADAPTER_DRIVER", "adapter.driver"),
    ("ADAPTER_REDIS_PREFIX", "adapter.redis.prefix"),
    ("DB_REDIS_HOST", "database.redis.host"),
    ("DB_REDIS_PORT", "database.redis.port"),
    ("DB_REDIS_DB", "database.redis.db"),
    ("DB_REDIS_USERNAME", "database.redis.username"),
    ("DB_REDIS_PASSWORD", "database.redis.password"),
    ("DB_REDIS_KEY_PREFIX", "database.redis.key_prefix"),
    ("DB_REDIS_SENTINELS", "database.redis.sentinels"),
    ("DB_REDIS_SENTINEL_PASSWORD", "database.redis.sentinel_password"),
    ("DB_REDIS_CLUSTER_NODES", "database.redis.cluster_nodes"),
    ("DB_REDIS_INSTANCE_NAME", "database.redis.name"),
    ("ADAPTER_REDIS_CLUSTER_MODE", "adapter.redis.cluster_mode"),
    ("ADAPTER_REDIS_SUB_OPTIONS", "adapter.redis.redis_sub_options"),
    ("ADAPTER_REDIS_PUB_OPTIONS", "adapter.redis.redis_pub_options"),
];

/// Beginnings of the other variables, and where in the file they belong.
const FAMILIES: &[(&str, &str)] = &[
    ("ADAPTER_", "adapter"),
    ("APP_MANAGER_", "app_manager"),
    ("CACHE_", "cache"),
    ("CLUSTER_", "cluster"),
    ("DB_POOLING_", "database_pooling"),
    ("DB_", "database"),
    ("HTTP_", "http_api"),
    ("METRICS_", "metrics"),
    ("QUEUE_", "queue"),
    ("RATE_LIMITER_", "rate_limiter"),
    ("WEBHOOKS_", "webhooks"),
];

const NODE_WORDS: Words = &[
    ("adapter", "nodes are joined over Redis, by [redis], or not at all"),
    ("app_manager", "apps stand in this file; there is nothing to cache"),
    ("cache", "the events of cache channels are kept in memory; nothing to set"),
    ("cluster", "nodes do not look for one another"),
    ("cors", "browsers do not call the HTTP API; which pages may connect is allowed_origins of an app"),
    ("database", "no database is used"),
    ("database.redis", "nodes are not joined; of no use without that"),
    ("database_pooling", "no database is used"),
    ("event_limits.max_channels_at_once", "an event goes to at most 100 channels"),
    ("event_limits.max_batch_size", "a batch holds at most 10 events"),
    (
        "http_api.accept_traffic",
        "/ready fails while the server starts or drains, and never for want of memory",
    ),
    ("http_api", "a request's body is as large as the limits of the apps can need; server.request_bytes_max"),
    ("instance", "nodes name themselves"),
    ("mode", "one process does everything"),
    ("queue", "no queue is used"),
    ("rate_limiter", "limits are counted in memory"),
    ("user_authentication_timeout", "no app asks for it; authorized_timeout_seconds of an app"),
    ("webhooks", "an event is tried again for 5 minutes, with 10 s for each attempt"),
];

const APP_WORDS: Words = &[
    ("max_event_channels_at_once", "an event goes to at most 100 channels"),
    ("max_event_batch_size", "a batch holds at most 10 events"),
];

/// Top-level keys that only soketi's file has in this spelling.
const KEYS: &[&str] = &[
    "appManager",
    "channelLimits",
    "databasePooling",
    "eventLimits",
    "httpApi",
    "pathPrefix",
    "rateLimiter",
    "shutdownGracePeriod",
    "userAuthenticationTimeout",
];
/// Keys that say little alone, but nothing else has them together.
const PLAIN_KEYS: &[&str] =
    &["adapter", "cache", "cluster", "cors", "database", "debug", "host", "metrics", "port"];

/// Whether a JSON document is soketi's.
pub(super) fn is_soketi(document: &Value) -> bool {
    let Some(object) = document.as_object() else { return false };
    let first = |key: &String| key.split('.').next().unwrap_or_default().to_owned();
    let is_own = object.keys().any(|key| KEYS.contains(&first(key).as_str()));
    is_own || (!object.is_empty() && object.keys().all(|key| PLAIN_KEYS.contains(&first(key).as_str())))
}

/// The draft of soketi's JSON file.
pub(super) fn from_json(document: &Value) -> Draft {
    draft(Tree::new(document))
}

/// The draft of `SOKETI_*`; what does not begin so is not looked at. soketi reads each value as JSON, else as text.
pub(super) fn from_variables(variables: &BTreeMap<String, String>) -> Draft {
    let mut tree = Tree::default();
    for (variable, value) in variables.iter().filter(|(_, value)| !value.is_empty()) {
        let Some(name) = variable.strip_prefix("SOKETI_") else { continue };
        let known = VARIABLES.iter().find(|(known, _)| *known == name).map(|(_, path)| (*path).to_owned());
        let family = || {
            let (beginning, path) = FAMILIES.iter().find(|(beginning, _)| name.starts_with(beginning))?;
            Some(format!("{path}.{}", name.strip_prefix(beginning)?.to_lowercase()))
        };
        let path = known.or_else(family).unwrap_or_else(|| name.to_lowercase());
        let is_name =
            [".id", ".key", ".secret", "password", "username"].iter().any(|end| path.ends_with(end));
        let json = Some(value).filter(|_| !is_name).and_then(|value| serde_json::from_str(value).ok());
        tree.add(&path, variable, &json.unwrap_or_else(|| Value::from(value.as_str())));
    }
    draft(tree)
}

fn draft(mut tree: Tree) -> Draft {
    let mut draft = Draft { source: SOURCE, ..Draft::default() };
    shared::listen(&mut tree, &mut draft);
    draft.node.take("server.drain_seconds", tree.take("shutdown_grace_period"), Form::Milliseconds);
    shared::tls(&mut tree, &mut draft, true);
    shared::metrics(&mut tree, &mut draft, false);
    redis::soketi(&mut tree, &mut draft);
    let request = tree.take("http_api.request_limit_in_mb");
    draft.node.take("server.request_bytes_max", request, Form::Megabytes);
    let driver = tree.take("app_manager.driver").and_then(|found| convert::text(&found.value));
    let driver = driver.unwrap_or_else(|| "array".to_owned());
    if driver == "array" {
        let mut indices = tree.indices(APPS);
        if indices.is_empty() {
            indices.insert(0);
        }
        draft.apps = indices.into_iter().map(|index| app(&mut tree, index)).collect();
    } else {
        let text = format!("the apps are in a database ({driver}): list them here, each as a table [[apps]]");
        draft.node.remark(text);
    }
    let mut remarks = shared::leftovers(&mut tree, "", NODE_WORDS);
    draft.node.remarks.append(&mut remarks);
    draft
}

/// The value of an app's setting, in the spellings that soketi takes, or of the server's for all apps.
fn setting(tree: &mut Tree, app: &str, keys: &[&str], server: Option<&str>) -> Option<Found> {
    let paths = keys.iter().map(|key| format!("{app}.{key}"));
    let paths: Vec<String> = paths.chain(server.map(str::to_owned)).collect();
    tree.take_any(&paths)
}

fn app(tree: &mut Tree, index: usize) -> Lines {
    let path = format!("{APPS}.{index}");
    let mut app = Lines::default();
    let mut take = |keys: &[&str], server: Option<&str>| setting(tree, &path, keys, server);
    for (key, long) in [("id", "app_id"), ("key", "app_key"), ("secret", "app_secret")] {
        app.take_or(key, take(&[key, long], None), Form::Text, format!("app-{key}"), SOURCE);
    }
    app.take("enabled", take(&["enabled"], None), Form::Flag);
    app.take("connections_max", take(&["max_connections"], None), Form::Count);
    let enabled = take(&["enable_client_messages"], None);
    let rate = take(&["max_client_events_per_second", "max_client_events_per_sec"], None);
    // At 0 it lets nothing through; here that is no limit.
    let shut = |rate: &Option<Found>| {
        rate.as_ref().filter(|rate| convert::number(&rate.value) == Ok(0.0)).map(|rate| rate.from.clone())
    };
    let no_client_events = shut(&rate).filter(|_| enabled.is_some());
    let enabled = enabled.filter(|_| no_client_events.is_none());
    let has_client_events = shared::client_events(&mut app, enabled, rate, SOURCE);
    if let Some(from) = no_client_events {
        app.noted("client_events", "none", &format!("from {from}, which is 0"));
    }
    let events = take(&["max_backend_events_per_second", "max_backend_events_per_sec"], None);
    if let Some(from) = shut(&events) {
        app.remark(format!(
            "{from} is 0, which lets no event through in soketi; enabled = false shuts the app"
        ));
    }
    let reads = take(&["max_read_requests_per_second", "max_read_req_per_sec"], None);
    shared::requests(&mut app, events, reads);
    let kilobytes = take(&["max_event_payload_in_kb"], Some("event_limits.max_payload_in_kb"));
    if has_client_events {
        app.noted("client_events_on_public", true, "soketi relays them on every kind of channel");
    }
    // soketi looks at their data only, which quoted can be twice as long.
    if let Some(data) = kilobytes.as_ref().and_then(|found| convert::number(&found.value).ok()) {
        let bytes = convert::convert(&Value::from(data * 2.0), Form::Kilobytes);
        app.noted(
            "message_bytes_max",
            bytes.unwrap_or(Value::Null),
            "room for a client event of that much data",
        );
    }
    app.take("event_data_bytes_max", kilobytes, Form::Kilobytes);
    let name = take(&["max_channel_name_length"], Some("channel_limits.max_name_length"));
    app.take("channel_name_chars_max", name, Form::Whole);
    let name = take(&["max_event_name_length"], Some("event_limits.max_name_length"));
    app.take("event_name_chars_max", name, Form::Whole);
    let members = take(&["max_presence_members_per_channel"], Some("presence.max_members_per_channel"));
    app.take("presence_members_max", members, Form::Count);
    let member = take(&["max_presence_member_size_in_kb"], Some("presence.max_member_size_in_kb"));
    app.take("user_info_bytes_max", member, Form::Kilobytes);
    app.take("cache_ttl_seconds", take(&[], Some("channel_limits.cache_ttl")), Form::Whole);
    let must_sign_in = take(&["enable_user_authentication"], None);
    if must_sign_in.and_then(|found| convert::flag(&found.value)) == Some(true) {
        let timeout = tree.take("user_authentication_timeout");
        app.take_or("authorized_timeout_seconds", timeout, Form::Milliseconds, 30, SOURCE);
    }
    let batching = Batching::of(tree, false, SOURCE);
    webhooks::webhooks(tree, &mut app, &format!("{path}.webhooks"), &batching);
    app.remarks.append(&mut shared::leftovers(tree, &format!("{path}."), APP_WORDS));
    // What the server itself gives an app of SOKETI_*.
    for (key, value) in server_soketi::defaults() {
        if !app.has(&key) {
            app.implied(&key, json(value.kind), SOURCE);
        }
    }
    app
}
