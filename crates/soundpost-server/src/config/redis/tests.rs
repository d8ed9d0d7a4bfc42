//! `[redis]` of our own sources: what it means, what is refused, and which source counts.

use super::super::{
    Flags, RedisAddress, RedisPassword, RedisServers, RedisSettings, RedisTls, Report,
    tests::{APP, Dir, refusal, settings},
};

pub(super) fn tcp(host: &str, port: u16) -> RedisAddress {
    RedisAddress::Tcp(host.to_owned(), port)
}

/// What holds where nothing but `enabled` is written.
pub(super) fn standard() -> RedisSettings {
    RedisSettings::new(RedisServers::Standalone(tcp("127.0.0.1", 6379)))
}

/// A file with an app, Redis, and these lines.
fn file(lines: &str) -> String {
    format!("{APP}[redis]\nenabled = true\n{lines}")
}

fn redis(lines: &str) -> RedisSettings {
    settings(&[], &[("soundpost.toml", &file(lines))]).redis.unwrap()
}

#[test]
fn redis_is_off_until_it_is_switched_on() {
    assert_eq!(settings(&[], &[("soundpost.toml", APP)]).redis, None);
    assert_eq!(redis(""), standard());
    assert_eq!(settings(&[("SOUNDPOST_REDIS__ENABLED", "true")], &[]).redis, Some(standard()));
    let written = format!("{APP}[redis]\nurl = \"redis://cache\"\n");
    let off = settings(&[], &[("soundpost.toml", &written)]);
    let text = " is of no use without redis.enabled = true: this node serves alone";
    assert!(off.redis.is_none() && off.notes.iter().any(|note| note.text.ends_with(text)), "{:?}", off.notes);
    let off = settings(&[], &[("soundpost.toml", &written.replace("url", "enabled = false\nurl"))]);
    assert!(off.redis.is_none() && !off.notes.iter().any(|note| note.text.ends_with(text)));
}

#[test]
fn each_way_to_say_where_redis_is() {
    let password = |text: &str| Some(RedisPassword::new(text));
    let sentinel = |username: Option<&str>, password| RedisServers::Sentinel {
        master: "mymaster".to_owned(),
        sentinels: vec![tcp("a", 26_379), tcp("::1", 7)],
        username: username.map(str::to_owned),
        password,
    };
    let cluster = |port| RedisServers::Cluster(vec![tcp("a", port), tcp("b", 6379)]);
    let tls = || Some(RedisTls::default());
    for (lines, expected) in [
        (
            "url = \"redis://me:hu%3Ash@cache:6380/2\"",
            RedisSettings {
                servers: RedisServers::Standalone(tcp("cache", 6380)),
                username: Some("me".to_owned()),
                password: password("hu:sh"),
                database: 2,
                ..standard()
            },
        ),
        (
            "url = \"redis://me:hush@127.0.0.1/2\"\nusername = \"\"\npassword = 123\ndatabase = \"0\"",
            RedisSettings { password: password("123"), ..standard() },
        ),
        ("url = \"rediss://127.0.0.1\"", RedisSettings { tls: tls(), ..standard() }),
        (
            "url = \"unix:///run/redis.sock?db=3\"",
            RedisSettings {
                servers: RedisServers::Standalone(RedisAddress::Unix("/run/redis.sock".into())),
                database: 3,
                ..standard()
            },
        ),
        (
            "sentinels = [\"a\", \"[::1]:7\"]\nmaster = \"mymaster\"\npassword = \"hush\"\ndatabase = 4",
            RedisSettings {
                servers: sentinel(None, None),
                password: password("hush"),
                database: 4,
                ..standard()
            },
        ),
        (
            "sentinels = \"rediss://a,rediss://[::1]:7\"\nmaster = \"mymaster\"\nsentinel_username = \"s\"\n\
             sentinel_password = \"t\"",
            RedisSettings { servers: sentinel(Some("s"), password("t")), tls: tls(), ..standard() },
        ),
        ("cluster = [\"a:7000\", \"b\"]", RedisSettings { servers: cluster(7000), ..standard() }),
        (
            "cluster = [\"tls://a:1\", \"tls://b\"]",
            RedisSettings { servers: cluster(1), tls: tls(), ..standard() },
        ),
        // An empty list says nothing.
        ("cluster = []\nsentinels = \"\"", standard()),
    ] {
        assert_eq!(redis(lines), expected, "{lines}");
    }
}

