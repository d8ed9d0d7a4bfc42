//! `docs/configuration.md` and the code say the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use soundpost_protocol::webhook::{Carrier, Webhook, event::EventKind, target::EventKinds};

use super::{Flags, LogFormat, RedisServers, Report, Settings, keys};

const PAGE: &str = include_str!("../../../../docs/configuration.md");

/// One row of a table on the page.
struct Row {
    key: &'static str,
    default: &'static str,
    range: &'static str,
    set_by: &'static str,
}

fn rows() -> Vec<Row> {
    let lines = PAGE.lines().filter(|line| line.starts_with("| `"));
    let row = |line: &'static str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, key, default, range, _, set_by, _] = cells[..] else { panic!("six columns: {line}") };
        Row { key: key.trim_matches('`'), default: default.trim_matches('`'), range, set_by }
    };
    lines.map(row).collect()
}

/// Settings with one app `a` that says `key` too, by its variable.
fn with(key: &str, value: &str) -> Result<Settings, String> {
    let variable = keys::variable(&keys::indexed(key));
    let app = [("ID", "a"), ("KEY", "k"), ("SECRET", "a-secret-of-16-or-more")];
    let app = app.map(|(name, value)| (format!("SOUNDPOST_APPS__0__{name}"), value.to_owned()));
    // PROXY headers are for proxies.
    let proxies = ("SOUNDPOST_SERVER__TRUSTED_PROXIES".to_owned(), "::1".to_owned());
    let proxies = Some(proxies).filter(|_| key == "server.proxy_protocol");
    let environment =
        app.into_iter().chain(proxies).chain(webhook_for(key)).chain([(variable, value.to_owned())]);
    Settings::load(&Flags::default(), environment, Path::new("/nonexistent"))
        .map_err(|error| error.to_string())
}

/// What a key of a webhook needs beside it.
fn webhook_for(key: &str) -> Option<(String, String)> {
    let field = key.strip_prefix("apps.webhooks.")?;
    let (name, value) = match field.strip_prefix("laravel_queue.") {
        Some("job") => ("LARAVEL_QUEUE__REDIS", "redis://h"),
        Some(_) => ("LARAVEL_QUEUE__JOB", "Hook"),
        None => ("URL", "https://app.test/"),
    };
    (field != "url").then(|| (format!("SOUNDPOST_APPS__0__WEBHOOKS__0__{name}"), value.to_owned()))
}

#[test]
fn every_key_is_on_the_page_and_every_key_of_the_page_exists() {
    let known: BTreeSet<String> = keys::known().into_iter().collect();
    let page: BTreeSet<String> = rows().iter().map(|row| row.key.to_owned()).collect();
    assert_eq!(page, known);
}

#[test]
fn the_page_shows_the_defaults_of_the_code() {
    let settings = with("server.port", "8080").unwrap();
    for row in rows() {
        assert_eq!(row.default, default_of(row.key, &settings), "{}", row.key);
    }
}

