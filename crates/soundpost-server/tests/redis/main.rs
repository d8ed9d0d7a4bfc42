//! Nodes that meet at a real Redis: what a client and a publisher see of it. Each test has a Redis of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail like tests"
)]

mod doors;
mod ends;
mod events;
mod hooks;
mod membership;
mod outage;
mod pressure;
#[path = "../support/redis/mod.rs"]
mod processes;
mod scripts;
mod servers;
mod store;
#[path = "../sockets/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the tests of a single node")]
mod support;
mod told;

use serde_json::{Value, json};
use soundpost_protocol::app::App;
use soundpost_server::config::{OnOutage, RedisAddress, RedisPassword, RedisServers, RedisSettings};

use self::{
    processes::{is_within, wait_until},
    store::Store,
    support::{Client, TestServer, app, eventually},
};

const ROOM: &str = "presence-room";

/// A node whose app and Redis settings are changed as the test needs it, and which has reached its Redis.
fn node_with(
    store: &Store,
    change_app: impl FnOnce(&mut App),
    change: impl FnOnce(&mut RedisSettings),
) -> TestServer {
    let mut app = app("one");
    change_app(&mut app);
    let mut settings = redis(store);
    change(&mut settings);
    let server = start(app, settings);
    if store.is_running() {
        await_connected(&server);
    }
    server
}

/// Channel data of a member.
fn member(id: &str) -> String {
    json!({"user_id": id, "user_info": {"name": id}}).to_string()
}

/// Zoe on one node and ben on the other: both in the room, and told of each other.
fn meet(one: &TestServer, two: &TestServer) -> (Client, Client) {
    let (mut zoe, mut ben) = (one.connect(), two.connect());
    assert_eq!(ids(&zoe.join(ROOM, &member("zoe"))), ["zoe"]);
    assert_eq!(ids(&ben.join(ROOM, &member("ben"))), ["ben", "zoe"]);
    let told = zoe.event();
    assert_eq!((&told["event"], &told["channel"]), (&json!("pusher_internal:member_added"), &json!(ROOM)));
    (zoe, ben)
}

/// The settings that lead to a store.
fn redis(store: &Store) -> RedisSettings {
    RedisSettings::new(RedisServers::Standalone(store.server.address()))
}

fn start(app: App, settings: RedisSettings) -> TestServer {
    TestServer::start_with(vec![app], |all| {
        all.redis = Some(settings);
        all.server.drain = std::time::Duration::ZERO;
    })
}

/// A node as it is by default.
fn node(store: &Store) -> TestServer {
    node_with(store, |_| {}, |_| {})
}

fn await_connected(server: &TestServer) {
    eventually("the node reaches redis", || !server.node().adapter.is_away());
}

fn await_away(server: &TestServer) {
    eventually("the node notices", || server.node().adapter.is_away());
}

/// Waits until so many nodes hear the channel. They come to that after they have reached Redis again, and what is
/// published before is not for them.
fn await_heard(store: &Store, channel: &str, nodes: usize) {
    let asked = format!("PUBSUB NUMSUB soundpost:0:reverb:{{app-one/{channel}}}:t");
    eventually("the channel is heard", || store.say(&asked)[1] == nodes.to_string());
}

/// The next event on the channel must be this one.
#[track_caller]
fn expect_event(client: &mut Client, channel: &str, name: &str, data: &str) {
    client.expect(&json!({"event": name, "channel": channel, "data": data}));
}

/// The ids of a roster, in order.
fn ids(roster: &Value) -> Vec<String> {
    let mut ids: Vec<String> =
        roster["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}
