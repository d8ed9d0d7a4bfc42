//! What is refused, what is said, and when a file has settled. The rest is tested over sockets.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    sync::Mutex,
    time::Duration,
};

use soundpost_protocol::{app::AppKey, presence::NodeId};

use super::*;
use crate::{
    apps::{Apps, Quota},
    config::{
        Flags, Listen, LogFormat, OnOutage, RedisAddress, RedisPassword, RedisServers, RedisSettings,
        RedisTls,
    },
    delivery::{Delivery, Queued, Reach},
};

const PAGE: &str = include_str!("../../../../docs/configuration.md");
const SERVER: &str = "[server]\nhost = \"127.0.0.1\"\nport = 0\n[admin]\nport = 0\n";
const APP: &str = "[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"a-secret-of-16-or-more\"\n";

fn app(id: &str, secret: &str) -> App {
    App::new(AppId::parse(id).unwrap(), AppKey::parse(id).unwrap(), AppSecret::new(secret))
}

/// A reloader whose file lies in a folder of its own, and what its log was told.
struct Stage {
    reloader: Reloader,
    file: PathBuf,
    told: Arc<Mutex<Vec<String>>>,
    runtime: tokio::runtime::Runtime,
}

impl Stage {
    fn new(name: &str, text: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("soundpost-reloader-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("soundpost.toml");
        fs::write(&file, text).unwrap();
        let invocation = Invocation { flags: Flags::default(), environment: Vec::new(), dir };
        let (files, settings) = invocation.load();
        let settings = settings.unwrap();
        let queued = Queued::new(1, 1 << 20, 1 << 30);
        let delivery = Arc::new(Delivery::new(1, Reach::Local(NodeId(1))));
        let node =
            Arc::new(Node::new(Apps::new(settings.apps.clone(), 1), delivery, queued, Quota::new(None)));
        node.settle(&settings);
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        let follow_log = move |log: &LogSettings| {
            let filter = log.filter.clone().unwrap_or_default();
            if filter == "broken" {
                return Err("SOUNDPOST_LOG: broken".to_owned());
            }
            tell.lock().unwrap().push(format!("{filter} {}", log.debug));
            Ok(())
        };
        let asked = Arc::new(Notify::new());
        let reload = Reload { invocation, files, asked, follow_log: Box::new(follow_log) };
        let reloader = Reloader::new(node, settings, reload);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { reloader, file, told, runtime }
    }

    fn reload(&mut self, text: &str) -> ReloadResult {
        fs::write(&self.file, text).unwrap();
        self.runtime.block_on(self.reloader.reload())
    }

    /// Why the settings in the file cannot hold.
    fn refusal(&mut self) -> String {
        let (files, settings) = self.reloader.invocation.load();
        let settings = settings.map_err(Refusal::from);
        let applied = settings.and_then(|settings| self.reloader.apply(settings, None, files));
        let shown = format!("{}/", self.file.parent().unwrap().display());
        applied.unwrap_err().to_string().replace(&shown, "")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(self.file.parent().unwrap()));
    }
}

#[test]
fn every_refusal_is_one_line_that_says_what_to_do() {
    let mut stage = Stage::new("refusals", &format!("{SERVER}{APP}"));
    for (text, expected) in [
        (
            "[server]\nprot = 1".to_owned(),
            "server.prot (soundpost.toml): unknown key; did you mean server.port?",
        ),
        (
            SERVER.to_owned(),
            "no app is configured any more; the development app is served only from the start",
        ),
    ] {
        fs::write(&stage.file, text).unwrap();
        assert_eq!(stage.refusal(), expected);
    }
    fs::remove_file(&stage.file).unwrap();
    assert_eq!(stage.refusal(), "soundpost.toml is gone; put it back, or start anew without it");
    // The file may name another address than the one that is listened on.
    let address = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0).into();
    stage.reloader.settings.server.listen = vec![Listen { address, required: true }];
    let public = APP.replace("a-secret-of-16-or-more", DEVELOPMENT_SECRET);
    for app in [public, format!("{APP}previous_secret = {DEVELOPMENT_SECRET:?}\n")] {
        fs::write(&stage.file, format!("{SERVER}{app}")).unwrap();
        assert_eq!(
            stage.refusal(),
            "app a has the development app's secret, which everybody knows, and this server does not listen on 127.0.0.1 \
             alone; choose another secret"
        );
    }
}

