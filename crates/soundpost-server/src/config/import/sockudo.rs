//! Sockudo: its TOML file, and the JSON of older versions. Source: Sockudo 5, `crates/sockudo-core/src/options`, `app.rs`,
//! `origin_validation.rs`. Only what its protocol V1 needs has counterparts.

use serde_json::Value;

use super::{
    convert::{self, Form},
    draft::{Draft, Lines},
    redis,
    shared::{self, APPS, Words},
    tree::{Found, Tree},
    webhooks::{self, Batching},
};

const SOURCE: &str = "Sockudo";

const NODE_WORDS: Words = &[
    ("ably_compat", "Ably's protocol is not spoken"),
    ("adapter", "nodes are joined over Redis, by [redis], or not at all"),
    ("ai_transport", "part of Sockudo's protocol V2"),
    ("annotations", "part of Sockudo's protocol V2"),
    ("app_manager", "apps stand in this file; there is nothing to cache"),
    ("cache", "the events of cache channels are kept in memory; nothing to set"),
    ("cleanup", "connections that end are cleaned up at once"),
    ("cluster_health", "nodes notice by themselves who is gone"),
    ("connection_recovery", "part of Sockudo's protocol V2"),
    ("cors", "browsers do not call the HTTP API; which pages may connect is allowed_origins of an app"),
    ("database", "no database is used"),
    ("database.redis", "nodes are not joined; of no use without that"),
    ("database_pooling", "no database is used"),
    ("delta_compression", "part of Sockudo's protocol V2"),
    ("echo_control", "part of Sockudo's protocol V2"),
    ("ephemeral", "part of Sockudo's protocol V2"),
    ("event_limits.max_batch_size", "a batch holds at most 10 events"),
    ("event_limits.max_channels_at_once", "an event goes to at most 100 channels"),
    ("event_name_filtering", "part of Sockudo's protocol V2"),
    ("health_check_timeout_ms", "/up and /ready wait for nothing"),
    ("history", "events are not kept, but for the last one of cache channels"),
    (
        "http_api.accept_traffic",
        "/ready fails while the server starts or drains, and never for want of memory",
    ),
    ("http_api", "who publishes is limited by requests_per_second of an app"),
    ("idempotency", "an event that is sent twice arrives twice"),
    ("instance", "nodes name themselves"),
    ("logging", "server.log_format, SOUNDPOST_LOG"),
    ("mode", "there is one mode"),
    ("presence_history", "events are not kept"),
    ("presence", "part of Sockudo's protocol V2"),
    ("push", "push notifications are not sent"),
    ("push_rules", "push notifications are not sent"),
    ("queue", "no queue is used"),
    (
        "rate_limiter.api_rate_limit",
        "requests are limited for an app, not for an address: requests_per_second",
    ),
    ("rate_limiter", "limits are counted in memory"),
    ("server_role", "one process does everything"),
    ("ssl", "a proxy or a redirect of its own is needed for plain HTTP"),
    ("tag_filtering", "part of Sockudo's protocol V2"),
    ("unix_socket", "it is off"),
    ("user_authentication_timeout", "no app asks for it; authorized_timeout_seconds of an app"),
    ("versioned_messages", "part of Sockudo's protocol V2"),
    ("webhooks", "an event is tried again for 5 minutes, with 10 s for each attempt"),
    ("websocket", "a slow client has server.queue_bytes_max; messages are not compressed"),
];

