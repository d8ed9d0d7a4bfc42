//! `REVERB_SCALING_*` and `REDIS_*`, and `scaling` of `config/reverb.php`.

use super::{
    super::{
        Flags, NoteLevel, RedisAddress, RedisPassword, RedisServers, RedisSettings, RedisTls, Settings,
        reverb_file_tests::{STOCK, changed, start},
        tests::{APP, REVERB, load, refusal, settings, with},
    },
    tests::{standard, tcp},
};

const ON: (&str, &str) = ("REVERB_SCALING_ENABLED", "true");

fn redis(variables: &[(&str, &str)]) -> RedisSettings {
    settings(&with(REVERB, &with(&[ON], variables)), &[]).redis.unwrap()
}

fn at(servers: RedisAddress) -> RedisSettings {
    RedisSettings { servers: RedisServers::Standalone(servers), ..standard() }
}

#[test]
fn laravels_variables_say_where_redis_is_once_scaling_is_on() {
    let cache = || at(tcp("cache", 6379));
    let hush = || Some(RedisPassword::new("hush"));
    let me = || Some("me".to_owned());
    let tls = || Some(RedisTls::default());
    for (variables, expected) in [
        (&[][..], standard()),
        // A new Laravel project has these.
        (
            &[
                ("REDIS_CLIENT", "phpredis"),
                ("REDIS_HOST", "127.0.0.1"),
                ("REDIS_PASSWORD", "null"),
                ("REDIS_PORT", "6379"),
            ],
            standard(),
        ),
        (&[("REDIS_HOST", "cache"), ("REDIS_URL", ""), ("REDIS_DB", "(null)")], cache()),
        (&[("REDIS_PORT", "6380")], at(tcp("127.0.0.1", 6380))),
        (
            &[
                ("REDIS_HOST", "cache"),
                ("REDIS_USERNAME", "me"),
                ("REDIS_PASSWORD", "hush"),
                ("REDIS_DB", "3"),
            ],
            RedisSettings { username: me(), password: hush(), database: 3, ..cache() },
        ),
        // Nobody logs in by name alone, in Reverb either.
        (&[("REDIS_HOST", "cache"), ("REDIS_USERNAME", "me")], cache()),
        (
            &[("REDIS_PASSWORD", "true")],
            RedisSettings { password: Some(RedisPassword::new("true")), ..standard() },
        ),
        (&[("REDIS_HOST", "tls://cache")], RedisSettings { tls: tls(), ..cache() }),
        (
            &[("REDIS_HOST", "/run/redis.sock"), ("REDIS_PORT", "0x")][..1],
            at(RedisAddress::Unix("/run/redis.sock".into())),
        ),
        (&[("REDIS_HOST", "::1")], at(tcp("::1", 6379))),
        // Of the URL each part comes first, and what it does not say is taken from the others.
        (
            &[
                ("REDIS_URL", "tls://me:hush@cache/4"),
                ("REDIS_HOST", "other"),
                ("REDIS_PASSWORD", "x"),
                ("REDIS_DB", "5"),
            ],
            RedisSettings { username: me(), password: hush(), database: 4, tls: tls(), ..cache() },
        ),
        (
            &[
                ("REDIS_URL", "redis://cache"),
                ("REDIS_PORT", "6380"),
                ("REDIS_PASSWORD", "hush"),
                ("REDIS_DB", "5"),
            ],
            RedisSettings { password: hush(), database: 5, ..at(tcp("cache", 6380)) },
        ),
        (
            &[("REDIS_URL", "redis://:hush@cache"), ("REDIS_USERNAME", "you")],
            RedisSettings { password: hush(), ..cache() },
        ),
        (&[("REVERB_SCALING_CHANNEL", "shop")], RedisSettings { channel: "shop".to_owned(), ..standard() }),
    ] {
        assert_eq!(redis(variables), expected, "{variables:?}");
    }
    for off in ["false", "(false)", "null", ""] {
        let broken = [("REVERB_SCALING_ENABLED", off), ("REDIS_URL", "no URL"), ("REDIS_PORT", "none")];
        assert_eq!(settings(&with(REVERB, &broken), &[]).redis, None, "{off}");
    }
}

#[test]
fn what_laravels_variables_cannot_mean_is_named_without_a_secret() {
    for (variable, value, expected) in [
        ("REDIS_URL", "me:hush@cache", "REDIS_URL is no URL of Redis; expected redis://[user:password@]host"),
        ("REDIS_URL", "redis://:hush", "REDIS_URL has a port that is no number from 1 to 65535"),
        ("REDIS_HOST", "a b", "REDIS_HOST names no host"),
        ("REDIS_HOST", "http://a", "REDIS_HOST is no URL of Redis"),
        ("REDIS_PORT", "x", "REDIS_PORT is \"x\"; expected a port, from 1 to 65535"),
        (
            "REDIS_DB",
            "cache",
            "REDIS_DB is \"cache\"; expected the number of a database, from 0 to 2147483647",
        ),
        (
            "REVERB_SCALING_CHANNEL",
            "a b",
            "redis.channel (REVERB_SCALING_CHANNEL) is \"a b\"; expected 1 to 200",
        ),
    ] {
        let error = refusal(&with(REVERB, &[ON, (variable, value)]), &[]);
        assert!(error.starts_with(expected) && !error.contains("hush"), "{error}");
    }
}

#[test]
fn what_reverb_alone_needs_is_named() {
    let variables = [ON, ("REDIS_TIMEOUT", "5"), ("REDIS_URL", "redis://cache?read_timeout=1")];
    let settings = settings(&with(REVERB, &variables), &[]);
    for text in [
        "REDIS_TIMEOUT is ignored: a node looks for Redis until it is back",
        "options behind the ? of REDIS_URL are ignored",
        "nodes are joined over Redis: cache:6379, database 0, names begin with soundpost:0:reverb",
    ] {
        let found = settings.notes.iter().find(|note| note.text == text);
        assert_eq!(found.map(|note| note.level), Some(NoteLevel::Info), "{text} in {:?}", settings.notes);
    }
}

