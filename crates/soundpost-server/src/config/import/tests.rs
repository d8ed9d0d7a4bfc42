//! Each source with the settings that its file comes to.

use std::{num::NonZeroU32, time::Duration};

use soundpost_protocol::app::{App, ClientEvents, MessageRate};

use super::{
    fixtures::{ALL, PHP, PUSHER, REVERB, SOCKUDO, SOKETI, SOKETI_ENV},
    render::tried,
    *,
};
use crate::config::{Flags, Settings};

pub(super) fn imported(name: &str, text: &str) -> Imported {
    let imported = import(name, text, None).unwrap();
    assert_eq!(imported.problem, None, "{}", imported.text);
    imported
}

pub(super) fn settings(text: &str) -> Settings {
    tried(&imported("file", text).text).unwrap()
}

/// The line of a key, or the comment that begins so, without the blanks between.
pub(super) fn line(imported: &Imported, start: &str) -> String {
    let line = imported.text.lines().find(|line| line.starts_with(start));
    let line = line.unwrap_or_else(|| panic!("{start} in {}", imported.text));
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn count(number: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(number)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn named<'a>(apps: &'a [App], id: &str) -> &'a App {
    apps.iter().find(|app| app.id.as_str() == id).unwrap()
}

#[test]
fn soketis_json_becomes_the_same_server() {
    let Settings { server, apps, .. } = settings(SOKETI);
    assert_eq!((server.port, server.path.as_str(), server.drain), (6002, "/ws", seconds(4)));
    assert_eq!((server.admin.host.to_string().as_str(), server.admin.port), ("0.0.0.0", 9602));
    let shop = named(&apps, "7");
    assert_eq!((shop.key.to_string().as_str(), shop.connections_max), ("shop-key", count(200)));
    assert_eq!((shop.client_events, shop.client_events_on_public), (ClientEvents::Members, true));
    assert_eq!((shop.client_events_per_second, shop.requests_per_second), (count(5), count(75)));
    assert_eq!((shop.cache_ttl, shop.authorized_timeout), (seconds(600), Some(seconds(20))));
    let limits = &shop.limits;
    assert_eq!((limits.presence_members_max, limits.user_info_bytes_max), (count(40), 1536));
    assert_eq!((limits.channel_name_chars_max, limits.event_name_chars_max), (100, 150));
    assert_eq!((limits.event_data_bytes_max, limits.message_bytes_max), (20_480, 40_960));
    let blog = named(&apps, "blog");
    assert_eq!((blog.enabled, blog.connections_max, blog.client_events), (false, None, ClientEvents::None));
    assert_eq!((blog.limits.presence_members_max, blog.authorized_timeout), (count(100), None));
}

#[test]
fn every_line_says_what_it_was_taken_from_and_the_rest_is_comments() {
    let imported = imported("soketi.json", SOKETI);
    assert_eq!((imported.source, imported.apps), ("soketi", 2));
    for expected in [
        "# Imported from soketi.json, a configuration of soketi.",
        "port = 6002 # from port",
        "connections_max = 200 # from appManager.array.apps.0.maxConnections",
        "requests_per_second = 75 # from appManager.array.apps.0.maxBackendEventsPerSecond and \
         appManager.array.apps.0.maxReadRequestsPerSecond",
        "presence_members_max = 40 # from appManager.array.apps.0.maxPresenceMembersPerChannel",
        "cache_ttl_seconds = 600 # from channelLimits.cacheTtl",
        "# - appManager.array.apps.0.maxEventChannelsAtOnce: an event goes to at most 100 channels",
        "# - eventLimits.maxBatchSize: a batch holds at most 10 events",
        "# - requests_per_second counts events and reads together",
        "# - queue: no queue is used",
        "# - spaceship.warp: not known here",
        "# - app_manager.array.apps.0.webhooks.1: a webhook without a URL (Lambda) has no counterpart",
        "url = \"redis://redis:6380\" # from database.redis.host",
        "prefix = \"shop\" # from adapter.redis.prefix",
    ] {
        assert_eq!(line(&imported, expected.split(" #").next().unwrap()), expected);
    }
}

