//! From what `[redis]` says to what it means.

use super::{
    super::{
        ConfigError, Note,
        checks::Table,
        effective::HIDDEN,
        layers::Layered,
        tls::path,
        written::{List, RedisFile, Scalar, Secret},
    },
    CHANNEL, OnOutage, PREFIX, RedisAddress, RedisPassword, RedisServers, RedisSettings, RedisTls,
    url::{DATABASE_MAX, PORT, RedisUrl, Target, entry},
};

/// Where Redis is if nobody says.
const URL: &str = "redis://127.0.0.1:6379/0";
/// Where a sentinel listens unless another port is written.
const SENTINEL_PORT: u16 = 26_379;
/// Entries of a list. A cluster is found by any of its nodes.
const ENTRIES_MAX: usize = 100;
/// Bytes of a prefix and of a channel, each.
const NAME_BYTES_MAX: usize = 200;

/// Where Redis is, as one of the three ways says.
struct Found {
    servers: RedisServers,
    /// Whether TLS is asked for there; `None`: a list does not say.
    tls: Option<bool>,
    username: Option<String>,
    password: Option<String>,
    database: Option<u32>,
}

/// The settings, checked also where they are off; `None` if they are. Errors: two ways to say where Redis is, half of
/// one, a value out of its range.
pub(in super::super) fn redis(
    layered: &Layered,
    notes: &mut Vec<Note>,
) -> Result<Option<RedisSettings>, ConfigError> {
    let table = Table { name: "redis", origins: &layered.origins, dotted: true, values: &layered.values };
    let file = &layered.settings.redis;
    let enabled = table.boolean("enabled", file.enabled.as_ref(), false)?;
    let found = servers(table, file)?;
    let tls = tls(layered, table, found.tls)?;
    let username = text(table, "username", file.username.as_ref())?.or(found.username);
    let password = secret(table, "password", file.password.as_ref())?.or(found.password);
    let username = username.filter(|name| !name.is_empty());
    let password = password.filter(|text| !text.is_empty());
    if username.is_some() && password.is_none() {
        let hint = ": who logs in to Redis by name needs one".to_owned();
        return Err(ConfigError::Missing { key: "redis.password".to_owned(), hint });
    }
    let words = [("refuse", OnOutage::Refuse), ("local", OnOutage::Local)];
    let settings = RedisSettings {
        database: database(table, file, &found.servers, found.database)?,
        servers: found.servers,
        username,
        password: password.map(RedisPassword::new),
        tls,
        prefix: prefix(table, file)?,
        channel: channel(table, file)?,
        local_first: table.boolean("local_first", file.local_first.as_ref(), false)?,
        on_outage: table.word("on_outage", file.on_outage.as_ref(), OnOutage::Refuse, &words)?,
    };
    note(table, file, enabled.then_some(&settings), notes);
    Ok(enabled.then_some(settings))
}

/// Makes the parts that only the URL says come from where the URL was written, for `soundpost check`.
pub(in super::super) fn trace_url(layered: &mut Layered) {
    let Some(origin) = layered.origins.get("redis.url").cloned() else { return };
    let Some(Secret(Scalar::Text(text))) = &layered.settings.redis.url else { return };
    let Ok(url) = RedisUrl::parse(text) else { return };
    let parts = [
        ("redis.username", url.username.is_some()),
        ("redis.password", url.password.is_some()),
        ("redis.database", url.database.is_some()),
    ];
    for (key, _) in parts.into_iter().filter(|(_, says)| *says) {
        layered.origins.entry(key.to_owned()).or_insert_with(|| origin.clone());
    }
}

/// What the person who starts the server should know of it.
fn note(table: Table<'_>, file: &RedisFile, settings: Option<&RedisSettings>, notes: &mut Vec<Note>) {
    let ways =
        [("url", file.url.is_some()), ("sentinels", has(&file.sentinels)), ("cluster", has(&file.cluster))];
    match settings {
        Some(settings) => notes.push(Note::info(format!("nodes are joined over Redis: {settings}"))),
        None if file.enabled.is_none() => {
            if let Some((key, _)) = ways.into_iter().find(|(_, is_written)| *is_written) {
                let place = table.at(key);
                let text =
                    format!("{place} is of no use without redis.enabled = true: this node serves alone");
                notes.push(Note::warning(text));
            }
        }
        None => {}
    }
}

/// Whether a list says something.
fn has(list: &Option<List>) -> bool {
    list.as_ref().is_some_and(|list| !list.0.is_empty())
}

