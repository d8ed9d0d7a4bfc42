//! `docs/configuration.md` and the code say the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

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
    let indexed = key.replace("apps.", "apps.0.").replace("certificates.", "certificates.0.");
    let variable = format!("SOUNDPOST_{}", indexed.replace('.', "__").to_uppercase());
    let app = [("ID", "a"), ("KEY", "k"), ("SECRET", "a-secret-of-16-or-more")];
    let app = app.map(|(name, value)| (format!("SOUNDPOST_APPS__0__{name}"), value.to_owned()));
    // PROXY headers are for proxies.
    let proxies = ("SOUNDPOST_SERVER__TRUSTED_PROXIES".to_owned(), "::1".to_owned());
    let proxies = Some(proxies).filter(|_| key == "server.proxy_protocol");
    let environment = app.into_iter().chain(proxies).chain([(variable, value.to_owned())]);
    Settings::load(&Flags::default(), environment, Path::new("/nonexistent"))
        .map_err(|error| error.to_string())
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

/// Some defaults are worked out: the page has the rule, the report what it comes to.
#[test]
fn the_report_shows_the_defaults_of_the_page() {
    let app = [("ID", "a"), ("KEY", "k"), ("SECRET", "a-secret-of-16-or-more")];
    let app = app.map(|(name, value)| (format!("SOUNDPOST_APPS__0__{name}"), value.to_owned()));
    let (settings, report) = Report::load(&Flags::default(), app, Path::new("/nonexistent")).unwrap();
    let text = report.text();
    let tables: BTreeMap<&str, &str> =
        text.split("\n\n").filter_map(|table| table.split_once('\n')).collect();
    for row in rows() {
        let (table, key) = row.key.split_once('.').unwrap();
        let table = tables.get(format!("[{table}]").as_str()).or(tables.get("[[apps]]")).unwrap();
        let is_key = |line: &&str| line.trim_start_matches("# ").split(' ').next() == Some(key);
        let line = table.lines().find(is_key).unwrap_or_else(|| panic!("a line for {}", row.key));
        let (_, shown) = line.split_once(" = ").unwrap();
        let (value, origin) = shown.split_once(" # ").unwrap();
        let expected = match row.key {
            _ if row.default == "required" => continue,
            "server.workers" => settings.server.workers.to_string(),
            "server.queue_bytes_max" => settings.server.queue_bytes_max.to_string(),
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
