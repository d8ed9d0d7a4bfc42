//! `SOKETI_*`: each variable under our name, soketi's defaults, and what stops the start.

use soundpost_protocol::webhook::{Carrier, Webhook, event::EventKind};

use super::{
    NoteLevel, Settings,
    tests::{APP, REVERB, has_secret, refusal, settings, with},
};

const NAMED: &[(&str, &str)] = &[
    ("SOKETI_DEFAULT_APP_ID", "s"),
    ("SOKETI_DEFAULT_APP_KEY", "sk"),
    ("SOKETI_DEFAULT_APP_SECRET", "a-secret-of-16-or-more"),
];

/// Settings of soketi's app with one variable more.
fn one(name: &str, value: &str) -> Settings {
    settings(&with(NAMED, &[(name, value)]), &[])
}

fn warnings(settings: &Settings) -> Vec<&str> {
    let warnings = settings.notes.iter().filter(|note| note.level == NoteLevel::Warning);
    warnings.map(|note| note.text.as_str()).collect()
}

#[test]
fn soketis_defaults_hold_for_its_app_and_the_start_says_so() {
    let plain = settings(NAMED, &[]);
    let app = &plain.apps[0];
    assert_eq!((app.id.as_str(), app.key.as_str(), plain.server.port), ("s", "sk", 6001));
    assert_eq!(format!("{:?}", app.client_events), "None");
    assert_eq!(
        (app.client_events_per_second, app.connections_max, app.requests_per_second),
        (None, None, None)
    );
    assert_eq!(app.limits.presence_members_max.unwrap().get(), 100);
    assert_eq!((app.limits.user_info_bytes_max, app.limits.event_data_bytes_max), (2048, 102_400));
    assert_eq!((app.cache_ttl.as_secs(), app.limits.message_bytes_max), (3600, 204_800));
    assert_eq!((app.authorized_timeout, app.enabled), (None, true));
    assert_eq!(plain.notes[0].text, "the app is named by SOKETI_*: soketi's port and defaults hold");
    assert!(warnings(&plain).is_empty(), "{:?}", plain.notes);
    // One name is enough; the others are those that everybody knows.
    let bare = settings(&[("SOKETI_DEFAULT_APP_KEY", "mine")], &[]);
    assert_eq!((bare.apps[0].id.as_str(), bare.apps[0].key.as_str()), ("app-id", "mine"));
    assert!(has_secret(&bare.apps[0], "app-secret"));
    assert!(warnings(&bare).contains(&"the secret of the app is soketi's default, which everybody knows"));
    // Without a name there is no app of soketi's.
    let none = settings(&[("SOKETI_DEFAULT_APP_MAX_CONNS", "5"), ("SOKETI_PORT", "7")], &[]);
    assert!(none.development_app && none.server.port == 7);
    let expected = "SOKETI_DEFAULT_APP_MAX_CONNS is ignored: without SOKETI_DEFAULT_APP_ID, _KEY or _SECRET";
    assert_eq!(warnings(&none)[0], expected);
}

