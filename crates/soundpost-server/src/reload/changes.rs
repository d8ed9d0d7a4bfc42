//! What a reload changes, in words.

use std::fmt;

use crate::{
    apps::AppChanges,
    config::{AdminSettings, LogSettings, RedisServers, RedisSettings, ServerSettings, Settings, UnixSocket},
};

/// More apps than these are counted, not named.
const APPS_NAMED: usize = 20;

/// What is not as it was. `Display` is one line, for what has changed at once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// The apps.
    pub(super) apps: AppChanges,
    /// Keys that hold at once.
    pub(super) live: Vec<&'static str>,
    /// Keys that hold after a new start.
    pub(super) start: Vec<&'static str>,
    /// What is in the files of the certificates.
    pub(super) certificates: bool,
}

impl Changes {
    /// All but the apps.
    pub(super) fn of_server(old: &Settings, new: &Settings) -> Self {
        let all = all(old, new);
        let of = |wanted: Holds| -> Vec<_> {
            let is_wanted = |change: &&Change| change.1 == wanted && !change.2;
            all.iter().filter(is_wanted).map(|change| change.0).collect()
        };
        Self { live: of(Holds::AtOnce), start: of(Holds::FromStart), ..Self::default() }
    }

    /// Whether nothing has changed at once.
    pub(super) const fn is_empty(&self) -> bool {
        self.apps.is_empty() && self.live.is_empty() && !self.certificates
    }
}

fn all(old: &Settings, new: &Settings) -> Vec<Change> {
    let (server, admin) = (server(&old.server, &new.server), admin(old.server.admin, new.server.admin));
    let redis = redis(old.redis.as_ref(), new.redis.as_ref());
    server.into_iter().chain(admin).chain(redis).chain(log(&old.log, &new.log)).collect()
}

/// The names of all keys, changed or not.
#[cfg(test)]
pub(super) fn keys(old: &Settings, new: &Settings) -> impl Iterator<Item = &'static str> {
    all(old, new).into_iter().map(|(key, ..)| key)
}

/// Keeps of `settings` what needs a new start, and takes the rest from `new`.
pub(super) fn take_live(settings: &mut Settings, new: Settings) {
    let Settings { server: old, log, redis, .. } = std::mem::replace(settings, new);
    let ServerSettings { listen, unix, port, path, hostname, workers, send_buffer_bytes, admin, tls, .. } =
        old;
    let new = settings.server.clone();
    // Only whether TLS is spoken needs a new start.
    let tls = if tls.is_empty() == new.tls.is_empty() { new.tls.clone() } else { tls };
    settings.server =
        ServerSettings { listen, unix, port, path, hostname, workers, send_buffer_bytes, admin, tls, ..new };
    settings.log.format = log.format;
    // Whoever changed Redis or the name under a running node would find half of its channels here, half there.
    settings.redis = redis;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    AtOnce,
    FromStart,
}

