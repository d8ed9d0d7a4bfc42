//! `config/reverb.php`: what it says, which source beats it, and what stops the start.

use std::path::Path;

use super::{
    Flags, Invocation, Note, NoteLevel, Settings,
    tests::{APP, Dir, REVERB, has_secret, load, with},
};

/// What `reverb:install` publishes, without its comments.
pub(super) const STOCK: &str = r"<?php

return [
    'default' => env('REVERB_SERVER', 'reverb'),
    'servers' => [
        'reverb' => [
            'host' => env('REVERB_SERVER_HOST', '0.0.0.0'),
            'port' => env('REVERB_SERVER_PORT', 8080),
            'path' => env('REVERB_SERVER_PATH', ''),
            'hostname' => env('REVERB_HOST'),
            'options' => [
                'tls' => [],
            ],
            'max_request_size' => env('REVERB_MAX_REQUEST_SIZE', 10_000),
            'scaling' => [
                'enabled' => env('REVERB_SCALING_ENABLED', false),
                'channel' => env('REVERB_SCALING_CHANNEL', 'reverb'),
                'server' => [
                    'url' => env('REDIS_URL'),
                    'host' => env('REDIS_HOST', '127.0.0.1'),
                    'port' => env('REDIS_PORT', '6379'),
                    'username' => env('REDIS_USERNAME'),
                    'password' => env('REDIS_PASSWORD'),
                    'database' => env('REDIS_DB', '0'),
                    'timeout' => env('REDIS_TIMEOUT', 60),
                ],
            ],
            'pulse_ingest_interval' => env('REVERB_PULSE_INGEST_INTERVAL', 15),
        ],
    ],
    'apps' => [
        'provider' => 'config',
        'apps' => [
            [
                'key' => env('REVERB_APP_KEY'),
                'secret' => env('REVERB_APP_SECRET'),
                'app_id' => env('REVERB_APP_ID'),
                'options' => ['useTLS' => env('REVERB_SCHEME', 'https') === 'https'],
                'allowed_origins' => ['*'],
                'ping_interval' => env('REVERB_APP_PING_INTERVAL', 60),
                'activity_timeout' => env('REVERB_APP_ACTIVITY_TIMEOUT', 30),
                'max_connections' => env('REVERB_APP_MAX_CONNECTIONS'),
                'max_message_size' => env('REVERB_APP_MAX_MESSAGE_SIZE', 10_000),
                'accept_client_events_from' => env('REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM', 'members'),
                'rate_limiting' => [
                    'enabled' => env('REVERB_APP_RATE_LIMITING_ENABLED', false),
                    'max_attempts' => env('REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS', 60),
                    'decay_seconds' => env('REVERB_APP_RATE_LIMIT_DECAY_SECONDS', 60),
                    'terminate_on_limit' => env('REVERB_APP_RATE_LIMIT_TERMINATE', false),
                ],
            ],
        ],
    ],
];
";

pub(super) const NAME: &str = "config/reverb.php";

pub(super) fn start(
    file: &str,
    environment: &[(&str, &str)],
    files: &[(&str, &str)],
) -> Result<Settings, String> {
    load(&Flags::default(), environment, &[files, &[(NAME, file)]].concat())
}

/// The stock file with one line in place of another.
pub(super) fn changed(from: &str, to: &str) -> String {
    let begin = STOCK.find(from).unwrap_or_else(|| panic!("{from} is in the stock file"));
    let end = STOCK[begin..].find('\n').unwrap() + begin;
    format!("{}{to}{}", &STOCK[..begin], &STOCK[end..])
}

fn warnings(settings: &Settings) -> Vec<&str> {
    let is_warning = |note: &&Note| note.level == NoteLevel::Warning;
    settings.notes.iter().filter(is_warning).map(|note| note.text.as_str()).collect()
}