#[test]
fn files_for_tls_are_those_of_the_working_directory() {
    let text = file("cluster = [\"a\"]\n[redis.tls]\nca = \"ca.pem\"\ncertificate = \"/keys/own.pem\"\n");
    let dir = Dir::new(&[("soundpost.toml", &text)]);
    let load = |environment: &[(&str, &str)]| {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        super::super::Settings::load(&Flags::default(), environment, &dir.0)
            .unwrap()
            .redis
            .unwrap()
            .tls
            .unwrap()
    };
    let (ca, own) = (Some(dir.0.join("ca.pem")), "/keys/own.pem");
    assert_eq!(load(&[]), RedisTls { ca: ca.clone(), client: Some((own.into(), own.into())) });
    let key = [("SOUNDPOST_REDIS__TLS__KEY", "own.key")];
    assert_eq!(load(&key), RedisTls { ca, client: Some((own.into(), dir.0.join("own.key"))) });
}

fn refuses(lines: &str, expected: &str) {
    let error = refusal(&[], &[("soundpost.toml", &file(lines))]);
    assert!(error.starts_with(&format!("redis.{expected}")), "{lines}: {error}");
    assert!(!error.contains("hush"), "{error}");
}

#[test]
fn what_is_half_said_or_said_twice_is_refused() {
    let many = format!("cluster = {:?}", ["a"; 101]);
    for (lines, expected) in [
        ("pool = 1", "pool (soundpost.toml): unknown key"),
        (
            "url = \"localhost:6379\"",
            "url (soundpost.toml) is no URL of Redis; expected redis://[user:password@]host",
        ),
        ("url = \"redis://:hush\"", "url (soundpost.toml) has a port that is no number from 1 to 65535"),
        ("url = true", "url (soundpost.toml) is not text; write it in quotes"),
        (
            "url = \"redis://h?timeout=5\"",
            "url (soundpost.toml) has options behind a ? that mean nothing here",
        ),
        (
            "url = \"redis://h\"\ncluster = [\"a\"]",
            "url (soundpost.toml) and redis.cluster (soundpost.toml) exclude each other; set one",
        ),
        (
            "sentinels = \"a\"\ncluster = \"a\"",
            "sentinels (soundpost.toml) and redis.cluster (soundpost.toml) exclude each other; set one",
        ),
        ("sentinels = \"a\"", "master is missing: the name that the sentinels know the master by"),
        (
            "master = \"a\"",
            "sentinels is missing: redis.master (soundpost.toml) is of no use without their addresses",
        ),
        (
            "sentinel_password = \"hush\"",
            "sentinels is missing: redis.sentinel_password (soundpost.toml) is of no",
        ),
        ("username = \"me\"", "password is missing: who logs in to Redis by name needs one"),
        (
            "sentinels = \"a\"\nmaster = \"m\"\nsentinel_username = \"me\"",
            "sentinel_password is missing: who logs in to the sentinels by name needs one",
        ),
        ("password = 0.5", "password (soundpost.toml) is not text; write it in quotes"),
        (
            "cluster = [\"redis://:hush@a\"]",
            "cluster (soundpost.toml) has an entry that is no host:port; user,",
        ),
        ("cluster = [\"a b\"]", "cluster (soundpost.toml) has an entry that is no host:port; user,"),
        ("cluster = [\"rediss://a\", \"b\"]", "cluster (soundpost.toml) has entries of different schemes"),
        (&many, "cluster (soundpost.toml) has more than 100 entries"),
        (
            "cluster = \"a\"\ndatabase = 1",
            "database (soundpost.toml) is 1; expected 0 with redis.cluster: a Redis Cluster has no other",
        ),
        ("tls.key = \"k\"", "tls.certificate is missing: redis.tls.key is the key of that"),
        (
            "tls.ca = \"c\"",
            "tls.ca (soundpost.toml) is \"c\"; expected rediss:// in redis.url, or in front of each",
        ),
        (
            "url = \"redis://h\"\ntls.certificate = \"c\"",
            "tls.certificate (soundpost.toml) is \"c\"; expected rediss:// in redis.url",
        ),
        ("cluster = \"redis://a\"\ntls.ca = \"c\"", "tls.ca (soundpost.toml) is \"c\"; expected rediss://"),
        ("tls.ca = \"\"", "tls.ca (soundpost.toml) is \"\"; expected the path of a PEM file"),
    ] {
        refuses(lines, expected);
    }
}

#[test]
fn names_and_numbers_out_of_their_range_are_refused() {
    let long = format!("prefix = \"{}\"", "p".repeat(201));
    let names = "1 to 200 bytes without spaces, control characters, { and }";
    for (lines, expected) in [
        ("database = -1", "database (soundpost.toml) is -1; expected a whole number from 0 to 2147483647"),
        ("prefix = \"a b\"", &format!("prefix (soundpost.toml) is \"a b\"; expected {names}")),
        ("prefix = \"\"", &format!("prefix (soundpost.toml) is \"\"; expected {names}")),
        ("channel = \"{a}\"", &format!("channel (soundpost.toml) is \"{{a}}\"; expected {names}")),
        ("channel = \"a\\u0000\"", &format!("channel (soundpost.toml) is \"a\\0\"; expected {names}")),
        (&long, "prefix (soundpost.toml) is \"ppp"),
        (
            "channel = \"a:0:b\"",
            "channel (soundpost.toml) is \"a:0:b\"; expected no number in front of a colon",
        ),
        (
            "on_outage = \"retry\"",
            "on_outage (soundpost.toml) is \"retry\"; expected \"refuse\" or \"local\"",
        ),
    ] {
        refuses(lines, expected);
    }
}

