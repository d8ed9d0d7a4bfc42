//! `SOKETI_ADAPTER_DRIVER=redis` and the connection of soketi's; of an import, Sockudo's too.

use super::{
    super::{
        RedisPassword, RedisServers, RedisSettings, RedisTls, Settings, import,
        tests::{APP, refusal, settings},
    },
    tests::{standard, tcp},
};

const ON: (&str, &str) = ("SOKETI_ADAPTER_DRIVER", "redis");

fn variables<'a>(more: &'a [(String, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [ON].into_iter().chain(more.iter().map(|(name, value)| (name.as_str(), *value))).collect()
}

/// The variables behind `SOKETI_`.
fn prefixed<'a>(more: &[(&str, &'a str)]) -> Vec<(String, &'a str)> {
    more.iter().map(|(name, value)| (format!("SOKETI_{name}"), *value)).collect()
}

fn redis(more: &[(&str, &str)]) -> RedisSettings {
    settings(&variables(&prefixed(more)), &[("soundpost.toml", APP)]).redis.unwrap()
}

fn sentinel(password: Option<&str>, master: &str) -> RedisSettings {
    let servers = RedisServers::Sentinel {
        master: master.to_owned(),
        sentinels: vec![tcp("a", 26_380), tcp("b", 26_379)],
        username: None,
        password: password.map(RedisPassword::new),
    };
    RedisSettings { servers, ..standard() }
}

fn cluster() -> RedisSettings {
    RedisSettings { servers: RedisServers::Cluster(vec![tcp("a", 7000), tcp("::1", 7001)]), ..standard() }
}

const SENTINELS: &str = r#"[{"host":"a","port":26380},{"host":"b"}]"#;
const NODES: &str = r#"[{"host":"a","port":7000},{"host":"::1","port":"7001"}]"#;