/// The default as the page shows it.
#[expect(clippy::too_many_lines, reason = "one line for each key")]
fn default_of(key: &str, settings: &Settings) -> String {
    let count = |count: Option<std::num::NonZeroU32>| count.map_or(0, std::num::NonZeroU32::get).to_string();
    let (server, app) = (&settings.server, &settings.apps[0]);
    let limits = &app.limits;
    match key {
        "server.host" => format!("{:?}", server.listen[0].address.ip().to_string()),
        "server.port" => server.port.to_string(),
        "server.path" => format!("{:?}", server.path),
        "server.hostname" | "server.request_bytes_max" | "server.unix_socket" => {
            assert_eq!((&server.hostname, server.request_bytes_max, &server.unix), (&None, None, &None));
            "none".to_owned()
        }
        "server.unix_socket_mode" => {
            format!("\"{:04o}\"", with("server.unix_socket", "/s").unwrap().server.unix.unwrap().mode)
        }
        "server.trusted_proxies" => {
            assert!(server.proxies.trusted.is_empty());
            "[]".to_owned()
        }
        "server.proxy_protocol" => server.proxies.protocol.to_string(),
        "server.tls.certificate" | "server.tls.key" | "server.tls.passphrase" => {
            assert_eq!(server.tls, []);
            "none".to_owned()
        }
        "server.tls.certificates.certificate" => "required".to_owned(),
        "server.tls.certificates.key" | "server.tls.certificates.passphrase" => {
            let settings = with("server.tls.certificates.certificate", "a.pem").unwrap();
            let [pair] = &settings.server.tls[..] else { panic!("one pair") };
            assert_eq!((&pair.key, &pair.passphrase), (&pair.certificate, &None));
            "none".to_owned()
        }
        "server.workers" => {
            assert_eq!(server.workers, super::settings::cores());
            "0".to_owned()
        }
        "server.drain_seconds" => server.drain.as_secs().to_string(),
        "server.connections_max" => count(server.connections_max),
        "server.connections_per_address_max" => count(server.address_limits.connections_max),
        "server.connections_per_address_per_second" => count(server.address_limits.connections_per_second),
        "server.queue_bytes_max" => {
            assert_eq!(server.queue_bytes_max, 1_048_576.max(16 * limits.event_data_bytes_max));
            "1048576".to_owned()
        }
        "server.watch_files" => server.watch_files.to_string(),
        "server.send_buffer_bytes" => server.send_buffer_bytes.to_string(),
        "server.debug" => settings.log.debug.to_string(),
        "server.log_format" => match settings.log.format {
            LogFormat::Human => "\"human\"".to_owned(),
            LogFormat::Json => "\"json\"".to_owned(),
        },
        "server.ready_requires_redis" => server.ready_requires_redis.to_string(),
        key if key.starts_with("redis.") => default_of_redis(key, settings),
        "admin.host" => format!("{:?}", server.admin.host.to_string()),
        "admin.port" => server.admin.port.to_string(),
        "apps.id" | "apps.key" | "apps.secret" => "required".to_owned(),
        "apps.previous_secret" => {
            assert!(app.previous_secret.is_none());
            "none".to_owned()
        }
        "apps.enabled" => app.enabled.to_string(),
        "apps.tls_only" => app.tls_only.to_string(),
        "apps.client_events" => format!("{:?}", format!("{:?}", app.client_events).to_lowercase()),
        "apps.client_events_per_second" => count(app.client_events_per_second),
        "apps.client_events_on_public" => app.client_events_on_public.to_string(),
        "apps.messages_per_minute" | "apps.messages_per_window" => {
            count(app.message_rate.map(|rate| rate.messages_max))
        }
        "apps.messages_window_seconds" => with("apps.messages_per_window", "1").unwrap().apps[0]
            .message_rate
            .unwrap()
            .window
            .as_secs()
            .to_string(),
        "apps.terminate_on_limit" => {
            with("apps.messages_per_minute", "1").unwrap().apps[0].message_rate.unwrap().terminate.to_string()
        }
        "apps.allowed_origins" => {
            assert!(app.allowed_origins.allow(None));
            "[\"*\"]".to_owned()
        }
        "apps.requests_per_second" => count(app.requests_per_second),
        "apps.connections_max" => count(app.connections_max),
        "apps.channels_per_connection_max" => count(limits.channels_per_connection_max),
        "apps.activity_timeout_seconds" => app.activity_timeout.as_secs().to_string(),
        "apps.ping_interval_seconds" => app.ping_interval.as_secs().to_string(),
        "apps.pong_timeout_seconds" => app.pong_timeout.as_secs().to_string(),
        "apps.message_bytes_max" => limits.message_bytes_max.to_string(),
        "apps.event_data_bytes_max" => limits.event_data_bytes_max.to_string(),
        "apps.channel_name_chars_max" => limits.channel_name_chars_max.to_string(),
        "apps.event_name_chars_max" => limits.event_name_chars_max.to_string(),
        "apps.user_id_chars_max" => limits.user_id_chars_max.to_string(),
        "apps.user_info_bytes_max" => limits.user_info_bytes_max.to_string(),
        "apps.presence_members_max" => count(limits.presence_members_max),
        "apps.presence_leave_hold_milliseconds" => app.presence_leave_hold.as_millis().to_string(),
        "apps.authorized_timeout_seconds" => app.authorized_timeout.unwrap_or_default().as_secs().to_string(),
        "apps.watchlists" => app.watchlists.to_string(),
        "apps.terminate_presence" => app.terminate_presence.to_string(),
        "apps.subscription_count" => app.subscription_count.to_string(),
        "apps.cache_ttl_seconds" => app.cache_ttl.as_secs().to_string(),
        "apps.cache_bytes_max" => app.cache_bytes_max.to_string(),
        "apps.timestamp_window_seconds" => app.timestamp_window.unwrap().as_secs().to_string(),
        "apps.strict_info" => app.strict_info.to_string(),
        key if key.starts_with("apps.webhooks.") => default_of_webhook(key),
        other => panic!("a default for {other}"),
    }
}

