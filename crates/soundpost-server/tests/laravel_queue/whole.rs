//! From a subscription to the app: a node, its Redis, a worker.

use std::sync::Arc;

use serde_json::json;
use soundpost_protocol::webhook::{
    Carrier, LaravelQueue, Webhook,
    target::{EventKinds, Target},
};
use soundpost_server::config::{RedisServers, RedisSettings};

use super::{
    queue,
    redis::{RedisServer, wait_until},
    support::{TestServer, app, eventually},
    worker::Worker,
};

/// To the queue, of these events.
fn webhook(events: &[&str], queue: LaravelQueue) -> Arc<Webhook> {
    let events = EventKinds::parse(events.iter().copied()).unwrap();
    Arc::new(Webhook::new(Target { events, ..Target::default() }, Carrier::LaravelQueue(queue)))
}

#[test]
fn what_happens_on_a_channel_is_done_by_a_worker() {
    let redis = RedisServer::start(&[]);
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let node = TestServer::start(|app| {
        app.webhooks = vec![webhook(&["channel_occupied", "member_added"], queue(Some(&url)))];
    });
    let mut worker = Worker::start(&redis, 3, &json!({}));
    let mut client = node.connect();
    client.subscribe("orders");
    client.join("presence-room", r#"{"user_id":"zoe"}"#);
    let mut told = Vec::new();
    while let Some(said) = worker.next() {
        if said["did"] == "event" {
            assert_eq!(said["app"], "app-one");
            told.push(said["event"].clone());
        }
    }
    // Of two channels, neither waits for the other.
    told.sort_by_key(|event| event["channel"].to_string());
    assert_eq!(
        told,
        [
            json!({"name": "channel_occupied", "channel": "orders"}),
            json!({"name": "channel_occupied", "channel": "presence-room"}),
            json!({"name": "member_added", "channel": "presence-room", "user_id": "zoe"}),
        ]
    );
    assert_eq!(redis.ask(&["KEYS", "*"]), "");
    // It is counted as requests are.
    let node = node.node();
    let metrics = node.webhooks.of(node.apps.by_id("app-one").unwrap().index);
    eventually("all are delivered", || metrics.delivered.value() == 3);
    assert_eq!((metrics.sent.value(), metrics.failed.value(), metrics.depth.value()), (3, 0, 0));
}

#[test]
fn jobs_that_redis_did_not_take_are_pushed_when_it_does() {
    let redis = RedisServer::start(&[]);
    redis.ask(&["SET", "app_queues:webhooks", "not a list"]);
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let node =
        TestServer::start(|app| app.webhooks = vec![webhook(&["channel_occupied"], queue(Some(&url)))]);
    let mut client = node.connect();
    client.subscribe("orders");
    wait_until("the first attempt has failed", || !redis.info("errorstat_WRONGTYPE").is_empty());
    redis.ask(&["DEL", "app_queues:webhooks"]);
    wait_until("there is the job", || redis.ask(&["LLEN", "app_queues:webhooks"]) == "1");
}

#[test]
fn a_node_of_several_uses_the_redis_they_meet_at_where_no_other_is_named() {
    let redis = RedisServer::start(&[]);
    let mut app = app("one");
    app.webhooks = vec![webhook(&["cache_miss"], queue(None))];
    let node = TestServer::start_with(vec![app], |all| {
        all.redis = Some(RedisSettings::new(RedisServers::Standalone(redis.address())));
    });
    eventually("the node reaches redis", || !node.node().adapter.is_away());
    let mut client = node.connect();
    client.subscribe("cache-orders");
    wait_until("there is the job", || redis.ask(&["LLEN", "app_queues:webhooks"]) == "1");
}