const APP_WORDS: Words = &[
    ("max_event_channels_at_once", "an event goes to at most 100 channels"),
    ("max_event_batch_size", "a batch holds at most 10 events"),
    ("policy.limits.max_event_channels_at_once", "an event goes to at most 100 channels"),
    ("policy.limits.max_event_batch_size", "a batch holds at most 10 events"),
    ("policy.limits.message_rate_limit", "it is off"),
    ("message_rate_limit", "it is off"),
    (
        "policy.limits.terminate_on_limit",
        "a client event above its rate is refused (4301), and nobody is closed for it",
    ),
    ("terminate_on_limit", "a client event above its rate is refused (4301), and nobody is closed for it"),
    (
        "policy.channels.channel_namespaces",
        "channels have Pusher's names; a colon is not among their characters",
    ),
    ("channel_namespaces", "channels have Pusher's names; a colon is not among their characters"),
    ("policy.channels", "part of Sockudo's protocol V2"),
    ("annotations_enabled", "part of Sockudo's protocol V2"),
    ("channel_delta_compression", "part of Sockudo's protocol V2"),
    ("policy.connection_recovery", "part of Sockudo's protocol V2"),
    ("connection_recovery", "part of Sockudo's protocol V2"),
    ("policy.idempotency", "an event that is sent twice arrives twice"),
    ("idempotency", "an event that is sent twice arrives twice"),
    ("policy.history", "events are not kept"),
    ("policy.presence_history", "events are not kept"),
];

/// Tables and keys that only Sockudo's file has in this spelling.
const KEYS: &[&str] = &[
    "app_manager",
    "channel_limits",
    "event_limits",
    "path_prefix",
    "shutdown_grace_period",
    "websocket_max_payload_kb",
    "user_authentication_timeout",
    "activity_timeout",
];

/// Whether a document is Sockudo's.
pub(super) fn is_sockudo(document: &Value) -> bool {
    document.as_object().is_some_and(|object| object.keys().any(|key| KEYS.contains(&key.as_str())))
}

/// The draft of Sockudo's file, in which every `${NAME}` that is known has been replaced.
pub(super) fn draft(document: &Value) -> Draft {
    let mut tree = Tree::new(document);
    let mut draft = Draft { source: SOURCE, ..Draft::default() };
    shared::listen(&mut tree, &mut draft);
    draft.node.take("server.drain_seconds", tree.take("shutdown_grace_period"), Form::Whole);
    draft.node.take("server.connections_max", tree.take("max_connections"), Form::Count);
    let request = tree.take("http_api.request_limit_in_mb");
    draft.node.take("server.request_bytes_max", request, Form::Megabytes);
    let has_tls = is_on(&mut tree, "ssl.enabled");
    shared::tls(&mut tree, &mut draft, has_tls);
    if is_on(&mut tree, "unix_socket.enabled") {
        draft.node.take("server.unix_socket", tree.take("unix_socket.path"), Form::Text);
        draft.node.take("server.unix_socket_mode", tree.take("unix_socket.permission_mode"), Form::Mode);
    }
    connections_per_address(&mut tree, &mut draft);
    shared::metrics(&mut tree, &mut draft, true);
    redis::sockudo(&mut tree, &mut draft);
    let driver = tree.take("app_manager.driver").and_then(|found| convert::text(&found.value));
    let indices = tree.indices(APPS);
    draft.apps = indices.into_iter().map(|index| app(&mut tree, index)).collect();
    if let Some(driver) = driver.filter(|driver| driver != "memory") {
        let text = format!(
            "apps are in a database ({driver}): list those that are missing, each as a table [[apps]]"
        );
        draft.node.remark(text);
    }
    draft.node.remarks.append(&mut shared::leftovers(&mut tree, "", NODE_WORDS));
    draft
}

/// The `NAME` of a `${NAME}` that was not replaced.
pub(super) fn variable(text: &str) -> Option<&str> {
    text.split_once("${").and_then(|(_, rest)| rest.split_once('}')).map(|(name, _)| name)
}

fn is_on(tree: &mut Tree, path: &str) -> bool {
    tree.take(path).and_then(|found| convert::flag(&found.value)) == Some(true)
}