fn servers(table: Table<'_>, file: &RedisFile) -> Result<Found, ConfigError> {
    let ways =
        [("url", file.url.is_some()), ("sentinels", has(&file.sentinels)), ("cluster", has(&file.cluster))];
    let mut written = ways.into_iter().filter(|(_, is_written)| *is_written).map(|(key, _)| table.at(key));
    if let (Some(first), Some(second)) = (written.next(), written.next()) {
        return Err(ConfigError::Exclusive { first, second });
    }
    let of_sentinels = [
        ("master", file.master.is_some()),
        ("sentinel_username", file.sentinel_username.is_some()),
        ("sentinel_password", file.sentinel_password.is_some()),
    ];
    if let Some(sentinels) = file.sentinels.as_ref().filter(|list| !list.0.is_empty()) {
        return of_sentinel(table, file, sentinels);
    }
    if let Some((key, _)) = of_sentinels.into_iter().find(|(_, is_written)| *is_written) {
        let hint = format!(": {} is of no use without their addresses", table.at(key));
        return Err(ConfigError::Missing { key: "redis.sentinels".to_owned(), hint });
    }
    if let Some(nodes) = file.cluster.as_ref().filter(|list| !list.0.is_empty()) {
        let (tls, nodes) = addresses(table, "cluster", nodes, PORT)?;
        let servers = RedisServers::Cluster(nodes);
        return Ok(Found { servers, tls, username: None, password: None, database: None });
    }
    of_url(table, file)
}

fn of_sentinel(table: Table<'_>, file: &RedisFile, sentinels: &List) -> Result<Found, ConfigError> {
    let (tls, sentinels) = addresses(table, "sentinels", sentinels, SENTINEL_PORT)?;
    let Some(master) = text(table, "master", file.master.as_ref())?.filter(|name| !name.is_empty()) else {
        let hint = ": the name that the sentinels know the master by, often mymaster".to_owned();
        return Err(ConfigError::Missing { key: "redis.master".to_owned(), hint });
    };
    let username =
        text(table, "sentinel_username", file.sentinel_username.as_ref())?.filter(|n| !n.is_empty());
    let password = secret(table, "sentinel_password", file.sentinel_password.as_ref())?;
    let password = password.filter(|text| !text.is_empty()).map(RedisPassword::new);
    if username.is_some() && password.is_none() {
        let hint = ": who logs in to the sentinels by name needs one".to_owned();
        return Err(ConfigError::Missing { key: "redis.sentinel_password".to_owned(), hint });
    }
    let servers = RedisServers::Sentinel { master, sentinels, username, password };
    Ok(Found { servers, tls, username: None, password: None, database: None })
}

fn of_url(table: Table<'_>, file: &RedisFile) -> Result<Found, ConfigError> {
    let text = secret(table, "url", file.url.as_ref())?.unwrap_or_else(|| URL.to_owned());
    let url = url(table, "url", &text)?;
    // What keys of their own say is noted after this.
    for (key, says) in [("username", url.username.is_some()), ("password", url.password.is_some())] {
        if says {
            table.note(key, HIDDEN);
        }
    }
    let RedisUrl { tls, target, username, password, database, has_options: _ } = url;
    let servers = RedisServers::Standalone(target.address(PORT));
    Ok(Found { servers, tls: Some(tls), username, password, database })
}

/// The URL that is the value of a key. Errors: it is none, or says what means nothing here.
pub(in super::super) fn url(table: Table<'_>, key: &str, text: &str) -> Result<RedisUrl, ConfigError> {
    let refuse = |problem| Err(ConfigError::Secret { place: table.at(key), problem });
    match RedisUrl::parse(text) {
        Ok(url) if url.has_options => {
            refuse("has options behind a ? that mean nothing here; of those only db is known")
        }
        Ok(url) => {
            table.note(key, url.shown());
            Ok(url)
        }
        Err(problem) => refuse(problem),
    }
}

/// The entries of a list, and whether they ask for TLS.
fn addresses(
    table: Table<'_>,
    key: &str,
    list: &List,
    port: u16,
) -> Result<(Option<bool>, Vec<RedisAddress>), ConfigError> {
    let refuse = |problem| Err(ConfigError::Secret { place: table.at(key), problem });
    if list.0.len() > ENTRIES_MAX {
        return refuse("has more than 100 entries; a few are enough to find the others by");
    }
    let mut tls: Option<Option<bool>> = None;
    let mut targets: Vec<Target> = Vec::new();
    for text in table.texts(key, list)? {
        let (asks, target) = match entry(&text) {
            Ok(entry) => entry,
            Err(problem) => return refuse(problem),
        };
        if *tls.get_or_insert(asks) != asks {
            return refuse("has entries of different schemes; write the same in front of each, or none");
        }
        targets.push(target);
    }
    Ok((tls.flatten(), targets.into_iter().map(|target| target.address(port)).collect()))
}