#[test]
fn features_that_are_missing_are_comments_with_the_reason() {
    let imported = imported("soketi.json", SOKETI);
    let known = super::super::keys::known();
    for (key, start, expected) in [
        (
            "server.tls.certificate",
            "# tls.cert",
            "# tls.certificate = \"/certs/a.crt\" # from ssl.certPath; server.tls",
        ),
        (
            "server.tls.passphrase",
            "# tls.pass",
            "# tls.passphrase = \"\" # from ssl.passphrase, not copied into a comment;",
        ),
    ] {
        if !known.iter().any(|known| known == key) {
            assert!(line(&imported, start).starts_with(expected), "{}", line(&imported, start));
        }
    }
}

#[test]
fn sockudos_toml_becomes_the_same_server() {
    let Settings { server, apps, .. } = settings(SOCKUDO);
    assert_eq!(server.listen[0].address.to_string(), "127.0.0.1:6001");
    assert_eq!((server.path.as_str(), server.drain, server.connections_max), ("", seconds(12), count(5000)));
    assert_eq!(server.address_limits.connections_per_second, count(2));
    let new = named(&apps, "new");
    assert_eq!((new.enabled, new.connections_max, new.client_events), (true, None, ClientEvents::Members));
    assert_eq!((new.client_events_per_second, new.client_events_on_public), (count(10), false));
    let rate = MessageRate { messages_max: count(300).unwrap(), window: seconds(30), terminate: true };
    assert_eq!((new.message_rate, new.watchlists), (Some(rate), false));
    assert_eq!(
        (new.activity_timeout, new.ping_interval, new.pong_timeout),
        (seconds(90), seconds(90), seconds(30))
    );
    assert_eq!((new.authorized_timeout, new.presence_leave_hold), (Some(seconds(60)), seconds(4)));
    for (origin, allowed) in [
        ("https://app.test:8443", true),
        ("https://a.shop.test", true),
        ("https://shop.test", true),
        ("http://[::1]:3000", true),
        ("https://other.test", false),
    ] {
        assert_eq!(new.allowed_origins.allow(Some(origin)), allowed, "{origin}");
    }
    let limits = &new.limits;
    assert_eq!((limits.message_bytes_max, limits.event_data_bytes_max), (32_768, 10_240));
    assert_eq!(limits.presence_members_max, count(30));
    let old = named(&apps, "old");
    assert_eq!(
        (old.enabled, old.connections_max, old.client_events),
        (false, count(300), ClientEvents::None)
    );
    assert!(old.allowed_origins.allow(None));
}

#[test]
fn sockudos_old_json_is_read_as_its_toml() {
    let json = r#"{"port": 6003, "app_manager": {"driver": "mysql", "array": {"apps": [
        {"id": "a", "key": "k", "secret": "hush-old-7c90a3e5", "enabled": true, "max_connections": "7",
         "allowed_origins": ["*"], "enable_client_messages": true, "max_client_events_per_second": 0}]}},
        "database": {"mysql": {"password": "hush"}}, "shutdown_grace_period": 10}"#;
    let imported = imported("config.json", json);
    let Settings { server, apps, .. } = tried(&imported.text).unwrap();
    assert_eq!((server.port, apps[0].connections_max), (6003, count(7)));
    assert_eq!((apps[0].client_events_per_second, apps[0].message_rate), (None, None));
    line(&imported, "# - apps are in a database (mysql)");
}

#[test]
fn sockudos_variables_come_from_the_env_beside_it() {
    let text = "port = ${PORT:-6009}\nactivity_timeout = 30\n[[app_manager.array.apps]]\nid = \"a\"\nkey = \"${APP_KEY}\"\n\
                secret = \"${APP_SECRET}\"\nenabled = true\n";
    let complete = import("config.toml", text, Some("APP_KEY=k\nAPP_SECRET=hush-var-7c90a3e5\n")).unwrap();
    let Settings { server, apps, .. } = tried(&complete.text).unwrap();
    assert_eq!((server.port, apps[0].key.to_string().as_str()), (6009, "k"));
    let lacking = import("config.toml", text, Some("APP_KEY=k\n")).unwrap();
    assert_eq!(lacking.problem, None);
    assert!(tried(&lacking.text).unwrap().development_app);
    line(&lacking, "# This app is not served: fill in secret, then take away the # of its lines");
    assert!(
        line(&lacking, "# secret = \"\"")
            .ends_with("from APP_SECRET, which stands in no .env beside the file")
    );
}