#[test]
fn the_stock_file_changes_nothing_of_what_the_variables_say() {
    let more = [
        ("REVERB_HOST", "ws.test"),
        ("REVERB_PORT", "443"),
        ("REVERB_SERVER_PORT", "6001"),
        ("REVERB_SERVER_PATH", "ws"),
        ("REVERB_MAX_REQUEST_SIZE", "20000"),
        ("REVERB_SCALING_ENABLED", "false"),
        ("REVERB_APP_MAX_CONNECTIONS", "7"),
        ("REVERB_APP_PING_INTERVAL", "20"),
        ("REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM", "none"),
        ("REVERB_APP_RATE_LIMITING_ENABLED", "true"),
        ("REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS", "9"),
        ("REDIS_PASSWORD", "null"),
    ];
    let scaling = [
        ("REVERB_SCALING_ENABLED", "true"),
        ("REVERB_SCALING_CHANNEL", "shop"),
        ("REDIS_URL", "rediss://:hush@cache/1"),
        ("REDIS_PORT", "6380"),
        ("REDIS_DB", "2"),
        ("REDIS_TIMEOUT", "5"),
    ];
    for environment in [REVERB.to_vec(), with(REVERB, &more), with(REVERB, &scaling)] {
        let without = load(&Flags::default(), &environment, &[]).unwrap();
        let settings = start(STOCK, &environment, &[]).unwrap();
        assert_eq!(format!("{:?}", settings.server), format!("{:?}", without.server));
        assert_eq!(format!("{:?}", settings.apps), format!("{:?}", without.apps));
        assert_eq!(settings.redis, without.redis);
        assert_eq!(warnings(&settings), warnings(&without));
    }
    // Nothing is set: the development app, on this machine.
    let settings = start(STOCK, &[], &[]).unwrap();
    assert!(settings.development_app && settings.server.listen[0].address.ip().is_loopback());
    assert!(
        warnings(&settings)[0].ends_with("apps.apps.0 is left out: neither app_id nor key nor secret is set")
    );
}

#[test]
fn what_the_file_says_itself_holds_and_gives_way_to_our_file_and_every_variable() {
    let file = changed("'port' =>", "'port' => 9000,");
    let toml = ("soundpost.toml", "[server]\nport = 1\n");
    let port = |environment: &[(&str, &str)], files: &[(&str, &str)]| {
        start(&file, &with(REVERB, environment), files).unwrap().server.port
    };
    assert_eq!(port(&[], &[]), 9000);
    assert_eq!(port(&[("SOKETI_PORT", "3")], &[]), 3);
    assert_eq!(port(&[], &[toml]), 1);
    assert_eq!(port(&[("SOUNDPOST_SERVER__PORT", "2")], &[toml]), 2);
    // The file no longer reads this one, so Reverb would not either.
    let settings = start(&file, &with(REVERB, &[("REVERB_SERVER_PORT", "4")]), &[]).unwrap();
    assert_eq!(settings.server.port, 9000);
    let warnings = warnings(&settings);
    assert!(
        warnings[0].starts_with("REVERB_SERVER_PORT is ignored: ")
            && warnings[0].ends_with("does not read it")
    );
    // A variable that it does read beats our file, as without it.
    let file = changed("'port' =>", "'port' => (int) env('WS_PORT', 5),");
    let set = |more: &[(&str, &str)]| start(&file, &with(REVERB, more), &[toml]).unwrap().server.port;
    assert_eq!((set(&[]), set(&[("WS_PORT", "6")])), (1, 6));
    // An app's, by its id.
    let file = changed("'allowed_origins' =>", "'allowed_origins' => ['a.test', '*.b.test'],");
    let toml = APP.replace("\"a\"", "\"1\"") + "allowed_origins = [\"c.test\"]\n";
    let allows = |files: &[(&str, &str)]| {
        let settings = start(&file, REVERB, files).unwrap();
        ["http://a.test", "https://x.b.test:1", "https://c.test"]
            .map(|page| settings.apps[0].allowed_origins.allow(Some(page)))
    };
    assert_eq!(allows(&[]), [true, true, false]);
    assert_eq!(allows(&[("soundpost.toml", &toml)]), [false, false, true]);
}