#[test]
fn every_variable_is_read_under_our_name() {
    let server = |name, value| one(name, value).server;
    assert_eq!(server("SOKETI_HOST", "127.0.0.1").listen[0].address.to_string(), "127.0.0.1:6001");
    assert_eq!(server("SOKETI_PORT", "7").port, 7);
    assert_eq!(server("SOKETI_PATH_PREFIX", "/ws").path, "/ws");
    for (milliseconds, seconds) in [("3000", 3), ("1", 1), ("1001", 2), ("0", 0)] {
        assert_eq!(server("SOKETI_SHUTDOWN_GRACE_PERIOD", milliseconds).drain.as_secs(), seconds);
    }
    assert!(one("SOKETI_DEBUG", "1").log.debug && !one("SOKETI_DEBUG", "false").log.debug);
    let admin = |more: &[(&str, &str)]| settings(&with(NAMED, more), &[]).server.admin;
    let (on, host, port) = (
        ("SOKETI_METRICS_ENABLED", "true"),
        ("SOKETI_METRICS_HOST", "::1"),
        ("SOKETI_METRICS_SERVER_PORT", "7"),
    );
    let text = |admin: super::AdminSettings| format!("{} {}", admin.host, admin.port);
    assert_eq!(text(admin(&[on])), "0.0.0.0 9601");
    assert_eq!(text(admin(&[on, host, port])), "::1 7");
    assert_eq!(text(admin(&[host, port])), "127.0.0.1 9601");
    let app = |name: &str, value| one(&format!("SOKETI_{name}"), value).apps.remove(0);
    assert!(!app("DEFAULT_APP_ENABLED", "false").enabled);
    let messages = app("DEFAULT_APP_ENABLE_CLIENT_MESSAGES", "true");
    assert_eq!(
        (format!("{:?}", messages.client_events).as_str(), messages.client_events_on_public),
        ("Members", true)
    );
    for (value, expected) in [("-1", None), ("0", None), ("9", Some(9))] {
        assert_eq!(app("DEFAULT_APP_MAX_CONNS", value).connections_max.map(u32::from), expected, "{value}");
    }
    let rate = app("DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC", "4").client_events_per_second;
    assert_eq!(
        (rate.map(u32::from), app("DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC", "-1").client_events_per_second),
        (Some(4), None)
    );
    assert_eq!(
        app("DEFAULT_APP_MAX_BACKEND_EVENTS_PER_SEC", "4").requests_per_second.map(u32::from),
        Some(4)
    );
    let both = [
        ("SOKETI_DEFAULT_APP_MAX_BACKEND_EVENTS_PER_SEC", "4"),
        ("SOKETI_DEFAULT_APP_MAX_READ_REQ_PER_SEC", "3"),
    ];
    assert_eq!(settings(&with(NAMED, &both), &[]).apps[0].requests_per_second.map(u32::from), Some(7));
    assert_eq!(app("DEFAULT_APP_USER_AUTHENTICATION", "true").authorized_timeout.unwrap().as_secs(), 30);
    let timeout =
        [("SOKETI_DEFAULT_APP_USER_AUTHENTICATION", "true"), ("SOKETI_USER_AUTHENTICATION_TIMEOUT", "4500")];
    assert_eq!(settings(&with(NAMED, &timeout), &[]).apps[0].authorized_timeout.unwrap().as_secs(), 5);
    assert_eq!(app("CHANNEL_LIMITS_MAX_NAME_LENGTH", "9").limits.channel_name_chars_max, 9);
    assert_eq!(app("CHANNEL_CACHE_TTL", "9").cache_ttl.as_secs(), 9);
    assert_eq!(app("EVENT_MAX_NAME_LENGTH", "9").limits.event_name_chars_max, 9);
    assert_eq!(app("EVENT_MAX_SIZE_IN_KB", "0.5").limits.event_data_bytes_max, 512);
    assert_eq!(app("PRESENCE_MAX_MEMBERS", "9").limits.presence_members_max.unwrap().get(), 9);
    assert_eq!(app("PRESENCE_MAX_MEMBER_SIZE", "10").limits.user_info_bytes_max, 10_240);
}

#[test]
fn values_are_json_first_and_then_text() {
    for (value, expected) in [
        ("123", "123"),
        ("007", "007"),
        ("12345678901234567890", "12345678901234567890"),
        ("\"x\"", "x"),
        ("true", "true"),
        ("null", "null"),
    ] {
        assert_eq!(one("SOKETI_DEFAULT_APP_ID", value).apps[0].id.as_str(), expected, "{value}");
        let secret = one("SOKETI_DEFAULT_APP_SECRET", value);
        assert!(has_secret(&secret.apps[0], expected), "{value}");
    }
    assert_eq!(one("SOKETI_PORT", "\"7\"").server.port, 7);
    assert_eq!(one("SOKETI_DEFAULT_APP_WEBHOOKS", "[]").apps.len(), 1);
    assert_eq!(one("SOKETI_DEFAULT_APP_ID", "").apps[0].id.as_str(), "app-id");
    // A `.env` will do.
    let settings = settings(&[], &[(".env", "SOKETI_DEFAULT_APP_ID=e\nSOKETI_PORT='7'\n")]);
    assert_eq!((settings.apps[0].id.as_str(), settings.server.port), ("e", 7));
}