#[test]
fn webhooks_hold_at_once_and_those_before_stay_where_new_ones_cannot_be() {
    let mut stage = Stage::new("webhooks", &format!("{SERVER}{APP}"));
    let hook = |url: &str, more: &str| format!("{SERVER}{APP}[[apps.webhooks]]\nurl = \"{url}\"\n{more}");
    let ids = |stage: &Stage| -> Vec<_> {
        let app = stage.reloader.node.apps.by_id("a").unwrap();
        app.app.webhooks.iter().map(|webhook| webhook.id).collect()
    };
    assert_eq!(stage.reload(&hook("https://a.test", "")), ReloadResult::Applied);
    let before = ids(&stage);
    assert_eq!(stage.reload(&hook("https://a.test", "")), ReloadResult::Unchanged);
    assert_eq!(stage.reload(&hook("https://a.test", "headers = { A = \"b\" }\n")), ReloadResult::Applied);
    assert_eq!(ids(&stage), before, "the same webhook with another header");
    let authority = stage.file.with_file_name("ca.pem");
    fs::write(&authority, "no certificate").unwrap();
    assert_eq!(stage.reload(&hook("https://b.test", "ca = \"ca.pem\"\n")), ReloadResult::Refused);
    assert!(stage.refusal().starts_with("apps.0.webhooks.0.ca: "), "{}", stage.refusal());
    assert_eq!(ids(&stage), before);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(["b.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    fs::write(&authority, certificate.pem()).unwrap();
    // A file that is named is looked at even while the settings with its name cannot hold.
    assert_eq!([stage.reloader.watch.look(), stage.reloader.watch.look()], [false, true]);
    assert_eq!(stage.runtime.block_on(stage.reloader.reload()), ReloadResult::Applied);
    assert_ne!(ids(&stage), before);
    assert_eq!(stage.reload(&format!("{SERVER}{APP}")), ReloadResult::Applied);
    assert!(ids(&stage).is_empty());
}

#[test]
fn a_file_that_comes_into_being_is_read_and_must_then_stay() {
    let mut stage = Stage::new("env", &format!("{SERVER}{APP}"));
    let env = stage.file.with_file_name(".env");
    assert!(!stage.reloader.watch.look());
    fs::write(&env, "SOUNDPOST_APPS__0__ID=a\nSOUNDPOST_APPS__0__ENABLED=false\nSOUNDPOST_LOG=debug\n")
        .unwrap();
    assert_eq!([stage.reloader.watch.look(), stage.reloader.watch.look()], [false, true]);
    assert_eq!(stage.runtime.block_on(stage.reloader.reload()), ReloadResult::Applied);
    assert!(!stage.reloader.settings.apps[0].enabled);
    assert_eq!(*stage.told.lock().unwrap(), ["debug false"]);
    fs::write(&env, "SOUNDPOST_LOG=broken\nSOUNDPOST_APPS__0__ID=a\n").unwrap();
    assert_eq!(stage.refusal(), "SOUNDPOST_LOG: broken");
    assert!(!stage.reloader.node.apps.by_id("a").unwrap().app.enabled, "nothing of it holds");
    fs::remove_file(&env).unwrap();
    assert_eq!(stage.refusal(), ".env is gone; put it back, or start anew without it");
}

#[test]
fn a_server_with_the_development_app_takes_others_in_its_place() {
    let mut stage = Stage::new("development", SERVER);
    assert_eq!(stage.reloader.node.drain_window(), Duration::ZERO);
    assert_eq!(stage.reload(&format!("{SERVER}{APP}")), ReloadResult::Applied);
    assert!(stage.reloader.node.apps.by_key(crate::config::DEVELOPMENT_KEY).is_none());
    assert_eq!(stage.reloader.node.drain_window(), Duration::from_secs(25));
}

#[test]
fn the_settings_of_the_node_hold_at_once_or_not_at_all() {
    let mut stage = Stage::new("node", &format!("{SERVER}{APP}"));
    let more = "drain_seconds = 3\nconnections_max = 7\nrequest_bytes_max = 99\ndebug = true\nworkers = 3\npath = \"p\"\n";
    let text = SERVER.replace("port = 0\n[admin]", &format!("port = 0\n{more}[admin]"));
    assert_eq!(stage.reload(&format!("{text}{APP}")), ReloadResult::Applied);
    let node = &stage.reloader.node;
    assert_eq!((node.drain_window(), node.request_bytes_max()), (Duration::from_secs(3), Some(99)));
    assert_eq!((0..10).map_while(|_| node.quota.admit()).collect::<Vec<_>>().len(), 7);
    assert_eq!(*stage.told.lock().unwrap(), [" true"]);
    let held = &stage.reloader.settings.server;
    assert_eq!((held.path.as_str(), held.drain), ("", Duration::from_secs(3)));
    assert_eq!(
        stage.reload(&format!("{text}{APP}")),
        ReloadResult::Unchanged,
        "what needs a start stays pending"
    );
    let reloads = &stage.reloader.node.reloads;
    assert_eq!(ReloadResult::ALL.map(|(result, _)| reloads.of(result).value()), [1, 1, 0]);
}

#[test]
fn what_has_changed_is_said_without_values() {
    let mut old = Settings::new(vec![app("a", "one"), app("b", "two")]);
    old.log.filter = Some("info".to_owned());
    let mut new = old.clone();
    assert_eq!(Changes::of_server(&old, &new), Changes::default());
    new.server.drain = Duration::ZERO;
    new.server.address_limits.connections_max = NonZeroU32::new(3);
    new.server.workers = NonZeroUsize::MIN.saturating_add(500);
    new.server.path = "/ws".to_owned();
    new.server.admin.port = 1;
    new.log.filter = None;
    new.log.format = LogFormat::Json;
    let mut changes = Changes::of_server(&old, &new);
    assert_eq!(changes.start, ["server.path", "server.workers", "admin.port", "server.log_format"]);
    let apps = Apps::new(old.apps, 1);
    changes.apps = apps.replace(vec![app("a", "other"), app("c", "three")]);
    assert_eq!(
        changes.to_string(),
        "apps added: c; apps changed: a (secret); apps removed: b; \
         keys changed: server.drain_seconds, server.connections_per_address_max, SOUNDPOST_LOG"
    );
    let many = (0..23).map(|n| app(&format!("a{n}"), "s")).collect();
    let text = Changes { apps: Apps::new(Vec::new(), 1).replace(many), ..Changes::default() }.to_string();
    assert!(text.starts_with("apps added: a0, a1, ") && text.ends_with(", a19, and 3 more"), "{text}");
}

fn address() -> RedisAddress {
    RedisAddress::Tcp("127.0.0.1".to_owned(), 6379)
}

#[test]
fn redis_is_as_it_was_at_the_start_and_what_differs_is_named() {
    let alone = Settings::new(vec![app("a", "one")]);
    let joined =
        Settings { redis: Some(RedisSettings::new(RedisServers::Standalone(address()))), ..alone.clone() };
    assert_eq!(Changes::of_server(&alone, &joined).start, ["redis.enabled"]);
    assert_eq!(Changes::of_server(&joined, &joined.clone()), Changes::default());
    let mut other = joined.clone();
    let of_other = other.redis.as_mut().unwrap();
    of_other.tls = Some(RedisTls::default());
    of_other.password = Some(RedisPassword::new("hush"));
    of_other.on_outage = OnOutage::Local;
    other.server.ready_requires_redis = true;
    let changes = Changes::of_server(&joined, &other);
    assert_eq!(changes.start, ["redis.url", "redis.password", "redis.on_outage"]);
    assert_eq!(changes.live, ["server.ready_requires_redis"]);
    let mut held = joined.clone();
    changes::take_live(&mut held, other);
    assert_eq!(held.redis, joined.redis);
    assert!(held.server.ready_requires_redis);
}

#[test]
fn changes_are_named_as_on_the_page() {
    let (mut old, mut new) = (app("a", "one"), app("b", "two"));
    new.previous_secret = Some(old.secret.clone());
    old.limits.message_bytes_max = 1;
    let settings = [Settings::new(vec![old.clone()]), Settings::new(vec![new.clone()])];
    let [before, after] = &settings;
    let redis = |servers| Settings { redis: Some(RedisSettings::new(servers)), ..before.clone() };
    let [one, sentinels, cluster] = [
        RedisServers::Standalone(address()),
        RedisServers::Sentinel {
            master: "m".to_owned(),
            sentinels: vec![address()],
            username: None,
            password: None,
        },
        RedisServers::Cluster(vec![address()]),
    ]
    .map(redis);
    let pairs =
        [(before, after), (before, &one), (&one, &sentinels), (&sentinels, &cluster), (&cluster, &one)];
    let keys = pairs.into_iter().flat_map(|(before, after)| changes::keys(before, after));
    for key in keys.filter(|key| *key != "SOUNDPOST_LOG") {
        assert!(PAGE.contains(&format!("| `{key}` |")), "{key}");
    }
    for key in old.changes(&new) {
        assert!(PAGE.contains(&format!("| `apps.{key}` |")), "{key}");
    }
}

#[test]
fn a_file_that_is_still_being_written_is_not_read() {
    let stage = Stage::new("watch", "");
    let (files, _) = stage.reloader.invocation.load();
    let mut watch = Watch::new(files);
    assert_eq!([watch.look(), watch.look()], [false, false]);
    for text in ["half", "half of", "half of it"] {
        fs::write(&stage.file, text).unwrap();
        assert!(!watch.look(), "{text}");
    }
    assert!(watch.look());
    assert!(watch.look(), "until it is read");
    let (files, _) = stage.reloader.invocation.load();
    watch.follow(files);
    assert_eq!([watch.look(), watch.look()], [false, false]);
    fs::write(&stage.file, "what cannot be read").unwrap();
    assert_eq!([watch.look(), watch.look()], [false, true]);
    watch.give_up();
    assert_eq!([watch.look(), watch.look()], [false, false]);
    let before = fs::read(&stage.file).unwrap();
    fs::remove_file(&stage.file).unwrap();
    assert!(!watch.look());
    fs::write(&stage.file, before).unwrap();
    assert_eq!([watch.look(), watch.look()], [false, true], "another file, if with the same text");
}