#[test]
fn reverbs_env_becomes_what_the_server_makes_of_it() {
    let imported = imported(".env", REVERB);
    let Settings { server, apps, .. } = tried(&imported.text).unwrap();
    assert_eq!((server.port, server.hostname.as_deref()), (6001, Some("ws.app.test")));
    assert_eq!((apps[0].id.as_str(), apps[0].key.to_string().as_str()), ("42", "reverb-key"));
    assert_eq!((apps[0].limits.message_bytes_max, apps[0].client_events_per_second), (20_000, None));
    let rate = MessageRate { messages_max: count(60).unwrap(), window: seconds(60), terminate: false };
    assert_eq!(apps[0].message_rate, Some(rate));
    assert_eq!(line(&imported, "port = "), "port = 6001 # from REVERB_SERVER_PORT");
    line(&imported, "# - REVERB_FANCY is not a variable of Reverb's, ignored");
}

#[test]
fn reverbs_php_becomes_the_same_server_with_the_variables_of_its_env() {
    let imported = import("config/reverb.php", PHP, Some(REVERB)).unwrap();
    assert_eq!((imported.apps, &imported.problem), (1, &None), "{}", imported.text);
    let Settings { server, apps, .. } = tried(&imported.text).unwrap();
    assert_eq!((server.port, server.hostname.as_deref()), (6001, Some("ws.app.test")));
    assert_eq!(server.request_bytes_max, Some(20_000));
    let app = &apps[0];
    assert_eq!((app.id.as_str(), app.key.to_string().as_str()), ("42", "reverb-key"));
    assert_eq!((app.ping_interval, app.activity_timeout), (seconds(45), seconds(20)));
    assert_eq!((app.limits.message_bytes_max, app.client_events), (15_000, ClientEvents::Members));
    assert_eq!((app.client_events_per_second, app.connections_max), (None, None));
    assert!(app.allowed_origins.allow(Some("https://a.app.test")) && !app.allowed_origins.allow(None));
    assert_eq!(line(&imported, "port"), "port = 6001 # from REVERB_SERVER_PORT");
    assert_eq!(line(&imported, "ping_int"), "ping_interval_seconds = 45 # from apps.apps.0.ping_interval");
}

#[test]
fn what_only_php_knows_is_left_to_the_person_and_opens_nothing() {
    let imported = import("config/reverb.php", PHP, Some(REVERB)).unwrap();
    line(&imported, "# This app is not served: fill in allowed_origins, then take away the # of its lines");
    assert_eq!((imported.apps, imported.left_out), (1, 1));
    let open = line(&imported, "# allowed_origins = \"\"");
    assert!(open.contains("apps.apps.1.allowed_origins is a call of config(), which is not read"), "{open}");
    assert!(imported.text.contains("# secret = \"\"") && !comments(&imported.text).contains("hush"));
    let without = import("config/reverb.php", PHP, None).unwrap();
    assert_eq!((without.apps, &without.problem), (0, &None));
    assert!(tried(&without.text).unwrap().development_app);
    line(
        &without,
        "# - config/reverb.php: apps.apps.0 is left out: neither app_id nor key nor secret is set",
    );
    for (php, expected) in [
        ("<?php return ['cors' => []];", "is none of the configurations"),
        ("<?php return ['apps' => ['web' => 1], 'servers' => []];", "is none of the configurations"),
        ("<?php echo 'hush';", "file:1: a statement other than return"),
    ] {
        let error = import("file", php, None).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("hush"), "{error}");
    }
}