/// New connections of one address, in a window of theirs and a second of ours.
fn connections_per_address(tree: &mut Tree, draft: &mut Draft) {
    if !is_on(tree, "rate_limiter.enabled") {
        return;
    }
    let limit = "rate_limiter.websocket_rate_limit";
    let mut number =
        |key: &str| tree.take(&format!("{limit}.{key}")).and_then(|found| convert::number(&found.value).ok());
    let (max, window) = (number("max_requests"), number("window_seconds"));
    if let (Some(max), Some(window)) = (max, window.filter(|window| *window > 0.0)) {
        let a_second =
            convert::convert(&Value::from((max / window).max(1.0)), Form::Count).unwrap_or(Value::from(0));
        draft.node.set("server.connections_per_address_per_second", a_second, limit);
        draft.node.remark(format!("{limit}: {max} in {window} s became a rate for each second"));
    }
    if let Some(hops) = number("trust_hops").filter(|hops| *hops > 0.0) {
        let text = format!("{limit}.trust_hops is {hops}: name your proxies in server.trusted_proxies");
        draft.node.remark(text);
    }
}

/// An app's setting: in its `policy`, where newer versions have it, or flat.
fn setting(tree: &mut Tree, app: &str, group: &str, key: &str, server: Option<&str>) -> Option<Found> {
    let paths = [format!("{app}.policy.{group}.{key}"), format!("{app}.{key}")];
    let paths: Vec<String> = paths.into_iter().chain(server.map(str::to_owned)).collect();
    tree.take_any(&paths)
}

fn app(tree: &mut Tree, index: usize) -> Lines {
    let path = format!("{APPS}.{index}");
    let mut app = Lines::default();
    for key in ["id", "key", "secret"] {
        let found = tree.take(&format!("{path}.{key}"));
        match found.as_ref().and_then(|found| found.value.as_str()).and_then(variable) {
            Some(name) => app.missing(key, format!("from {name}, which stands in no .env beside the file")),
            None => app.take(key, found, Form::Text),
        }
    }
    // An app that does not say so is not enabled there.
    app.take_or("enabled", tree.take(&format!("{path}.enabled")), Form::Flag, false, SOURCE);
    limits(tree, &mut app, &path);
    let mut feature = |key: &str| setting(tree, &path, "features", key, None);
    let (client_messages, must_sign_in) =
        (feature("enable_client_messages"), feature("enable_user_authentication"));
    app.take("watchlists", feature("enable_watchlist_events"), Form::Flag);
    client_events(tree, &mut app, &path, client_messages);
    if must_sign_in.and_then(|found| convert::flag(&found.value)) == Some(true) {
        let timeout = tree.take("user_authentication_timeout");
        app.take_or("authorized_timeout_seconds", timeout, Form::Whole, 3600, SOURCE);
    }
    let origins = setting(tree, &path, "channels", "allowed_origins", None);
    if let Some(found) = origins.filter(|found| !convert::texts(&found.value).is_empty()) {
        allowed_origins(&mut app, &found);
    }
    let batching = Batching::of(tree, true, SOURCE);
    for webhooks in [format!("{path}.policy.webhooks"), format!("{path}.webhooks")] {
        webhooks::webhooks(tree, &mut app, &webhooks, &batching);
    }
    app.remarks.append(&mut shared::leftovers(tree, &format!("{path}."), APP_WORDS));
    app
}