fn default_of_redis(key: &str, settings: &Settings) -> String {
    if key == "redis.enabled" {
        return settings.redis.is_some().to_string();
    }
    let redis = with("redis.enabled", "true").unwrap().redis.unwrap();
    match key {
        "redis.url" => format!("\"redis://{}/{}\"", redis.servers, redis.database),
        "redis.database" => redis.database.to_string(),
        "redis.prefix" => format!("{:?}", redis.prefix),
        "redis.channel" => format!("{:?}", redis.channel),
        "redis.local_first" => redis.local_first.to_string(),
        "redis.on_outage" => format!("{:?}", format!("{:?}", redis.on_outage).to_lowercase()),
        _ => {
            assert!(matches!(redis.servers, RedisServers::Standalone(_)));
            assert_eq!((redis.username, redis.password, redis.tls), (None, None, None));
            "none".to_owned()
        }
    }
}

fn default_of_webhook(key: &str) -> String {
    let webhook = |key, value| Arc::clone(&with(key, value).unwrap().apps[0].webhooks[0]);
    let webhook = match key.starts_with("apps.webhooks.laravel_queue.") {
        true => webhook("apps.webhooks.laravel_queue.redis", "redis://h"),
        false => webhook("apps.webhooks.batch_milliseconds", "1"),
    };
    let Webhook { target, carrier, .. } = &*webhook;
    match (key.trim_start_matches("apps.webhooks."), carrier) {
        ("events", _) => {
            assert_eq!(target.events, EventKinds::default());
            "all seven".to_owned()
        }
        ("batch_milliseconds", _) => {
            let webhook = &with("apps.webhooks.url", "https://app.test").unwrap().apps[0].webhooks[0];
            webhook.target.batching.wait().as_millis().to_string()
        }
        ("batch_events", _) => target.batching.events_max().to_string(),
        ("filter.prefix", _) => format!("{:?}", target.filter.prefix()),
        ("filter.suffix", _) => format!("{:?}", target.filter.suffix()),
        ("headers", Carrier::Http(http)) => {
            assert_eq!(http.headers.iter().count(), 0);
            "{}".to_owned()
        }
        ("ca", Carrier::Http(http)) => {
            assert_eq!(http.ca, None);
            "none".to_owned()
        }
        ("refuse_private_addresses", Carrier::Http(http)) => http.refuses_private.to_string(),
        ("laravel_queue.queue", Carrier::LaravelQueue(queue)) => format!("{:?}", queue.queue),
        ("laravel_queue.prefix", Carrier::LaravelQueue(queue)) => format!("{:?}", queue.prefix),
        // One of them must be written; the nodes' Redis has no URL of its own.
        ("url" | "laravel_queue.job" | "laravel_queue.redis", _) => "none".to_owned(),
        (other, _) => panic!("a default for {other}"),
    }
}