#[test]
fn soketi_stands_between_reverb_and_the_file() {
    let toml = ("soundpost.toml", "[server]\nport = 1\n");
    let port = |more: &[(&str, &str)]| settings(&with(NAMED, more), &[toml]).server.port;
    let (soketi, reverb, ours) =
        (("SOKETI_PORT", "2"), ("REVERB_SERVER_PORT", "3"), ("SOUNDPOST_SERVER__PORT", "4"));
    assert_eq!(port(&[]), 1);
    assert_eq!(port(&[soketi]), 2);
    assert_eq!(port(&[soketi, reverb]), 3);
    assert_eq!(port(&[soketi, reverb, ours]), 4);
    // The file's app of the same id keeps what no variable says; soketi's defaults are below it.
    let app = APP.replace("\"a\"", "\"s\"") + "presence_members_max = 5\nmessage_bytes_max = 6\n";
    let limits =
        &settings(&with(NAMED, &[("SOKETI_PRESENCE_MAX_MEMBERS", "7")]), &[("soundpost.toml", &app)]).apps[0]
            .limits;
    assert_eq!((limits.presence_members_max.unwrap().get(), limits.message_bytes_max), (7, 6));
    // Two servers' apps are two.
    let both = settings(&with(NAMED, REVERB), &[]);
    assert_eq!(both.apps.iter().map(|app| app.id.as_str()).collect::<Vec<_>>(), ["s", "1"]);
    assert_eq!(both.apps.iter().map(|app| app.cache_ttl.as_secs()).collect::<Vec<_>>(), [3600, 1800]);
    let same = with(&with(NAMED, REVERB), &[("SOKETI_DEFAULT_APP_KEY", "k")]);
    let expected =
        "SOKETI_DEFAULT_APP_KEY and REVERB_APP_KEY are both \"k\"; every app needs a key of its own";
    assert_eq!(refusal(&same, &[]), expected);
}