fn limits(tree: &mut Tree, app: &mut Lines, path: &str) {
    let mut take = |key: &str, server: Option<&str>| setting(tree, path, "limits", key, server);
    app.take("connections_max", take("max_connections", None), Form::Count);
    let (events, reads) =
        (take("max_backend_events_per_second", None), take("max_read_requests_per_second", None));
    shared::requests(app, events, reads);
    for (key, theirs, server, form) in [
        (
            "event_data_bytes_max",
            "max_event_payload_in_kb",
            "event_limits.max_payload_in_kb",
            Form::Kilobytes,
        ),
        ("channel_name_chars_max", "max_channel_name_length", "channel_limits.max_name_length", Form::Whole),
        ("event_name_chars_max", "max_event_name_length", "event_limits.max_name_length", Form::Whole),
        (
            "user_info_bytes_max",
            "max_presence_member_size_in_kb",
            "presence.max_member_size_in_kb",
            Form::Kilobytes,
        ),
    ] {
        app.take(key, take(theirs, Some(server)), form);
    }
    let members = take("max_presence_members_per_channel", Some("presence.max_members_per_channel"));
    app.take_or("presence_members_max", members, Form::Count, 100, SOURCE);
    app.take_or("message_bytes_max", tree.take("websocket_max_payload_kb"), Form::Kilobytes, 65_536, SOURCE);
    app.take_or("cache_ttl_seconds", tree.take("channel_limits.cache_ttl"), Form::Whole, 3600, SOURCE);
    // One number there: what clients are told, and the silence after which the server pings.
    for key in ["activity_timeout_seconds", "ping_interval_seconds"] {
        app.take_or(key, tree.take("activity_timeout"), Form::Whole, 120, SOURCE);
    }
    let hold = tree.take("presence.ungraceful_timeout_seconds");
    if let Some(hold) = hold.filter(|found| convert::number(&found.value).is_ok_and(|seconds| seconds > 0.0))
    {
        app.take("presence_leave_hold_milliseconds", Some(hold), Form::Seconds);
    }
    message_rate(tree, app, path);
}

/// The limit on messages of any kind, if it is on.
fn message_rate(tree: &mut Tree, app: &mut Lines, path: &str) {
    let mut take = |key: &str| setting(tree, path, "limits", &format!("message_rate_limit.{key}"), None);
    let enabled = take("enabled").and_then(|found| convert::flag(&found.value));
    if enabled != Some(true) {
        return;
    }
    app.take_or("messages_per_window", take("max_attempts"), Form::Count, 60, SOURCE);
    app.take_or("messages_window_seconds", take("decay_seconds"), Form::Whole, 60, SOURCE);
    app.take("terminate_on_limit", take("terminate_on_limit"), Form::Flag);
}

/// Client events, whose rate may be for more than a second there.
fn client_events(tree: &mut Tree, app: &mut Lines, path: &str, enabled: Option<Found>) {
    let mut rate = setting(tree, path, "limits", "max_client_events_per_second", None);
    let window = setting(tree, path, "limits", "decay_seconds", None);
    let seconds =
        window.and_then(|found| convert::number(&found.value).ok()).filter(|seconds| *seconds > 1.0);
    if let (Some(rate), Some(seconds)) = (&mut rate, seconds) {
        let number = convert::number(&rate.value).unwrap_or_default();
        rate.value = Value::from(number / seconds);
        app.remark(format!("{}: {number} in {seconds} s became a rate for each second", rate.from));
    }
    shared::client_events(app, enabled, rate, SOURCE);
}

/// Ours are hosts: schemes and ports go, and `*.app.test` does not stand for `app.test`.
fn allowed_origins(app: &mut Lines, found: &Found) {
    let mut hosts: Vec<String> = Vec::new();
    let mut add = |host: &str| {
        if !host.is_empty() && !hosts.iter().any(|other| other == host) {
            hosts.push(host.to_owned());
        }
    };
    let mut has_more = false;
    for origin in convert::texts(&found.value) {
        if origin == "*" || origin.eq_ignore_ascii_case("any") {
            add("*");
            continue;
        }
        let (scheme, rest) =
            origin.split_once("://").map_or((None, origin.as_str()), |(s, rest)| (Some(s), rest));
        let rest = rest.split('/').next().unwrap_or(rest);
        let has_port = |(_, port): &(&str, &str)| !port.contains(']') && !port.is_empty();
        let host = rest.rsplit_once(':').filter(has_port).map_or(rest, |(host, _)| host);
        has_more |= scheme.is_some() || host != rest;
        add(host);
        if let Some(domain) = host.strip_prefix("*.").filter(|_| scheme.is_none()) {
            add(domain);
        }
    }
    app.set("allowed_origins", hosts, &found.from);
    if has_more {
        app.remark(format!("{}: hosts are compared, without scheme and port", found.from));
    }
}