#[test]
fn further_apps_limits_and_lists_are_read() {
    let more = "'allowed_origins' => explode(',', env('ORIGINS', 'a.test')),\n 'ping_interval' => 20, 'max_message_size' => 5_000,\n\
                'max_connections' => (int) env('MAX', 3), 'rate_limiting' => ['enabled' => true, 'max_attempts' => 5],\n ],\n\
                'second' => ['app_id' => 2, 'key' => 'k2', 'secret' => 'a-secret-of-16-or-more', 'allowed_origins' => ['*'],\n\
                'accept_client_events_from' => 'nobody', 'rate_limiting' => null, ],\n\
                ['app_id' => '3', 'key' => 'k3', 'secret' => \"a-secret-of-16\\x2d\" . 'or-more', 'allowed_origins' => [],";
    let settings = start(&changed("'allowed_origins' =>", more), REVERB, &[]).unwrap();
    let [first, second, third] = settings.apps.as_slice() else { panic!("three apps: {:?}", settings.apps) };
    assert_eq!((first.id.as_str(), second.id.as_str(), third.id.as_str()), ("1", "2", "3"));
    assert!(
        first.allowed_origins.allow(Some("http://a.test"))
            && !first.allowed_origins.allow(Some("http://b.test"))
    );
    assert!(second.allowed_origins.allow(None) && !third.allowed_origins.allow(Some("http://a.test")));
    assert!(has_secret(third, "a-secret-of-16-or-more"));
    // The stock lines behind it change some of the first app's values, as in PHP.
    let rates: Vec<_> = settings.apps.iter().map(|app| app.client_events_per_second).collect();
    assert_eq!(rates, [None, None, None]);
    let modes: Vec<_> = settings.apps.iter().map(|app| format!("{:?}", app.client_events)).collect();
    assert_eq!(modes, ["All", "None", "Members"]);
    let rate = first.message_rate.unwrap();
    assert_eq!((rate.messages_max.get(), rate.window.as_secs(), rate.terminate), (5, 1, false));
    assert_eq!((first.connections_max.unwrap().get(), first.limits.message_bytes_max), (3, 5000));
    assert_eq!((first.ping_interval.as_secs(), second.message_rate), (20, None));
}

#[test]
fn words_of_variables_are_what_laravel_makes_of_them() {
    let environment = [("REVERB_APP_ID", "1"), ("REVERB_APP_KEY", "true"), ("REVERB_APP_SECRET", "false")];
    let env = "REVERB_SERVER_PATH=(empty)\nREVERB_HOST=null\nREVERB_APP_MAX_CONNECTIONS=(null)\nREVERB_APP_PING_INTERVAL=\n\
               REVERB_SCALING_ENABLED=(false)\nREVERB_APP_RATE_LIMITING_ENABLED=(TRUE)\n";
    let settings = start(STOCK, &environment, &[(".env", env)]).unwrap();
    let app = &settings.apps[0];
    assert_eq!((app.key.as_str(), settings.server.hostname.as_deref()), ("true", None));
    assert!(has_secret(app, "false"));
    assert_eq!((app.connections_max, app.ping_interval.as_secs()), (None, 60));
    assert_eq!(app.message_rate.unwrap().messages_max.get(), 60);
    let refused = start(STOCK, REVERB, &[(".env", "REVERB_SERVER_PORT=x")]).unwrap_err();
    assert!(refused.starts_with("server.port (REVERB_SERVER_PORT in .env) is \"x\""), "{refused}");
}

#[test]
fn a_file_settles_it_too_and_flags_skip_it() {
    let file = changed("'allowed_origins'", "'allowed_origins' => config('x'),");
    let toml = "[[apps]]\nid = \"1\"\nallowed_origins = [\"a.test\"]\n";
    let settings = start(&file, REVERB, &[("soundpost.toml", toml)]).unwrap();
    assert!(!settings.apps[0].allowed_origins.allow(Some("http://b.test")));
    let env_only = Flags { env_only: true, ..Flags::default() };
    assert!(load(&env_only, REVERB, &[(NAME, &file)]).unwrap().apps[0].allowed_origins.allow(None));
    let config = Flags { config: Some("x.toml".into()), ..Flags::default() };
    assert!(load(&config, &[], &[(NAME, &file), ("x.toml", APP)]).is_ok());
    let flags = Flags { port: Some(1), ..Flags::default() };
    assert!(load(&flags, REVERB, &[(NAME, &changed("'port'", "'port' => $port,"))]).is_ok());
    // Values that are of no use here may be anything.
    for (from, to) in [
        ("'options' => ['useTLS'", "'options' => config('x'),"),
        ("'pulse_ingest_interval'", "'pulse_ingest_interval' => Pulse::interval(),"),
        ("'host' => env('REDIS_HOST'", "'host' => config('database.redis.default.host'),"),
        ("'default'", "'default' => 5 + 5,"),
    ] {
        assert!(start(&changed(from, to), REVERB, &[]).is_ok(), "{to}");
    }
}