#[test]
fn what_would_do_harm_stops_the_start_and_the_rest_is_named() {
    let lacking = "this version of Soundpost does not have";
    for (name, value, expected) in [
        (
            "ADAPTER_DRIVER",
            "cluster",
            "SOKETI_ADAPTER_DRIVER is \"cluster\"; expected \"local\" or \"redis\": nodes are joined over Redis only".to_owned(),
        ),
        ("APP_MANAGER_DRIVER", "mysql", format!("SOKETI_APP_MANAGER_DRIVER: {lacking} apps out of a database")),
        ("MODE", "worker", format!("SOKETI_MODE: {lacking} a process for webhooks alone")),
        ("SSL_CA", "ca.pem", format!("SOKETI_SSL_CA: {lacking} certificates of clients")),
        (
            "DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC",
            "0",
            "SOKETI_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC is \"0\"; expected a number above 0, or -1 for no limit".to_owned(),
        ),
        ("DEFAULT_APP_MAX_CONNS", "x", "SOKETI_DEFAULT_APP_MAX_CONNS is \"x\"; expected a whole number".to_owned()),
        ("DEFAULT_APP_ENABLED", "maybe", "SOKETI_DEFAULT_APP_ENABLED is \"maybe\"; expected true or false".to_owned()),
        ("SHUTDOWN_GRACE_PERIOD", "-1", "SOKETI_SHUTDOWN_GRACE_PERIOD is \"-1\"; expected milliseconds, from 0".to_owned()),
        ("EVENT_MAX_SIZE_IN_KB", "0", "SOKETI_EVENT_MAX_SIZE_IN_KB is \"0\"; expected kilobytes, above 0".to_owned()),
        ("PORT", "x", "server.port (SOKETI_PORT) is \"x\"; expected a whole number from 0 to 65535".to_owned()),
        ("PRESENCE_MAX_MEMBERS", "-1", "SOKETI_PRESENCE_MAX_MEMBERS is \"-1\"; expected a whole number from 0 to 4294967295".to_owned()),
    ] {
        assert_eq!(refusal(&with(NAMED, &[(&format!("SOKETI_{name}"), value)]), &[]), expected);
    }
    for (name, value) in
        [("ADAPTER_DRIVER", "local"), ("APP_MANAGER_DRIVER", "array"), ("MODE", "full"), ("MODE", "server")]
    {
        let settings = one(&format!("SOKETI_{name}"), value);
        assert!(warnings(&settings).is_empty(), "{:?}", settings.notes);
    }
    for (name, expected) in [
        ("CACHE_DRIVER", "SOKETI_CACHE_DRIVER is ignored"),
        ("DB_MYSQL_HOST", "SOKETI_DB_MYSQL_HOST is ignored"),
        ("DB_REDIS_HOST", "SOKETI_DB_REDIS_HOST is ignored: without SOKETI_ADAPTER_DRIVER=redis"),
        (
            "METRICS_PROMETHEUS_PREFIX",
            "SOKETI_METRICS_PROMETHEUS_PREFIX is ignored: names of metrics begin with soundpost_",
        ),
        ("EVENT_MAX_BATCH_SIZE", "SOKETI_EVENT_MAX_BATCH_SIZE is ignored: a batch holds 10 events"),
        (
            "DEFAULT_APP_MAX_READ_REQ_PER_SEC",
            "SOKETI_DEFAULT_APP_MAX_READ_REQ_PER_SEC is ignored: apps.requests_per_second limits all requests together",
        ),
        (
            "METRICS_HOST",
            "SOKETI_METRICS_HOST is ignored: without SOKETI_METRICS_ENABLED=true; admin.host and admin.port are the same",
        ),
        ("PROT", "SOKETI_PROT is ignored: not a variable of soketi's"),
        ("DEFAULT_APP_NAME", "SOKETI_DEFAULT_APP_NAME is ignored: not a variable of soketi's"),
    ] {
        assert_eq!(warnings(&one(&format!("SOKETI_{name}"), "5")), [expected]);
    }
}

const HOOKS: (&str, &str) = (
    "SOKETI_DEFAULT_APP_WEBHOOKS",
    r#"[{"url":"https://a.test/hook?t=hush","event_types":["member_added","cache_miss"],"headers":{"X-Auth":"hush"},
        "filter":{"channel_name_starts_with":"presence-","channel_name_ends_with":""},"lambda":{}},
        {"url":"http://b.test","event_types":["client_event"],"lambda_function":"f"}]"#,
);

#[test]
fn soketis_webhooks_are_ours() {
    let webhooks = |more: &[(&str, &str)]| settings(&with(NAMED, more), &[]).apps.remove(0).webhooks;
    let all = webhooks(&[HOOKS]);
    let Carrier::Http(http) = &all[0].carrier else { panic!("{all:?}") };
    assert_eq!(
        (http.url.path_and_query(), http.headers.iter().next()),
        ("/hook?t=hush", Some(("X-Auth", "hush")))
    );
    let target = &all[0].target;
    assert_eq!(target.events.iter().map(EventKind::word).collect::<Vec<_>>(), ["member_added", "cache_miss"]);
    assert_eq!((target.filter.prefix(), target.filter.suffix()), ("presence-", ""));
    let waits = |more: &[(&str, &str)]| -> Vec<u128> {
        let all = webhooks(&with(&[HOOKS], more));
        all.iter().map(|webhook| webhook.target.batching.wait().as_millis()).collect()
    };
    let (on, long) = (("SOKETI_WEBHOOKS_BATCHING", "true"), ("SOKETI_WEBHOOKS_BATCHING_DURATION", "70"));
    for (more, wait) in [(&[][..], 0), (&[on], 50), (&[on, long], 70), (&[long], 0)] {
        assert_eq!(waits(more), [wait, wait]);
    }
    let idle = "SOKETI_WEBHOOKS_BATCHING_DURATION is ignored: without SOKETI_WEBHOOKS_BATCHING=true";
    assert_eq!(warnings(&settings(&with(NAMED, &[HOOKS, long]), &[])), [idle]);
    let idle = "SOKETI_WEBHOOKS_BATCHING is ignored: without webhooks in SOKETI_DEFAULT_APP_WEBHOOKS";
    assert_eq!(warnings(&one(on.0, on.1)), [idle]);
}