/// TLS is spoken if a scheme asks for it, or if files for it are written and no scheme says otherwise.
fn tls(layered: &Layered, redis: Table<'_>, asked: Option<bool>) -> Result<Option<RedisTls>, ConfigError> {
    let table = Table { name: "redis.tls", ..redis };
    let file = &layered.settings.redis.tls;
    let written = [("ca", &file.ca), ("certificate", &file.certificate), ("key", &file.key)];
    let ca = file.ca.as_ref().map(|ca| path(table, "ca", ca)).transpose()?;
    let key = file.key.as_ref().map(|key| path(table, "key", key)).transpose()?;
    let client = match &file.certificate {
        Some(certificate) => {
            let certificate = path(table, "certificate", certificate)?;
            // As for the server's own, one file may hold both.
            let key = key.unwrap_or_else(|| certificate.clone());
            table.note("key", key.display().to_string());
            Some((certificate, key))
        }
        None if key.is_some() => {
            let hint = ": redis.tls.key is the key of that".to_owned();
            return Err(ConfigError::Missing { key: "redis.tls.certificate".to_owned(), hint });
        }
        None => None,
    };
    let first = written.into_iter().find_map(|(key, written)| Some((key, written.as_ref()?)));
    match (asked, first) {
        (Some(true), _) => Ok(Some(RedisTls { ca, client })),
        (None, Some(_)) => Ok(Some(RedisTls { ca, client })),
        (_, Some((key, written))) => Err(ConfigError::Value {
            place: table.at(key),
            found: written.to_string(),
            expected: "rediss:// in redis.url, or in front of each address: without it no TLS is spoken"
                .to_owned(),
        }),
        (_, None) => Ok(None),
    }
}

/// The database that is written, or that of the URL. Errors: another than 0 on a cluster.
fn database(
    table: Table<'_>,
    file: &RedisFile,
    servers: &RedisServers,
    of_url: Option<u32>,
) -> Result<u32, ConfigError> {
    let number = table.whole("database", file.database.as_ref(), of_url.unwrap_or(0), 0..=DATABASE_MAX)?;
    if number > 0 && matches!(servers, RedisServers::Cluster(_)) {
        return Err(ConfigError::Value {
            place: table.at("database"),
            found: number.to_string(),
            expected: "0 with redis.cluster: a Redis Cluster has no other".to_owned(),
        });
    }
    Ok(number)
}

fn prefix(table: Table<'_>, file: &RedisFile) -> Result<String, ConfigError> {
    name(table, "prefix", file.prefix.as_ref(), PREFIX)
}

/// Names are `prefix:database:channel`. Without a number before a colon in the channel no two deployments can have the
/// same by writing their parts differently.
fn channel(table: Table<'_>, file: &RedisFile) -> Result<String, ConfigError> {
    let channel = name(table, "channel", file.channel.as_ref(), CHANNEL)?;
    let mut parts: Vec<&str> = channel.split(':').collect();
    parts.pop();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    match parts.iter().any(is_number) {
        true => Err(ConfigError::Value {
            place: table.at("channel"),
            found: format!("{channel:?}"),
            expected: "no number in front of a colon, where the database stands in the names at Redis"
                .to_owned(),
        }),
        false => Ok(channel),
    }
}

/// A part of every name at Redis. Braces say on a cluster what belongs together.
fn name(table: Table<'_>, key: &str, written: Option<&Scalar>, default: &str) -> Result<String, ConfigError> {
    let Some(name) = text(table, key, written)? else {
        table.note(key, default);
        return Ok(default.to_owned());
    };
    let is_forbidden = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '{' | '}');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(is_forbidden) {
        return Err(ConfigError::Value {
            place: table.at(key),
            found: format!("{name:?}"),
            expected: format!("1 to {NAME_BYTES_MAX} bytes without spaces, control characters, {{ and }}"),
        });
    }
    Ok(name)
}

fn text(table: Table<'_>, key: &str, written: Option<&Scalar>) -> Result<Option<String>, ConfigError> {
    written.map(|written| table.text(key, written).map(Into::into)).transpose()
}

/// The text of a value that is never shown.
pub(in super::super) fn secret(
    table: Table<'_>,
    key: &str,
    written: Option<&Secret>,
) -> Result<Option<String>, ConfigError> {
    let text = |written: &Secret| match table.text(key, &written.0) {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => {
            Err(ConfigError::Secret { place: table.at(key), problem: "is not text; write it in quotes" })
        }
    };
    written.map(text).transpose()
}
