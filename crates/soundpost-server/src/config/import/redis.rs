//! The connection to Redis of soketi and Sockudo, where it joins nodes. Paths of a [`Tree`] have each object's parts
//! apart; here they are put together again for `config/redis/soketi.rs`, which says what they come to.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    super::redis::soketi::Connection,
    convert::{self, Form},
    draft::Draft,
    tree::{Found, Tree},
};

const DATABASE: &str = "database.redis";

/// soketi's, or nothing unless its adapter is Redis.
pub(super) fn soketi(tree: &mut Tree, draft: &mut Draft) {
    let Some(driver) = driver(tree, draft) else { return };
    let mut connection = of_database(tree);
    take(tree, "adapter.redis.prefix", "prefix", &mut connection);
    for (path, name) in [
        ("adapter.redis.redis_sub_options", "redis_sub_options"),
        ("adapter.redis.redis_pub_options", "redis_pub_options"),
    ] {
        if let Some(found) = object(tree, path) {
            connection.set(name, found.value, &found.from);
        }
    }
    let cluster = is_on(tree, "adapter.redis.cluster_mode");
    set(draft, &connection, &driver.from, cluster, false);
}

/// Sockudo's, or nothing unless its adapter is Redis.
pub(super) fn sockudo(tree: &mut Tree, draft: &mut Draft) {
    let Some(driver) = driver(tree, draft) else { return };
    let is_cluster_driver = driver.value != "redis";
    let cluster = is_on(tree, "adapter.redis.cluster_mode") || is_cluster_driver;
    let mut connection = of_database(tree);
    let mut tls = "database.redis.master_tls";
    let mut asks_for_tls = false;
    take(tree, "adapter.redis.prefix", "prefix", &mut connection);
    if cluster {
        let nodes = "database.redis.cluster";
        take(tree, &format!("{nodes}.username"), "username", &mut connection);
        take(tree, &format!("{nodes}.password"), "password", &mut connection);
        list(tree, &format!("{nodes}.nodes"), "cluster_nodes", &mut connection);
        asks_for_tls = is_on(tree, &format!("{nodes}.use_tls"));
    }
    if is_cluster_driver {
        take(tree, "adapter.cluster.prefix", "prefix", &mut connection);
        list(tree, "adapter.cluster.nodes", "cluster_nodes", &mut connection);
        tls = "adapter.cluster.tls";
    }
    asks_for_tls |= is_on(tree, &format!("{tls}.enabled"));
    set(draft, &connection, &driver.from, cluster, asks_for_tls);
    for (name, key) in [("ca_path", "ca"), ("client_cert_path", "certificate"), ("client_key_path", "key")] {
        let found = tree.take(&format!("{tls}.{name}")).filter(|found| asks_for_tls && found.value != "");
        draft.node.take(&format!("redis.tls.{key}"), found, Form::Text);
    }
    let skips = tree.take(&format!("{tls}.accept_invalid_certs"));
    if let Some(found) = skips.filter(|found| asks_for_tls && convert::flag(&found.value) == Some(true)) {
        draft
            .node
            .remark(format!("{}: certificates are always checked; name the CA in redis.tls.ca", found.from));
    }
}

/// The adapter, if it is Redis.
fn driver(tree: &mut Tree, draft: &mut Draft) -> Option<Found> {
    let driver = tree.take("adapter.driver")?;
    let name = convert::text(&driver.value).unwrap_or_default();
    if matches!(name.as_str(), "redis" | "redis-cluster") {
        return Some(driver);
    }
    if name != "local" {
        draft
            .node
            .remark(format!("{} is {name:?}: nodes are joined over Redis only, by [redis]", driver.from));
    }
    None
}

/// The settings that both have, and that stand in the same place.
fn of_database(tree: &mut Tree) -> Connection {
    let mut connection = Connection::default();
    for name in [
        "host",
        "port",
        "db",
        "username",
        "password",
        "key_prefix",
        "name",
        "sentinel_username",
        "sentinel_password",
    ] {
        take(tree, &format!("{DATABASE}.{name}"), name, &mut connection);
    }
    for name in ["sentinels", "cluster_nodes"] {
        list(tree, &format!("{DATABASE}.{name}"), name, &mut connection);
    }
    connection
}

fn take(tree: &mut Tree, path: &str, name: &'static str, connection: &mut Connection) {
    if let Some(Found { value, from }) = tree.take(path) {
        connection.set(name, value, &from);
    }
}

/// A list of objects, which stands under the indices, or of texts.
fn list(tree: &mut Tree, path: &str, name: &'static str, connection: &mut Connection) {
    take(tree, path, name, connection);
    let mut nodes: BTreeMap<usize, Map<String, Value>> = BTreeMap::new();
    let mut from = None;
    for (rest, found) in tree.take_below(path) {
        let Some((index, key)) = rest.split_once('.') else { continue };
        if let Ok(index) = index.parse() {
            let origin = found.from.trim_end_matches(&format!(".{rest}")).to_owned();
            from.get_or_insert(origin);
            nodes.entry(index).or_default().insert(key.to_owned(), found.value);
        }
    }
    if let Some(from) = from {
        let nodes: Vec<Value> = nodes.into_values().map(Value::Object).collect();
        connection.set(name, nodes.into(), &from);
    }
}

/// An object, whose keys stand below its path. Empty ones are not in the tree.
fn object(tree: &mut Tree, path: &str) -> Option<Found> {
    if let Some(found) = tree.take(path) {
        return Some(found);
    }
    let below = tree.take_below(path);
    let (rest, found) = below.first()?;
    let from = found.from.trim_end_matches(&format!(".{rest}")).to_owned();
    let object: Map<String, Value> = below.into_iter().map(|(key, found)| (key, found.value)).collect();
    Some(Found { value: object.into(), from })
}

fn is_on(tree: &mut Tree, path: &str) -> bool {
    tree.take(path).and_then(|found| convert::flag(&found.value)) == Some(true)
}

/// Writes the lines, or why there are none; then nodes are not joined.
fn set(draft: &mut Draft, connection: &Connection, driver: &str, cluster: bool, tls: bool) {
    match connection.lines(driver, cluster, tls) {
        Ok(lines) => {
            for (key, said) in lines {
                let value = match (key, convert::convert(&said.value, Form::Whole)) {
                    ("redis.database", Ok(number)) => number,
                    _ => said.value,
                };
                draft.node.set(key, value, &said.origin);
            }
        }
        Err(error) => {
            draft.node.missing("redis.enabled", format!("from {driver}; {error}"));
        }
    }
}