/// A key, from when it holds, and whether it is as it was.
type Change = (&'static str, Holds, bool);

fn server(old: &ServerSettings, new: &ServerSettings) -> [Change; 20] {
    use Holds::{AtOnce, FromStart};
    // No `..`: a new key does not compile without its line.
    let ServerSettings {
        listen: _,
        unix,
        proxies,
        port,
        path,
        hostname,
        workers,
        drain,
        connections_max,
        address_limits,
        queue_bytes_max,
        send_buffer_bytes,
        request_bytes_max,
        ready_requires_redis,
        watch_files,
        tls,
        tls_handshake_timeout: _,
        admin: _,
    } = old;
    let hosts = |settings: &ServerSettings| -> Vec<_> {
        settings.listen.iter().map(|listen| listen.address.ip()).collect()
    };
    let of_unix =
        |unix: &Option<UnixSocket>| unix.as_ref().map(|unix| (unix.path.clone(), unix.mode)).unzip();
    let addresses = new.address_limits;
    [
        ("server.host", FromStart, hosts(old) == hosts(new)),
        ("server.port", FromStart, *port == new.port),
        ("server.path", FromStart, *path == new.path),
        ("server.hostname", FromStart, *hostname == new.hostname),
        ("server.unix_socket", FromStart, of_unix(unix).0 == of_unix(&new.unix).0),
        ("server.unix_socket_mode", FromStart, of_unix(unix).1 == of_unix(&new.unix).1),
        ("server.trusted_proxies", AtOnce, proxies.trusted == new.proxies.trusted),
        ("server.proxy_protocol", AtOnce, proxies.protocol == new.proxies.protocol),
        ("server.workers", FromStart, *workers == new.workers),
        ("server.drain_seconds", AtOnce, *drain == new.drain),
        ("server.connections_max", AtOnce, *connections_max == new.connections_max),
        (
            "server.connections_per_address_max",
            AtOnce,
            address_limits.connections_max == addresses.connections_max,
        ),
        (
            "server.connections_per_address_per_second",
            AtOnce,
            address_limits.connections_per_second == addresses.connections_per_second,
        ),
        ("server.queue_bytes_max", AtOnce, *queue_bytes_max == new.queue_bytes_max),
        ("server.send_buffer_bytes", FromStart, *send_buffer_bytes == new.send_buffer_bytes),
        ("server.request_bytes_max", AtOnce, *request_bytes_max == new.request_bytes_max),
        ("server.tls.certificate", FromStart, tls.is_empty() == new.tls.is_empty()),
        ("server.tls.certificate", AtOnce, tls.is_empty() || new.tls.is_empty() || *tls == new.tls),
        ("server.watch_files", AtOnce, *watch_files == new.watch_files),
        ("server.ready_requires_redis", AtOnce, *ready_requires_redis == new.ready_requires_redis),
    ]
}

/// A Redis that comes or goes is one change; of one that stays each key is.
fn redis(old: Option<&RedisSettings>, new: Option<&RedisSettings>) -> Vec<Change> {
    let (Some(old), Some(new)) = (old, new) else {
        return vec![("redis.enabled", Holds::FromStart, old.is_none() == new.is_none())];
    };
    // No `..` here either.
    let RedisSettings { servers, username, password, database, tls, prefix, channel, local_first, on_outage } =
        old;
    let way = match new.servers {
        RedisServers::Standalone(_) => "redis.url",
        RedisServers::Sentinel { .. } => "redis.sentinels",
        RedisServers::Cluster(_) => "redis.cluster",
    };
    let ca = |tls: &RedisSettings| tls.tls.as_ref().map(|tls| tls.ca.clone());
    let client = |tls: &RedisSettings| tls.tls.as_ref().and_then(|tls| tls.client.clone());
    let is_same_tls = tls.is_some() == new.tls.is_some();
    [
        (way, *servers == new.servers && is_same_tls),
        ("redis.username", *username == new.username),
        ("redis.password", *password == new.password),
        ("redis.database", *database == new.database),
        ("redis.tls.ca", !is_same_tls || ca(old) == ca(new)),
        ("redis.tls.certificate", !is_same_tls || client(old) == client(new)),
        ("redis.prefix", *prefix == new.prefix),
        ("redis.channel", *channel == new.channel),
        ("redis.local_first", *local_first == new.local_first),
        ("redis.on_outage", *on_outage == new.on_outage),
    ]
    .map(|(key, is_same)| (key, Holds::FromStart, is_same))
    .to_vec()
}

fn admin(old: AdminSettings, new: AdminSettings) -> [Change; 2] {
    let AdminSettings { host, port, explicit: _ } = old;
    [("admin.host", Holds::FromStart, host == new.host), ("admin.port", Holds::FromStart, port == new.port)]
}

fn log(old: &LogSettings, new: &LogSettings) -> [Change; 3] {
    // What `NO_COLOR` says is of the terminal that the start had.
    let LogSettings { format, debug, filter, colours: _ } = old;
    [
        ("server.debug", Holds::AtOnce, *debug == new.debug),
        ("SOUNDPOST_LOG", Holds::AtOnce, *filter == new.filter),
        ("server.log_format", Holds::FromStart, *format == new.format),
    ]
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AppChanges { added, changed, removed } = &self.apps;
        let changed: Vec<_> =
            changed.iter().map(|(id, keys)| format!("{id} ({})", keys.join(", "))).collect();
        let mut between = "";
        for (what, list) in [
            ("apps added", named(added)),
            ("apps changed", named(&changed)),
            ("apps removed", named(removed)),
            ("keys changed", self.live.join(", ")),
            ("files changed", (if self.certificates { "certificates" } else { "" }).to_owned()),
        ] {
            if !list.is_empty() {
                write!(f, "{between}{what}: {list}")?;
                between = "; ";
            }
        }
        Ok(())
    }
}

/// The first names, and how many more there are.
fn named(all: &[impl fmt::Display]) -> String {
    let mut names: Vec<_> = all.iter().take(APPS_NAMED).map(ToString::to_string).collect();
    if let Some(more @ 1..) = all.len().checked_sub(APPS_NAMED) {
        names.push(format!("and {more} more"));
    }
    names.join(", ")
}
