//! A connection to Redis as soketi and Sockudo, which began as its copy, describe it, in our keys.
//!
//! Sources: soketi's `redis-adapter.ts`, `server.ts`; ioredis, which takes its settings as they are; Sockudo's
//! `redis_connection.rs`, `adapter.rs`.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::super::{ConfigError, error::Place};

/// A setting and where it was written.
#[derive(Clone)]
pub(in super::super) struct Said {
    pub(in super::super) value: Json,
    pub(in super::super) origin: String,
}

impl Said {
    /// This text in its place.
    fn with(&self, text: &str) -> Self {
        Self { value: text.into(), origin: self.origin.clone() }
    }
}

/// A key of ours and what it comes to: a text or a list of texts.
pub(in super::super) type Line = (&'static str, Said);

/// The settings by soketi's names in `snake_case`. No `Debug`: some are passwords.
#[derive(Clone, Default)]
pub(in super::super) struct Connection(BTreeMap<&'static str, Said>);

/// Where ioredis looks for Redis, and what it takes the master to be called at the sentinels.
const HOST: &str = "127.0.0.1";
const PORT: &str = "6379";
const MASTER: &str = "mymaster";

impl Connection {
    /// Takes a setting; null, an empty text and an empty list say nothing.
    pub(in super::super) fn set(&mut self, name: &'static str, value: Json, origin: &str) {
        let is_empty = value.is_null()
            || value.as_str().is_some_and(str::is_empty)
            || value.as_array().is_some_and(Vec::is_empty);
        if !is_empty {
            self.0.insert(name, Said { value, origin: origin.to_owned() });
        }
    }

    /// The settings in our keys; `driver` is where it was written that nodes are joined. `cluster`: it is a Redis Cluster.
    /// `tls`: TLS was asked for apart from the options.
    ///
    /// Errors: options of the connection that have no key here; nodes that are no list of hosts; a cluster without
    /// nodes; what is no text where one belongs.
    pub(in super::super) fn lines(
        &self,
        driver: &str,
        cluster: bool,
        tls: bool,
    ) -> Result<Vec<Line>, ConfigError> {
        let scheme = if tls || self.tls()? { "rediss://" } else { "" };
        let mut lines = vec![("redis.enabled", Said { value: true.into(), origin: driver.to_owned() })];
        if cluster {
            let Some(nodes) = self.0.get("cluster_nodes") else {
                let hint =
                    format!(": {driver} asks for a Redis Cluster, and nothing says where its nodes are");
                return Err(ConfigError::Missing { key: "redis.cluster".to_owned(), hint });
            };
            lines.push(("redis.cluster", hosts(nodes, scheme)?));
        } else if let Some(sentinels) = self.0.get("sentinels") {
            lines.push(("redis.sentinels", hosts(sentinels, scheme)?));
            let master = self.text("name")?.unwrap_or(sentinels.with(MASTER));
            lines.push(("redis.master", master));
            self.add("sentinel_username", "redis.sentinel_username", &mut lines)?;
            self.add("sentinel_password", "redis.sentinel_password", &mut lines)?;
        } else {
            lines.extend(self.url(driver, scheme)?.map(|url| ("redis.url", url)));
        }
        // Nobody logs in by name alone.
        if self.0.contains_key("password") {
            self.add("username", "redis.username", &mut lines)?;
            self.add("password", "redis.password", &mut lines)?;
        }
        self.add("db", "redis.database", &mut lines)?;
        // ioredis puts one in front of the names of keys, soketi the other in front of those of topics.
        let prefixes = [self.text("key_prefix")?, self.text("prefix")?];
        let whole: String = prefixes.iter().flatten().filter_map(|said| said.value.as_str()).collect();
        let first = prefixes.iter().flatten().next();
        lines.extend(first.map(|said| ("redis.prefix", said.with(&whole))));
        Ok(lines)
    }

    /// Where the one Redis is, if anything is said about that.
    fn url(&self, driver: &str, scheme: &str) -> Result<Option<Said>, ConfigError> {
        let (host, port) = (self.text("host")?, self.text("port")?);
        let origin = match host.as_ref().or(port.as_ref()) {
            Some(said) => said.origin.clone(),
            None if scheme.is_empty() => return Ok(None),
            None => driver.to_owned(),
        };
        let of = |said: &Option<Said>, default: &str| {
            said.as_ref().and_then(|said| said.value.as_str()).unwrap_or(default).to_owned()
        };
        let (host, port) = (bracketed(&of(&host, HOST)), of(&port, PORT));
        let scheme = if scheme.is_empty() { "redis://" } else { scheme };
        Ok(Some(Said { value: format!("{scheme}{host}:{port}").into(), origin }))
    }

    fn add(&self, name: &str, key: &'static str, lines: &mut Vec<Line>) -> Result<(), ConfigError> {
        lines.extend(self.text(name)?.map(|said| (key, said)));
        Ok(())
    }

    /// A text, or the digits of a number.
    fn text(&self, name: &str) -> Result<Option<Said>, ConfigError> {
        let Some(said) = self.0.get(name) else { return Ok(None) };
        match &said.value {
            Json::String(_) => Ok(Some(said.clone())),
            Json::Number(number) if number.is_i64() || number.is_u64() => {
                Ok(Some(said.with(&number.to_string())))
            }
            Json::Number(_) | Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => {
                Err(refused(said, "is not a text"))
            }
        }
    }

    /// Whether the options that ioredis is given ask for TLS. Nothing else in them has a key here that would not stand
    /// elsewhere as well, and to ignore it could mean another server.
    fn tls(&self) -> Result<bool, ConfigError> {
        let mut asked = Vec::new();
        for name in ["redis_sub_options", "redis_pub_options"] {
            let Some(said) = self.0.get(name) else {
                asked.push(false);
                continue;
            };
            let options = said.value.as_object().filter(|options| options.keys().all(|key| key == "tls"));
            let tls = options.map(|options| options.get("tls"));
            asked.push(match tls {
                Some(None | Some(Json::Null | Json::Bool(false))) => false,
                Some(Some(Json::Bool(true))) => true,
                Some(Some(Json::Object(tls))) if tls.is_empty() => true,
                _ => {
                    return Err(refused(
                        said,
                        "holds more than {\"tls\":{}}, which is all that is known of it here; write a table [redis] instead",
                    ));
                }
            });
        }
        match (asked.iter().all(|tls| *tls), asked.iter().any(|tls| *tls), self.options()) {
            (false, true, Some(said)) => {
                Err(refused(said, "asks for TLS on one of two connections; ask for both, or for none"))
            }
            (all, ..) => Ok(all),
        }
    }

    fn options(&self) -> Option<&Said> {
        self.0.get("redis_sub_options").or(self.0.get("redis_pub_options"))
    }
}

/// Nodes, each `{"host":..,"port":..}` or a text, as `host:port`.
fn hosts(said: &Said, scheme: &str) -> Result<Said, ConfigError> {
    const EXPECTED: &str = "is no list of nodes such as [{\"host\":\"127.0.0.1\",\"port\":7000}]";
    let host = |node: &Json| {
        let text = match node {
            Json::String(text) if text.contains("://") => return Some(text.clone()),
            Json::String(text) => text.clone(),
            Json::Object(node) => {
                let host = node.get("host")?.as_str()?;
                let host = bracketed(host);
                match node.get("port") {
                    None | Some(Json::Null) => host,
                    Some(Json::String(port)) => format!("{host}:{port}"),
                    Some(port) => format!("{host}:{}", port.as_u64()?),
                }
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) => return None,
        };
        Some(format!("{scheme}{text}"))
    };
    let hosts = said.value.as_array().and_then(|nodes| nodes.iter().map(host).collect::<Option<Vec<_>>>());
    match hosts {
        // A comma would make two of one.
        Some(hosts) if !hosts.iter().any(|host| host.contains(',')) => {
            Ok(Said { value: hosts.into(), origin: said.origin.clone() })
        }
        Some(_) | None => Err(refused(said, EXPECTED)),
    }
}

/// An IPv6 address as it stands before a port.
fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

/// The value may hold a password, so it is not shown.
fn refused(said: &Said, problem: &'static str) -> ConfigError {
    ConfigError::Secret { place: Place { key: said.origin.clone(), origin: said.origin.clone() }, problem }
}