#[test]
fn soketis_webhooks_are_one_list_and_ours_lie_over_it_by_number() {
    let file = APP.replace("\"a\"", "\"s\"")
        + "[[apps.webhooks]]\nurl = \"https://file.test\"\nheaders = { A = \"b\" }\n\
               [[apps.webhooks]]\nurl = \"https://file.test/1\"\n[[apps.webhooks]]\nurl = \"https://file.test/2\"\n";
    let of = |more: &[(&str, &str)]| {
        let settings = settings(&with(NAMED, more), &[("soundpost.toml", &file)]);
        let url = |webhook: &std::sync::Arc<Webhook>| match &webhook.carrier {
            Carrier::Http(http) => http.url.host().to_owned(),
            Carrier::LaravelQueue(_) => panic!("{webhook:?}"),
        };
        settings.apps[0].webhooks.iter().map(url).collect::<Vec<_>>()
    };
    assert_eq!(of(&[]), ["file.test"; 3]);
    assert_eq!(of(&[HOOKS]), ["a.test", "b.test"]);
    let ours = [("SOUNDPOST_APPS__0__ID", "s"), ("SOUNDPOST_APPS__0__WEBHOOKS__1__URL", "https://ours.test")];
    assert_eq!(of(&with(&[HOOKS], &ours)), ["a.test", "ours.test"]);
}

#[test]
fn webhooks_of_soketis_that_cannot_be_are_refused_by_their_number() {
    for (webhook, expected) in [
        (r#""hush""#, " is no JSON object"),
        (r#"{"event_types":["cache_miss"]}"#, " has no url"),
        (
            r#"{"url":"http://a","event_types":"cache_miss"}"#,
            " has no event_types, a list of the events to send",
        ),
        (
            r#"{"lambda_function":"hush","event_types":[]}"#,
            ": this version of Soundpost does not have webhooks that call AWS Lambda",
        ),
        (
            r#"{"url":"hush","event_types":["cache_miss"]}"#,
            ".url (VARIABLE): must begin with https:// or http://",
        ),
        (
            r#"{"url":"http://a","event_types":["cache_miss"],"headers":{"A":["hush"]}}"#,
            ".headers (VARIABLE): the value of \"A\" is no text; write it in quotes",
        ),
    ] {
        let list = format!("[{{\"url\":\"http://b\",\"event_types\":[\"cache_miss\"]}},{webhook}]");
        let line = refusal(&with(NAMED, &[(HOOKS.0, &list)]), &[]).replace(HOOKS.0, "VARIABLE");
        let expected = match expected.strip_prefix('.') {
            Some(_) => format!("webhooks.1{expected}"),
            None => format!("webhooks.1 (VARIABLE){expected}"),
        };
        assert_eq!(line, expected);
    }
    let long = [HOOKS, ("SOKETI_WEBHOOKS_BATCHING", "1"), ("SOKETI_WEBHOOKS_BATCHING_DURATION", "20000")];
    let expected = "webhooks.0.batch_milliseconds (SOKETI_WEBHOOKS_BATCHING_DURATION) is 20000; expected a whole number \
                    from 0 to 10000";
    assert_eq!(refusal(&with(NAMED, &long), &[]), expected);
}
