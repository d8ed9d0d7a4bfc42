//! Of `SOKETI_*` what joins several nodes.

use serde_json::Value as Json;

use super::{
    super::{ConfigError, layers::put, redis::soketi::Connection},
    PREFIX, Reader,
};

pub(super) const DRIVER: &str = "ADAPTER_DRIVER";
const CLUSTER_MODE: &str = "ADAPTER_REDIS_CLUSTER_MODE";
const OPTIONS: [&str; 2] = ["ADAPTER_REDIS_SUB_OPTIONS", "ADAPTER_REDIS_PUB_OPTIONS"];

/// The variables of the connection, with the names of its settings.
const SETTINGS: &[(&str, &str)] = &[
    ("DB_REDIS_HOST", "host"),
    ("DB_REDIS_PORT", "port"),
    ("DB_REDIS_DB", "db"),
    ("DB_REDIS_USERNAME", "username"),
    ("DB_REDIS_PASSWORD", "password"),
    ("DB_REDIS_KEY_PREFIX", "key_prefix"),
    ("DB_REDIS_SENTINELS", "sentinels"),
    ("DB_REDIS_SENTINEL_PASSWORD", "sentinel_password"),
    ("DB_REDIS_INSTANCE_NAME", "name"),
    ("DB_REDIS_CLUSTER_NODES", "cluster_nodes"),
    ("ADAPTER_REDIS_PREFIX", "prefix"),
    (OPTIONS[0], "redis_sub_options"),
    (OPTIONS[1], "redis_pub_options"),
];
/// Settings that are JSON and nothing else.
const STRUCTURES: &[&str] = &["sentinels", "cluster_nodes", "redis_sub_options", "redis_pub_options"];

/// The variables that count with `SOKETI_ADAPTER_DRIVER=redis` only, without their prefix.
pub(super) fn variables() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|(variable, _)| *variable).chain([CLUSTER_MODE])
}

impl Reader<'_> {
    /// Errors: nodes are to be joined in another way than over Redis; what is said of Redis has no meaning here.
    pub(super) fn redis(&mut self) -> Result<(), ConfigError> {
        match self.text(DRIVER).as_deref() {
            None => Ok(()),
            Some("local") => {
                self.put("redis.enabled", DRIVER, false);
                Ok(())
            }
            Some("redis") => self.connection(),
            Some(_) => self.refuse(DRIVER, "\"local\" or \"redis\": nodes are joined over Redis only"),
        }
    }

    /// Whether nodes are joined over Redis.
    pub(super) fn has_redis(&self) -> bool {
        self.text(DRIVER).as_deref() == Some("redis")
    }

    fn connection(&mut self) -> Result<(), ConfigError> {
        let mut connection = Connection::default();
        for (variable, name) in SETTINGS {
            let is_structure = STRUCTURES.contains(name);
            let value = if is_structure { self.json(variable) } else { self.text(variable).map(Json::from) };
            // Of a name the word null would be the name; here it says nothing.
            if let Some(value) = value.filter(|value| value != "null") {
                connection.set(name, value, &self.origin(variable));
            }
        }
        let cluster = self.switch(CLUSTER_MODE)? == Some(true);
        let driver =
            self.environment.origin(&format!("{PREFIX}{}", if cluster { CLUSTER_MODE } else { DRIVER }));
        for (key, said) in connection.lines(&driver, cluster, false)? {
            let text = match said.value {
                Json::String(text) => text,
                Json::Array(hosts) => hosts.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(","),
                value @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_)) => value.to_string(),
            };
            put(&mut self.said.flat, key, &said.origin, text);
        }
        Ok(())
    }
}