#[test]
fn without_servers_or_apps_a_file_of_reverbs_has_those_of_the_stock_one() {
    let app = "['app_id' => '1', 'key' => 'k', 'secret' => 'hush', 'allowed_origins' => ['a.test']]";
    let apps = format!("<?php return ['apps' => ['provider' => 'config', 'apps' => [{app}]]];");
    let servers = "<?php return ['servers' => ['reverb' => ['path' => 'ws']]];";
    for (php, id, port, path) in [(apps.as_str(), "1", 6001, ""), (servers, "9", 8080, "/ws")] {
        let variables =
            "REVERB_APP_ID=9\nREVERB_APP_KEY=k9\nREVERB_APP_SECRET=hush\nREVERB_SERVER_PORT=6001\n";
        let imported = import("config/reverb.php", php, Some(variables)).unwrap();
        let Settings { server, apps, .. } = tried(&imported.text).unwrap();
        assert_eq!((apps.len(), apps[0].id.as_str()), (1, id), "{}", imported.text);
        assert_eq!((server.port, server.path.as_str()), (port, path), "{}", imported.text);
    }
}

#[test]
fn a_rate_of_soketis_that_lets_nothing_through_is_no_open_door() {
    let text = "SOKETI_DEFAULT_APP_ID=a\nSOKETI_DEFAULT_APP_ENABLE_CLIENT_MESSAGES=true\n\
                SOKETI_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC=0\nSOKETI_DEFAULT_APP_MAX_BACKEND_EVENTS_PER_SEC=0\n";
    let imported = imported(".env", text);
    let shut = line(&imported, "client_events =");
    assert_eq!(
        shut,
        "client_events = \"none\" # from SOKETI_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC, which is 0"
    );
    let remark = "# - SOKETI_DEFAULT_APP_MAX_BACKEND_EVENTS_PER_SEC is 0, which lets no event through";
    assert!(line(&imported, remark).ends_with("enabled = false shuts the app"));
}

/// What `import` writes serves the apps that the server would have served with the variables themselves.
#[test]
fn an_imported_env_serves_the_same_apps_as_the_env_itself() {
    for text in [REVERB, SOKETI_ENV] {
        let variables = dotenv::parse(text, Path::new(".env"), &BTreeMap::new()).unwrap();
        let direct = Settings::load(&Flags::default(), variables, Path::new("/nonexistent")).unwrap();
        let from_file = tried(&imported(".env", text).text).unwrap();
        assert_eq!(format!("{:#?}", from_file.apps), format!("{:#?}", direct.apps));
        assert_eq!(from_file.server, direct.server);
        assert_eq!(from_file.redis, direct.redis);
    }
}

#[test]
fn soketis_variables_are_read_as_json_but_for_names() {
    let imported = imported(".env", SOKETI_ENV);
    let Settings { server, apps, log, .. } = tried(&imported.text).unwrap();
    assert_eq!((server.listen[0].address.to_string().as_str(), log.debug), ("[::]:6001", true));
    assert_eq!((apps[0].id.as_str(), apps[0].connections_max), ("1e3", count(9)));
    let events = "events = [\"member_added\"] # from SOKETI_DEFAULT_APP_WEBHOOKS.0.event_types";
    assert_eq!(line(&imported, "events"), events);
    assert_eq!(line(&imported, "batch_m"), "batch_milliseconds = 50 # soketi's default");
    assert_eq!(line(&imported, "# - SOKETI_NOVELTY"), "# - SOKETI_NOVELTY: not known here");
    assert_eq!(line(&imported, "# - SOKETI_QUEUE_DRIVER"), "# - SOKETI_QUEUE_DRIVER: no queue is used");
}

#[test]
fn an_app_of_pushers_is_an_app() {
    let imported = imported(".env", PUSHER);
    assert_eq!(tried(&imported.text).unwrap().apps[0].id.as_str(), "9");
    line(&imported, "# - PUSHER_APP_CLUSTER: say where Laravel and Echo find the server");
}