#[test]
fn the_variables_stand_between_our_own_and_the_file() {
    let file = format!("{APP}[redis]\nenabled = true\nurl = \"redis://file\"\nprefix = \"shop\"\n");
    let servers = |environment: &[(&str, &str)]| {
        let redis = settings(environment, &[("soundpost.toml", &file)]).redis;
        redis.map(|redis| (redis.servers.to_string(), redis.prefix))
    };
    let at = |host: &str| Some((format!("{host}:6379"), "shop".to_owned()));
    let host = ("REDIS_HOST", "variable");
    assert_eq!(servers(&[host]), at("file"), "REDIS_* are Laravel's own without scaling");
    assert_eq!(servers(&[ON]), at("file"), "nothing says where");
    assert_eq!(servers(&[ON, host]), at("variable"));
    assert_eq!(servers(&[ON, host, ("SOUNDPOST_REDIS__URL", "redis://ours")]), at("ours"));
    assert_eq!(servers(&[("REVERB_SCALING_ENABLED", "false")]), None);
    assert_eq!(servers(&[ON, host, ("SOUNDPOST_REDIS__ENABLED", "false")]), None);
}

/// The stock file with these lines in place of its `server`'s.
fn with_server(lines: &str) -> String {
    let file = changed("'enabled' => env('REVERB_SCALING", "'enabled' => true,");
    let (before, rest) = file.split_once("'server' => [").unwrap();
    let (_, after) = rest.split_once("],").unwrap();
    format!("{before}{lines}{after}")
}

fn redis_of(lines: &str, environment: &[(&str, &str)], toml: &str) -> RedisSettings {
    let toml = format!("[redis]\n{toml}");
    let settings: Result<Settings, _> =
        start(&with_server(lines), &with(REVERB, environment), &[("soundpost.toml", &toml)]);
    settings.unwrap().redis.unwrap()
}

#[test]
fn the_file_of_reverbs_says_it_by_itself_or_by_variables_of_any_name() {
    let own = "'server' => ['host' => 'cache', 'port' => 6380, 'password' => 'hush', 'database' => 2, 'scheme' => 'tls'],";
    let expected = RedisSettings {
        password: Some(RedisPassword::new("hush")),
        database: 2,
        tls: Some(RedisTls::default()),
        ..at(tcp("cache", 6380))
    };
    assert_eq!(redis_of(own, &[], ""), expected);
    // What the file itself says gives way to ours.
    let ours = redis_of(own, &[], "url = \"redis://ours/7\"");
    assert_eq!((ours.servers.to_string().as_str(), ours.database, ours.tls), ("ours:6379", 7, None));
    let named = "'server' => ['host' => env('WS_REDIS', 'cache'), 'port' => env('WS_PORT', 1)],";
    assert_eq!(redis_of(named, &[], ""), at(tcp("cache", 1)));
    assert_eq!(redis_of(named, &[("WS_PORT", "2")], "url = \"redis://ours\""), at(tcp("cache", 2)));
    // Reverb then takes Laravel's default connection, and that asks for the usual variables.
    for none in ["", "'server' => [],", "'server' => null,"] {
        assert_eq!(redis_of(none, &[("REDIS_HOST", "cache")], ""), at(tcp("cache", 6379)), "{none}");
    }
    let off = changed("'enabled' => env('REVERB_SCALING", "'enabled' => false,");
    assert_eq!(start(&off, &with(REVERB, &[("REDIS_PORT", "x")]), &[]).unwrap().redis, None);
    assert_eq!(start(STOCK, REVERB, &[]).unwrap().redis, None);
    // Ours may switch it on where the file does not.
    let on = start(&off, REVERB, &[("soundpost.toml", "[redis]\nenabled = true\n")]).unwrap();
    assert_eq!(on.redis, Some(standard()));
}

#[test]
fn what_of_it_is_not_certain_stops_the_start_until_another_source_says_it() {
    let url = "set redis.url in soundpost.toml, or SOUNDPOST_REDIS__URL";
    for (lines, expected, toml) in [
        ("'server' => config('database.redis.default'),", url, "url = \"redis://ours\""),
        ("'server' => ['host' => gethostname(), 'port' => env('REDIS_PORT')],", url, "cluster = [\"a\"]"),
        ("'server' => ['host' => env('WS_REDIS')],", url, "url = \"redis://ours\""),
        (
            "'server' => ['password' => secret('redis')],",
            "set redis.password in soundpost.toml, or SOUNDPOST_REDIS__PASSWORD",
            "password = \"hush\"",
        ),
    ] {
        let (file, environment) = (with_server(lines), with(REVERB, &[("REDIS_PORT", "6380")]));
        let error = start(&file, &environment, &[]).unwrap_err();
        assert!(error.starts_with("config/reverb.php:") && error.ends_with(expected), "{lines}: {error}");
        assert!(start(&file, &environment, &[("soundpost.toml", &format!("[redis]\n{toml}\n"))]).is_ok());
        let alone = with(&environment, &[("SOUNDPOST_REDIS__ENABLED", "false")]);
        assert_eq!(start(&file, &alone, &[]).unwrap().redis, None);
    }
    let env_only = Flags { env_only: true, ..Flags::default() };
    let files = [("config/reverb.php", "<?php return ['servers' => broken()];")];
    assert!(load(&env_only, &with(REVERB, &[ON]), &files).unwrap().redis.is_some());
}