#[test]
fn the_file_beside_the_env_file_is_meant_else_the_one_here() {
    let port = |number: &str| changed("'port' =>", &format!("'port' => {number},"));
    let (here, beside) = (port("1"), port("2"));
    let flags = |path: &str| Flags { env_file: Some(path.into()), ..Flags::default() };
    let files =
        [(NAME, here.as_str()), ("app/config/reverb.php", &beside), ("app/.env", ""), ("etc/env", "")];
    for (path, expected) in [("app/.env", 2), ("etc/env", 1)] {
        assert_eq!(load(&flags(path), REVERB, &files).unwrap().server.port, expected, "{path}");
    }
    assert_eq!(load(&flags("etc/env"), REVERB, &files[1..]).unwrap().server.port, 8080);
}

#[test]
fn what_the_file_lacks_is_taken_from_reverbs_own_as_laravel_does() {
    let more = with(REVERB, &[("REVERB_SERVER_PORT", "6001"), ("REVERB_APP_MAX_CONNECTIONS", "7")]);
    let without = load(&Flags::default(), &more, &[]).unwrap();
    for file in ["<?php return [];", "<?php return ['port' => 1, 'app_id' => env('REVERB_APP_ID')];"] {
        let settings = start(file, &more, &[]).unwrap();
        assert_eq!(format!("{:?}", settings.server), format!("{:?}", without.server), "{file}");
        assert_eq!(format!("{:?}", settings.apps), format!("{:?}", without.apps), "{file}");
        assert!(warnings(&settings).is_empty(), "{:?}", settings.notes);
    }
    let half = start("<?php return ['servers' => ['reverb' => ['port' => 5]]];", &more, &[]).unwrap();
    assert_eq!((half.server.port, half.apps.len()), (5, 1));
    assert!(warnings(&half)[0].starts_with("REVERB_SERVER_PORT is ignored"), "{:?}", half.notes);
    // The apps of a version that was never released stand one level higher.
    let old = "<?php return [\n'apps' => [['app_id' => env('REVERB_APP_ID')]]];";
    let expected = "config/reverb.php:2: apps.apps is missing; name the apps in soundpost.toml (a table [[apps]] for each)";
    assert_eq!(start(old, REVERB, &[]).unwrap_err(), expected);
    assert!(start(old, &[], &[]).unwrap().development_app);
}

#[test]
fn the_file_is_among_those_that_are_watched_also_where_it_is_not_there_yet() {
    let watched = |flags: Flags, files: &[(&str, &str)]| {
        let dir = Dir::new(files);
        let (files, _) = Invocation { flags, environment: Vec::new(), dir: dir.0.clone() }.load();
        let name = |path: &Path| path.strip_prefix(&dir.0).unwrap().display().to_string();
        files.paths().map(name).collect::<Vec<_>>().join(" ")
    };
    let all = ".env config/reverb.php soundpost.toml";
    assert_eq!(watched(Flags::default(), &[(NAME, STOCK)]), all);
    assert_eq!(watched(Flags::default(), &[]), all);
    assert_eq!(watched(Flags { env_only: true, ..Flags::default() }, &[]), ".env soundpost.toml");
}

#[test]
fn the_switch_for_scaling_and_tls_are_asked_for_under_our_names() {
    let file = changed("'enabled' => env('REVERB_SCALING", "'enabled' => scaled(),");
    let refused = start(&file, REVERB, &[]).unwrap_err();
    let remedy = "; set redis.enabled = false in soundpost.toml, or SOUNDPOST_REDIS__ENABLED=false";
    assert!(refused.ends_with(remedy), "{refused}");
    assert!(start(&file, REVERB, &[("soundpost.toml", "[redis]\nenabled = false\n")]).is_ok());
    assert!(start(&file, &with(REVERB, &[("SOUNDPOST_REDIS__ENABLED", "false")]), &[]).is_ok());
    // Null files are none, whatever their variables.
    let file = changed(
        "'tls' =>",
        "'tls' => ['local_cert' => env('CERT'), 'local_pk' => null, 'verify_peer' => false],",
    );
    let settings = start(&file, REVERB, &[]).unwrap();
    let [warning] = warnings(&settings)[..] else { panic!("{:?}", settings.notes) };
    assert!(
        warning.ends_with("config/reverb.php: servers.reverb.options.tls.verify_peer is ignored"),
        "{warning}"
    );
}
