//! What `soundpost check` advises beside what every start says: things that work, and that somebody may regret.

use std::{collections::BTreeSet, fs, net::IpAddr, path::Path};

use serde_json::{Value, json};

use soundpost_protocol::{
    app::{App, ClientEvents},
    webhook::{Carrier, Webhook, event::EventKind},
};

use super::{
    Note, OnOutage, Read, RedisAddress, RedisServers, RedisSettings, ServerSettings, effective,
    layers::LayeredApp, report::Section, webhooks::numbered,
};
use crate::proxy::Proxies;

/// The notes, those of the node first.
pub(super) fn notes(read: &Read, sections: &[Section], dir: &Path) -> Vec<Note> {
    let mut notes = sources(read, dir);
    notes.extend(files(read));
    notes.extend(node(read));
    notes.extend(read.settings.redis.as_ref().map(|settings| redis(settings, read)).unwrap_or_default());
    if !read.settings.development_app {
        notes.extend(sections.iter().filter(|s| s.name().starts_with("apps.")).flat_map(app));
        let apps = read.settings.apps.iter().zip(&read.layered.apps).enumerate();
        notes.extend(apps.flat_map(|(index, (app, written))| webhooks(index, app, written)));
    }
    notes
}

/// Which files were read, and which were not although they are there.
fn sources(read: &Read, dir: &Path) -> Vec<Note> {
    match read.environment.file() {
        Some(path) => vec![Note::info(format!("read {}", path.display()))],
        None if read.reads_laravel => {
            vec![Note::info("there is no .env in this directory")]
        }
        None => {
            let is_set = |prefix: &&str| !read.environment.names(prefix).is_empty();
            let files = [".env", "config/reverb.php"].into_iter().filter(|name| dir.join(name).is_file());
            let variables = ["REVERB_", "SOKETI_"].into_iter().filter(is_set);
            let unread: Vec<String> =
                files.map(str::to_owned).chain(variables.map(|prefix| format!("{prefix}*"))).collect();
            if unread.is_empty() {
                return Vec::new();
            }
            let unread = unread.join(", ");
            vec![Note::info(format!("not read because of --config without --env-file: {unread}"))]
        }
    }
}

/// Files that hold secrets and that everybody on this machine may read.
fn files(read: &Read) -> Vec<Note> {
    let has_secret = |path: &&Path| fs::read_to_string(path).is_ok_and(|text| text.lines().any(sets_secret));
    let with_secrets =
        [read.file.as_deref(), read.environment.file()].into_iter().flatten().filter(has_secret);
    let keys = read.settings.server.tls.iter().map(|pair| pair.key.as_path());
    let of_redis = read.settings.redis.as_ref().and_then(|redis| redis.tls.as_ref()?.client.as_ref());
    let all = with_secrets
        .chain(keys)
        .chain(of_redis.map(|(_, key)| key.as_path()))
        .filter(|path| is_open_to_all(path));
    // One file may hold several keys.
    all.collect::<BTreeSet<_>>()
        .into_iter()
        .map(|path| {
            let path = path.display();
            Note::warning(format!(
                "{path} holds secrets and everybody on this machine may read it: chmod o-rwx {path}"
            ))
        })
        .collect()
}

/// Whether a line of TOML or of a `.env` gives a secret a value: an app's `secret`, `REVERB_APP_SECRET`, `passphrase`, a
/// `url` with who logs in.
fn sets_secret(line: &str) -> bool {
    let Some((key, value)) = line.split_once('=') else { return false };
    let is_empty = value.trim().trim_matches(['"', '\'']).is_empty();
    let is_login = key.trim_end().to_ascii_lowercase().ends_with("url") && value.contains('@')
        || value.split_once("redis://").is_some_and(|(_, rest)| rest.contains('@'));
    let is_headers = key.trim() == "headers" && value.contains('=');
    !is_empty && !key.trim_start().starts_with('#') && (effective::is_secret(key) || is_login || is_headers)
}

/// Whether others than owner and group may read the file.
fn is_open_to_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

fn node(read: &Read) -> Vec<Note> {
    let mut notes = Vec::new();
    let server = &read.settings.server;
    if !server.admin.host.is_loopback() {
        notes.push(Note::warning(format!(
            "admin.host is {}: /metrics answers whoever can reach this address; keep it behind a firewall",
            server.admin.host
        )));
    }
    let files = rlimit::Resource::NOFILE.get_hard().unwrap_or(rlimit::INFINITY);
    if let Some(max) = server.connections_max.filter(|max| u64::from(max.get()) > files) {
        notes.push(Note::warning(format!(
            "server.connections_max is {max}, but this process may open only {files} files: raise its limit \
             (LimitNOFILE, ulimit -n)"
        )));
    }
    if read.settings.apps.iter().any(|app| app.tls_only) && !has_tls(server) {
        notes.push(Note::warning(
            "an app is tls_only, but no connection can be seen to use TLS: nobody can connect",
        ));
    }
    notes
}