#[test]
fn soketis_variables_say_where_redis_is_once_its_adapter_is_redis() {
    let at =
        |host: &str, port| RedisSettings { servers: RedisServers::Standalone(tcp(host, port)), ..standard() };
    let tls = || Some(RedisTls::default());
    let (mode, nodes) = (("ADAPTER_REDIS_CLUSTER_MODE", "true"), ("DB_REDIS_CLUSTER_NODES", NODES));
    let options =
        [("ADAPTER_REDIS_SUB_OPTIONS", r#"{"tls":{}}"#), ("ADAPTER_REDIS_PUB_OPTIONS", r#"{"tls":true}"#)];
    for (more, expected) in [
        (vec![], standard()),
        (
            vec![("DB_REDIS_HOST", "cache"), ("DB_REDIS_PASSWORD", "null"), ("DB_REDIS_SENTINELS", "null")],
            at("cache", 6379),
        ),
        (vec![("DB_REDIS_PORT", "6380")], at("127.0.0.1", 6380)),
        (
            vec![
                ("DB_REDIS_HOST", "::1"),
                ("DB_REDIS_USERNAME", "me"),
                ("DB_REDIS_PASSWORD", "0123"),
                ("DB_REDIS_DB", "2"),
            ],
            RedisSettings {
                username: Some("me".to_owned()),
                password: Some(RedisPassword::new("0123")),
                database: 2,
                ..at("::1", 6379)
            },
        ),
        (
            vec![("DB_REDIS_KEY_PREFIX", "k:"), ("ADAPTER_REDIS_PREFIX", "a")],
            RedisSettings { prefix: "k:a".to_owned(), ..standard() },
        ),
        (vec![("DB_REDIS_SENTINELS", SENTINELS), ("DB_REDIS_HOST", "unused")], sentinel(None, "mymaster")),
        (
            vec![
                ("DB_REDIS_SENTINELS", SENTINELS),
                ("DB_REDIS_INSTANCE_NAME", "m"),
                ("DB_REDIS_SENTINEL_PASSWORD", "hush"),
            ],
            sentinel(Some("hush"), "m"),
        ),
        (vec![mode, nodes], cluster()),
        (vec![mode, ("DB_REDIS_CLUSTER_NODES", r#"["a:7000","[::1]:7001"]"#)], cluster()),
        (vec![nodes], standard()),
        (options.to_vec(), RedisSettings { tls: tls(), ..standard() }),
        (vec![options[0], options[1], mode, nodes], RedisSettings { tls: tls(), ..cluster() }),
        (
            vec![("ADAPTER_REDIS_SUB_OPTIONS", "{}"), ("ADAPTER_REDIS_PUB_OPTIONS", r#"{"tls":null}"#)],
            standard(),
        ),
    ] {
        assert_eq!(redis(&more), expected, "{more:?}");
    }
}

#[test]
fn what_soketis_variables_cannot_mean_stops_the_start_without_a_secret() {
    let options = "SOKETI_ADAPTER_REDIS_SUB_OPTIONS";
    for (name, value, expected) in [
        ("DB_REDIS_SENTINELS", "a:26379", "SOKETI_DB_REDIS_SENTINELS is no list of nodes such as [{"),
        ("DB_REDIS_SENTINELS", r#"[{"port":1}]"#, "SOKETI_DB_REDIS_SENTINELS is no list of nodes"),
        ("DB_REDIS_SENTINELS", r#"["a,b"]"#, "SOKETI_DB_REDIS_SENTINELS is no list of nodes"),
        (
            "DB_REDIS_SENTINELS",
            r#"["redis://:hush@a"]"#,
            "redis.sentinels (SOKETI_DB_REDIS_SENTINELS) has an entry",
        ),
        ("DB_REDIS_HOST", "a b", "redis.url (SOKETI_DB_REDIS_HOST) names no host"),
        (
            "DB_REDIS_PORT",
            "hush",
            "redis.url (SOKETI_DB_REDIS_PORT) has a port that is no number from 1 to 65535",
        ),
        ("DB_REDIS_DB", "x", "redis.database (SOKETI_DB_REDIS_DB) is \"x\"; expected a whole number"),
        (
            "ADAPTER_REDIS_PREFIX",
            "{a}",
            "redis.prefix (SOKETI_ADAPTER_REDIS_PREFIX) is \"{a}\"; expected 1 to 200",
        ),
        (
            "ADAPTER_REDIS_SUB_OPTIONS",
            r#"{"password":"hush"}"#,
            &format!("{options} holds more than {{\"tls\":{{}}}}"),
        ),
        ("ADAPTER_REDIS_SUB_OPTIONS", r#"{"tls":{"ca":"hush"}}"#, &format!("{options} holds more than")),
        ("ADAPTER_REDIS_SUB_OPTIONS", "hush", &format!("{options} holds more than")),
        (
            "ADAPTER_REDIS_SUB_OPTIONS",
            r#"{"tls":{}}"#,
            &format!("{options} asks for TLS on one of two connections"),
        ),
        (
            "ADAPTER_REDIS_CLUSTER_MODE",
            "true",
            "redis.cluster is missing: SOKETI_ADAPTER_REDIS_CLUSTER_MODE asks for a",
        ),
        (
            "ADAPTER_REDIS_CLUSTER_MODE",
            "maybe",
            "SOKETI_ADAPTER_REDIS_CLUSTER_MODE is \"maybe\"; expected true or false",
        ),
    ] {
        let error = refusal(&variables(&prefixed(&[(name, value)])), &[("soundpost.toml", APP)]);
        assert!(error.starts_with(expected) && !error.contains("hush"), "{error}");
        let local = [("SOKETI_ADAPTER_DRIVER", "local"), (&*format!("SOKETI_{name}"), value)];
        assert_eq!(settings(&local, &[("soundpost.toml", APP)]).redis, None);
    }
}

fn imported(name: &str, text: &str) -> (Settings, String) {
    let imported = import(name, text, None).unwrap();
    assert_eq!(imported.problem, None, "{}", imported.text);
    (settings(&[], &[("soundpost.toml", &imported.text)]), imported.text)
}

#[test]
fn an_import_of_soketis_file_joins_the_nodes_as_its_variables_would() {
    let file = |redis: &str, adapter: &str| {
        format!(
            r#"{{"adapter":{{"driver":"redis","redis":{{{adapter}}}}},"database":{{"redis":{{{redis}}}}},"appManager":{{}}}}"#
        )
    };
    let tls = r#""redisSubOptions":{"tls":{}},"redisPubOptions":{"tls":{}}"#;
    for (redis, adapter, expected) in [
        ("", "", standard()),
        (
            r#""host":"cache","port":6380,"password":"hush","db":3,"keyPrefix":"k:""#,
            r#""prefix":"a""#,
            RedisSettings {
                servers: RedisServers::Standalone(tcp("cache", 6380)),
                password: Some(RedisPassword::new("hush")),
                database: 3,
                prefix: "k:a".to_owned(),
                ..standard()
            },
        ),
        (
            &format!(r#""sentinels":{SENTINELS},"sentinelPassword":"hush""#),
            "",
            sentinel(Some("hush"), "mymaster"),
        ),
        (&format!(r#""clusterNodes":{NODES}"#), r#""clusterMode":true"#, cluster()),
        ("", tls, RedisSettings { tls: Some(RedisTls::default()), ..standard() }),
    ] {
        let (settings, text) = imported("soketi.json", &file(redis, adapter));
        assert_eq!(settings.redis, Some(expected), "{text}");
    }
    // What cannot be carried over leaves the nodes apart, and says why.
    let (settings, text) = imported("soketi.json", &file("", r#""redisSubOptions":{"tls":{"ca":"hush"}}"#));
    assert_eq!(settings.redis, None);
    let reason = "from adapter.driver; adapter.redis.redisSubOptions holds more than {\"tls\":{}}";
    assert!(text.contains(reason) && !text.contains("hush"), "{text}");
}

#[test]
fn an_import_of_sockudos_file_joins_the_nodes() {
    let tls = |ca: &str| Some(RedisTls { ca: Some(ca.into()), client: None });
    for (tables, expected) in [
        (
            "[adapter]\ndriver = \"redis\"\n[adapter.redis]\nprefix = \"s:\"\n[database.redis]\nhost = \"cache\"\nport = 6380\n\
             db = 1\nusername = \"me\"\npassword = \"0123\"\n[database.redis.master_tls]\nenabled = true\nca_path = \"/ca.pem\"\n",
            RedisSettings {
                servers: RedisServers::Standalone(tcp("cache", 6380)),
                username: Some("me".to_owned()),
                password: Some(RedisPassword::new("0123")),
                database: 1,
                prefix: "s:".to_owned(),
                tls: tls("/ca.pem"),
                ..standard()
            },
        ),
        (
            "[adapter]\ndriver = \"redis\"\n[database.redis]\nname = \"m\"\nsentinel_password = \"hush\"\n\
             [[database.redis.sentinels]]\nhost = \"a\"\nport = 26380\n[[database.redis.sentinels]]\nhost = \"b\"\nport = 26379\n",
            sentinel(Some("hush"), "m"),
        ),
        (
            "[adapter]\ndriver = \"redis-cluster\"\n[adapter.cluster]\nnodes = [\"redis://a:7000\", \"redis://[::1]:7001\"]\n",
            cluster(),
        ),
        (
            "[adapter]\ndriver = \"redis-cluster\"\n[database.redis.cluster]\nuse_tls = true\n\
             [[database.redis.cluster.nodes]]\nhost = \"a\"\nport = 7000\n[[database.redis.cluster.nodes]]\nhost = \"::1\"\nport = 7001\n",
            RedisSettings { tls: Some(RedisTls::default()), ..cluster() },
        ),
    ] {
        let (settings, text) = imported("config.toml", &format!("path_prefix = \"/\"\n{tables}"));
        assert_eq!(settings.redis, Some(expected), "{text}");
    }
}