#[test]
fn apps_in_a_database_are_left_to_the_person() {
    let imported = imported("soketi.json", r#"{"host": "0.0.0.0", "appManager": {"driver": "mysql"}}"#);
    assert_eq!(imported.apps, 0);
    line(&imported, "# - the apps are in a database (mysql): list them here");
    // The development app is not served to other machines, so the address has to wait for an app.
    assert!(line(&imported, "# host").starts_with("# host = \"0.0.0.0\" # from host; no app is configured"));
    assert!(tried(&imported.text).unwrap().development_app);
}

#[test]
fn what_the_server_refuses_becomes_a_comment_with_its_reason() {
    for (text, start, expected) in [
        (
            r#"{"port": 99999, "appManager": {}}"#,
            "# port",
            "# port = 99999 # from port; server.port is 99999; expected a whole number from 0 to 65535",
        ),
        (r#"{"port": "x", "appManager": {}}"#, "# - port", "# - port is not a number"),
        (
            r#"{"host": "app.test", "appManager": {}}"#,
            "# host",
            "# host = \"app.test\" # from host; server.host is \"app.test\"; expected an IP address of this machine, \
             such as 0.0.0.0 or ::",
        ),
        (
            r#"{"appManager.array.apps.0.maxEventNameLength": 5000}"#,
            "# event_name",
            "# event_name_chars_max = 5000 # from appManager.array.apps.0.maxEventNameLength; \
             apps.0.event_name_chars_max is 5000; expected a whole number from 1 to 4096",
        ),
        (
            r#"{"appManager.array.apps.0.key": "a:b"}"#,
            "# This app",
            "# This app is not served: apps.0.key is \"a:b\", which contains ':'; allowed are A-Z a-z 0-9 and . _ ~ -",
        ),
        (
            r#"{"appManager.array.apps": [{"id": "1"}, {"id": "1", "key": "l", "secret": "hush"}]}"#,
            "# This app",
            "# This app is not served: apps.0.id and apps.1.id are both \"1\"; every app needs an id of its own",
        ),
        (
            r#"{"appManager.array.apps": [{"id": "1"}, {"id": "2", "secret": "hush"}]}"#,
            "# This app",
            "# This app is not served: apps.0.key and apps.1.key are both \"app-key\"; every app needs a key of its own",
        ),
    ] {
        let imported = imported("soketi.json", text);
        assert_eq!(line(&imported, start), expected);
        assert!(!comments(&imported.text).contains("hush"), "{}", imported.text);
    }
}

fn comments(text: &str) -> String {
    text.lines()
        .map(|line| if line.starts_with('#') { line } else { line.split_once(" # ").map_or("", |(_, c)| c) })
        .collect()
}

#[test]
fn secrets_stand_in_lines_that_count_and_nowhere_else() {
    // A webhook's URL may hold a token behind its `?`.
    let keys = ["secret", "tls.passphrase", "password", "headers", "url"];
    let is_secret = |line: &str| keys.iter().any(|key| line.starts_with(&format!("{key} = ")));
    for (name, text) in ALL {
        let imported = import(name, text, Some(REVERB)).unwrap();
        assert!(!comments(&imported.text).contains("hush"), "{}", imported.text);
        let lines = imported.text.lines().filter(|line| line.contains("hush"));
        assert!(lines.clone().count() > 0 && lines.into_iter().all(is_secret), "{name}");
    }
}

#[test]
fn what_is_not_known_is_refused_in_one_line() {
    let unknown = "is none of the configurations that are known";
    for (text, expected) in [
        ("", unknown),
        ("hello", unknown),
        ("{\"name\": \"x\", \"version\": \"1.0.0\"}", unknown),
        ("{\"secret\": hush}", "file:1:12: this is not JSON"),
        ("[package]\nname = \"hush\"\n", unknown),
        ("[package]\nname = hush hush\n", "file:2:"),
        ("APP_NAME=Laravel\nAPP_KEY=hush\n", unknown),
        (
            "SOKETI_PORT=6001\nSOKETI_DEFAULT_APP_SECRET=hush hush\n",
            "file:2: SOKETI_DEFAULT_APP_SECRET: a value with",
        ),
        ("[[apps]]\nid = \"a\"\n", "is a configuration of Soundpost already"),
        (&"x".repeat(BYTES_MAX + 1), "has more than 1048576 bytes"),
    ] {
        let error = import("file", text, None).unwrap_err().to_string();
        assert!(error.contains(expected) && error.lines().count() == 1 && !error.contains("hush"), "{error}");
    }
}