fn redis(redis: &RedisSettings, read: &Read) -> Vec<Note> {
    let mut notes = Vec::new();
    let RedisSettings { servers, password, tls, local_first, on_outage, .. } = redis;
    let is_elsewhere = addresses(servers).iter().any(|address| !is_of_this_machine(address));
    if is_elsewhere && password.is_none() {
        notes.push(Note::warning(format!(
            "Redis ({servers}) asks for no password: whoever reaches it reads and sends events of every app"
        )));
    } else if is_elsewhere && tls.is_none() {
        notes.push(Note::info(format!(
            "events and the password go to Redis ({servers}) as they are; rediss:// encrypts them"
        )));
    }
    if read.settings.development_app {
        notes.push(Note::warning(
            "the development apps of all nodes on this Redis are one: set redis.prefix to a name of your own, or an app",
        ));
    }
    if *local_first {
        notes.push(Note::info(
            "redis.local_first is true: subscribers on different nodes may see the events of a channel in different \
             orders",
        ));
    }
    if *on_outage == OnOutage::Local {
        notes.push(Note::info(
            "redis.on_outage is \"local\": while Redis is away an event reaches the clients of the node that took it \
             alone, and its publisher is told nothing of that",
        ));
    }
    notes
}

fn addresses(servers: &RedisServers) -> &[RedisAddress] {
    match servers {
        RedisServers::Standalone(address) => std::slice::from_ref(address),
        RedisServers::Sentinel { sentinels: addresses, .. } | RedisServers::Cluster(addresses) => addresses,
    }
}

fn is_of_this_machine(address: &RedisAddress) -> bool {
    match address {
        RedisAddress::Unix(_) => true,
        RedisAddress::Tcp(host, _) => {
            host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
    }
}

/// Whether TLS ends here, or a proxy that is believed may say that it ended there; who connects by a Unix socket is.
fn has_tls(server: &ServerSettings) -> bool {
    !server.tls.is_empty() || server.unix.is_some() || server.proxies != Proxies::default()
}

fn app(section: &Section) -> Vec<Note> {
    let mut notes = Vec::new();
    let name = section.name();
    let any_origin = section.value("allowed_origins").and_then(Value::as_array);
    let any_origin = any_origin.is_some_and(|origins| origins.contains(&json!("*")));
    if any_origin && section.value("client_events") == Some(&json!("all")) {
        notes.push(Note::warning(format!(
            "{name}: client_events is \"all\" and allowed_origins is \"*\": any page of the web may send events to \
             every channel whose name it knows"
        )));
    }
    if section.value("timestamp_window_seconds") == Some(&json!(0)) {
        notes.push(Note::warning(format!(
            "{name}.timestamp_window_seconds is 0: an HTTP API request that somebody saw can be sent again for ever"
        )));
    }
    notes
}

/// What an app's webhooks will hardly get as they are. Events that nobody chose, because all are wanted where nothing is
/// written, are nobody's mistake.
fn webhooks(index: usize, app: &App, written: &LayeredApp) -> Vec<Note> {
    let mut notes = Vec::new();
    for (webhook, (number, file)) in app.webhooks.iter().zip(numbered(&written.app.webhooks)) {
        let name = format!("apps.{index}.webhooks.{number}");
        notes.extend(plain_http(&name, webhook));
        let wants = |kind| file.events.is_some() && webhook.target.events.contain(kind);
        if wants(EventKind::ClientEvent) && app.client_events == ClientEvents::None {
            notes.push(Note::warning(format!(
                "{name}.events has \"client_event\", but apps.{index}.client_events is \"none\": there are none to tell"
            )));
        }
        if wants(EventKind::SubscriptionCount) && !app.subscription_count {
            notes.push(Note::warning(format!(
                "{name}.events has \"subscription_count\", but apps.{index}.subscription_count is false: nobody is told \
                 of counts"
            )));
        }
    }
    notes
}

/// Whoever is on the way reads the events, and may answer in the app's place.
fn plain_http(name: &str, webhook: &Webhook) -> Option<Note> {
    let Carrier::Http(http) = &webhook.carrier else { return None };
    let host = http.url.host();
    let is_here = is_of_this_machine(&RedisAddress::Tcp(host.to_owned(), 0));
    let text =
        format!("{name} goes to {host} by plain http: signed, but readable on the way; https:// encrypts it");
    (!http.url.is_https() && !is_here).then(|| Note::warning(text))
}