/// Some defaults are worked out: the page has the rule, the report what it comes to.
#[test]
fn the_report_shows_the_defaults_of_the_page() {
    let app = [("ID", "a"), ("KEY", "k"), ("SECRET", "a-secret-of-16-or-more")];
    let app = app.map(|(name, value)| (format!("SOUNDPOST_APPS__0__{name}"), value.to_owned()));
    let hooks = [
        ("0__URL", "https://app.test/"),
        ("1__LARAVEL_QUEUE__JOB", "Hook"),
        ("1__LARAVEL_QUEUE__REDIS", "redis://h"),
    ];
    let hooks = hooks.map(|(name, value)| (format!("SOUNDPOST_APPS__0__WEBHOOKS__{name}"), value.to_owned()));
    let environment = app.into_iter().chain(hooks);
    let (settings, report) = Report::load(&Flags::default(), environment, Path::new("/nonexistent")).unwrap();
    let text = report
        .text()
        .replacen("[[apps.webhooks]]", "[[requests]]", 1)
        .replace("[[apps.webhooks]]", "[[jobs]]");
    let tables: BTreeMap<&str, &str> =
        text.split("\n\n").filter_map(|table| table.split_once('\n')).collect();
    for row in rows() {
        // These are written, or there would be no webhook.
        if ["url", "laravel_queue.job", "laravel_queue.redis"]
            .iter()
            .any(|key| row.key == format!("apps.webhooks.{key}"))
        {
            continue;
        }
        let (table, key) = match row.key.strip_prefix("apps.webhooks.") {
            Some(key) if key.starts_with("laravel_queue.") => ("[[jobs]]".to_owned(), key),
            Some(key) => ("[[requests]]".to_owned(), key),
            None => {
                let (table, key) = row.key.split_once('.').unwrap();
                (if table == "apps" { "[[apps]]".to_owned() } else { format!("[{table}]") }, key)
            }
        };
        let table = tables.get(table.as_str()).unwrap_or_else(|| panic!("{table}"));
        let is_key = |line: &&str| line.trim_start_matches("# ").split(' ').next() == Some(key);
        let line = table.lines().find(is_key).unwrap_or_else(|| panic!("a line for {}", row.key));
        let (_, shown) = line.split_once(" = ").unwrap();
        let (value, origin) = shown.split_once(" # ").unwrap();
        let expected = match row.key {
            _ if row.default == "required" => continue,
            "server.workers" => settings.server.workers.to_string(),
            "server.queue_bytes_max" => settings.server.queue_bytes_max.to_string(),
            "apps.webhooks.events" => format!("{:?}", EventKind::ALL.map(EventKind::word)),
            _ => row.default.to_owned(),
        };
        assert_eq!((value.trim(), origin), (expected.as_str(), "default"), "{}", row.key);
    }
}

#[test]
fn the_page_shows_the_ranges_of_the_code() {
    for row in rows() {
        if let Some((low, high)) = row.range.split_once(" to ")
            && let (Ok(low), Ok(high)) = (low.parse::<i64>(), high.parse::<i64>())
        {
            for (value, fits) in [(low - 1, false), (low, true), (high, true), (high + 1, false)] {
                assert_eq!(with(row.key, &value.to_string()).is_ok(), fits, "{} {value}", row.key);
            }
        } else if row.range == "true or false" {
            assert!(
                with(row.key, "true").is_ok()
                    && with(row.key, "false").is_ok()
                    && with(row.key, "2").is_err()
            );
        } else if row.range.starts_with('`') {
            let words: Vec<_> = row.range.split(", ").map(|word| word.trim_matches('`')).collect();
            assert!(words.iter().all(|word| with(row.key, word).is_ok()), "{}", row.key);
            assert!(with(row.key, "another").is_err(), "{}", row.key);
        }
    }
}

#[test]
fn the_page_names_the_flags_and_variables_that_are_read() {
    let named: BTreeSet<&str> =
        rows().iter().flat_map(|row| row.set_by.split(", ")).map(|name| name.trim_matches('`')).collect();
    for name in super::reverb::variables() {
        assert!(PAGE.contains(name), "{name}");
    }
    for name in super::soketi::variables() {
        assert!(PAGE.contains(&format!("`{name}`")) || PAGE.contains(&format!("`SOKETI_{name}`")), "{name}");
    }
    for name in named.into_iter().filter(|name| name.starts_with("REVERB_")) {
        assert!(super::reverb::variables().any(|known| known == name), "{name}");
    }
}