/// Two deployments with different settings never have the same names, however they are put together.
#[test]
fn a_colon_may_stand_where_it_cannot_be_mistaken() {
    for channel in ["reverb", "a:b", "reverb:2", "2", "v2:b", "a::b", "é"] {
        assert_eq!(redis(&format!("channel = {channel:?}")).channel, channel);
    }
    for channel in ["0:b", "a:12:b", "a:1:"] {
        let error = refusal(&[], &[("soundpost.toml", &file(&format!("channel = {channel:?}")))]);
        assert!(error.contains("no number in front of a colon"), "{channel}: {error}");
    }
    assert_eq!(redis("prefix = \"shop:0:\"").prefix, "shop:0:");
}

#[test]
fn of_two_sources_the_earlier_says_where_redis_is() {
    let with = |lines: &str, environment: &[(&str, &str)]| {
        settings(environment, &[("soundpost.toml", &file(lines))]).redis.unwrap()
    };
    let sentinels =
        "sentinels = [\"a\", \"b\"]\nmaster = \"m\"\nsentinel_password = \"hush\"\npassword = \"hush\"\n";
    let by_url = with(sentinels, &[("SOUNDPOST_REDIS__URL", "redis://h")]);
    assert_eq!(by_url.servers, RedisServers::Standalone(tcp("h", 6379)));
    assert_eq!(by_url.password, Some(RedisPassword::new("hush")), "who logs in is another matter");
    let by_list = with("url = \"redis://:hush@h/1\"", &[("SOUNDPOST_REDIS__CLUSTER__0", "c:1")]);
    assert_eq!(
        (by_list.servers, by_list.password, by_list.database),
        (RedisServers::Cluster(vec![tcp("c", 1)]), None, 0)
    );
    let master = with(sentinels, &[("SOUNDPOST_REDIS__MASTER", "other")]).servers;
    assert!(matches!(master, RedisServers::Sentinel { master, .. } if master == "other"));
    // The parts of an earlier URL come before the keys of a later source, and behind those of its own.
    let keys = "username = \"old\"\npassword = \"hush\"\ndatabase = 7\n";
    let found = with(keys, &[("SOUNDPOST_REDIS__URL", "redis://:new@h/8")]);
    assert_eq!((found.username, found.password, found.database), (None, Some(RedisPassword::new("new")), 8));
    let found = with(keys, &[("SOUNDPOST_REDIS__URL", "redis://h")]);
    assert_eq!((found.username.as_deref(), found.database), (Some("old"), 7));
    let both = [("SOUNDPOST_REDIS__URL", "redis://:new@h/8"), ("SOUNDPOST_REDIS__DATABASE", "9")];
    assert_eq!(with(keys, &both).database, 9);
}

#[test]
fn the_report_shows_everything_but_who_logs_in() {
    let text = file("url = \"redis://me:hush@cache/2\"\n");
    let dir = Dir::new(&[("soundpost.toml", &text)]);
    let (settings, report) = Report::load(&Flags::default(), [], &dir.0).unwrap();
    let shown = |report: &Report, dir: &Dir| {
        report.text().replace(&dir.0.join("soundpost.toml").display().to_string(), "FILE")
    };
    let text = shown(&report, &dir);
    assert!(!text.contains("hush") && !format!("{settings:?}").contains("hush"), "{text}");
    for line in [
        "url                 = \"redis://(hidden)@cache:6379/2\" # ",
        "username            = \"(hidden)\"             # FILE\n",
        "password            = \"(hidden)\"             # FILE\n",
        "database            = 2                      # FILE\n",
        "note: nodes are joined over Redis: cache:6379, database 2, names begin with soundpost:2:reverb\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let text =
        file("sentinels = \"a,b:1\"\nmaster = \"m\"\npassword = \"hush\"\nsentinel_password = \"hush\"\n");
    let dir = Dir::new(&[("soundpost.toml", &text)]);
    let text = shown(&Report::load(&Flags::default(), [], &dir.0).unwrap().1, &dir);
    assert!(!text.contains("hush"), "{text}");
    for line in [
        "# url               = none                   # default\n",
        "# username          = none                   # default\n",
        "sentinels           = [\"a\", \"b:1\"]           # FILE\n",
        "sentinel_password   = \"(hidden)\"             # FILE\n",
        "Redis: m of the sentinels a:26379, b:1, database 0, names begin with soundpost:0:reverb\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}
