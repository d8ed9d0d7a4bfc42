//! What publishers, balancers and Prometheus are told by a node that is one of several.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use soundpost_server::adapter::redis::wire::server::ACL_RULES;

use super::{
    support::{Http, Reply},
    *,
};

const AWAY: &str = "Redis is away, and without it nobody knows of all connections; try again";

/// An event with `info` to a presence channel with zoe and ben, a public one with one connection, and one with nobody.
fn event() -> Value {
    let channels = [ROOM, "orders", "nobody"];
    json!({"name": "e", "channels": channels, "data": "1", "info": "user_count,subscription_count"})
}

/// Zoe and ben on the first node, ben and an anonymous reader of the orders on the second.
fn people(one: &TestServer, two: &TestServer) -> [Client; 4] {
    let (mut zoe, mut ben, mut again, mut reader) =
        (one.connect(), one.connect(), two.connect(), two.connect());
    zoe.join(ROOM, &member("zoe"));
    ben.join(ROOM, &member("ben"));
    again.join(ROOM, &member("ben"));
    reader.subscribe("orders");
    [zoe, ben, again, reader]
}

#[test]
fn every_node_knows_the_counts_of_all() {
    let store = Store::start();
    let (one, two, idle) = (node(&store), node(&store), node(&store));
    let _people = people(&one, &two);
    let expected = json!({"channels": {
        ROOM: {"user_count": 2, "subscription_count": 3},
        "orders": {"subscription_count": 1},
        "nobody": {"subscription_count": 0},
    }});
    let batch = json!({"batch": [
        {"name": "e", "channel": "orders", "data": "1", "info": "subscription_count"},
        {"name": "e", "channel": "orders", "data": "1"},
        {"name": "e", "channel": ROOM, "data": "1", "info": "user_count"},
    ]});
    let users = json!({"users": [{"id": "ben"}, {"id": "zoe"}]});
    for node in [&one, &two, &idle] {
        // What one node has heard of another's change a moment ago, it has not yet told its doors.
        eventually("the counts of all nodes", || node.api().publish(&event()) == expected);
        let reply = node.api().post("/batch_events", batch.to_string());
        let reply: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(reply, json!({"batch": [{"subscription_count": 1}, {}, {"user_count": 2}]}));
        assert_eq!(node.api().ask(&format!("/channels/{ROOM}/users"), &[]), users);
    }
}

#[test]
fn an_event_that_was_taken_stays_taken_when_its_info_cannot_be_had() {
    let store = Store::start();
    let (one, two, idle) = (node(&store), node(&store), node(&store));
    let [mut zoe, ..] = people(&one, &two);
    // A user of Redis that may publish, and not read.
    assert_eq!(store.say("ACL SETUSER default -hgetall"), ["OK"]);
    let reply = idle.api().publish(&event());
    assert_eq!(reply, json!({"channels": {ROOM: {}, "orders": {}, "nobody": {}}}));
    let heard = |client: &mut Client| loop {
        let event = client.event();
        if event["event"] == "e" {
            return event["channel"].clone();
        }
    };
    assert_eq!(heard(&mut zoe), ROOM);
    let reply = idle.api().get("/channels/orders", &[]);
    assert_eq!((reply.status, reply.body.as_str()), (503, AWAY));
    // What asks for nothing reads nothing.
    idle.api().trigger("orders", "e", "2");
}

/// Status, text and `Retry-After`.
fn told(reply: &Reply) -> (u16, &str, Option<&str>) {
    (reply.status, &reply.body, reply.header("retry-after"))
}

#[test]
fn without_redis_publishers_are_told_what_became_of_it_and_to_come_back() {
    let mut store = Store::start();
    let one = node(&store);
    let mut zoe = one.connect();
    zoe.join(ROOM, &member("zoe"));
    store.kill();
    await_away(&one);
    let mut api = one.api();
    let are_refused_at_once = is_within(Duration::from_millis(500), || {
        let began = Instant::now();
        for path in ["/channels", "/channels/orders", "/channels/presence-x/users"] {
            assert_eq!(told(&api.get(path, &[])), (503, AWAY, Some("1")), "{path}");
        }
        began.elapsed()
    });
    assert!(are_refused_at_once);
    let text = "Redis is away; the event was not delivered, try again";
    assert_eq!(told(&api.post("/events", event().to_string())), (503, text, Some("1")));
    let text = "Redis is away; connections of the user may still be open, try again";
    let ended = api.post("/users/zoe/terminate_connections", "{}");
    assert_eq!(told(&ended), (503, text, Some("1")));
    assert_eq!(one.metric(r#"soundpost_triggers_total{app="app-one",result="unavailable"}"#), 1);
    zoe.send(&json!({"event": "client-typing", "channel": ROOM, "data": {}}));
    let refused = zoe.event();
    assert_eq!((&refused["event"], &refused["data"]["code"]), (&json!("pusher:error"), &json!(4301)));
    assert_eq!(one.metric(r#"soundpost_client_events_total{app="app-one",result="unavailable"}"#), 1);
}

#[test]
fn an_event_that_may_have_been_delivered_is_not_to_be_repeated_unasked() {
    let store = Store::start();
    let one = node(&store);
    let text =
        "Redis did not answer in time; the event may have been delivered, try again if twice does no harm";
    let is_told_in_time = is_within(Duration::from_millis(1500), || {
        let mut api = one.api();
        store.server.pause();
        let began = Instant::now();
        let reply = api.post("/events", event().to_string());
        let took = began.elapsed();
        assert_eq!(told(&reply), (503, text, None));
        await_away(&one);
        store.server.resume();
        await_connected(&one);
        took
    });
    assert!(is_told_in_time);
}

/// What balancers are told on either listener.
fn ready(server: &TestServer) -> [(u16, String); 2] {
    [server.address, server.admin].map(|address| {
        let reply = Http::connect(address).get("/ready");
        (reply.status, reply.body)
    })
}

fn both(status: u16, text: &str) -> [(u16, String); 2] {
    [(status, text.to_owned()), (status, text.to_owned())]
}

#[test]
fn a_node_without_redis_is_ready_and_degraded() {
    let mut store = Store::start();
    let one = node(&store);
    // It has reached Redis a moment before it says so.
    eventually("it is ready", || ready(&one) == both(200, "ready"));
    assert_eq!(one.metric("soundpost_redis_connected"), 1);
    store.kill();
    await_away(&one);
    assert_eq!(ready(&one), both(200, "degraded: redis"));
    assert_eq!(one.metric("soundpost_redis_connected"), 0);
    assert_eq!(one.http().get("/").body, "OK");
    assert_eq!(one.http().get("/up").status, 200);
    store.run();
    await_connected(&one);
    assert_eq!(ready(&one), both(200, "ready"));
    assert_eq!(one.metric("soundpost_redis_reconnects_total"), 1);
}

#[test]
fn where_readiness_needs_redis_a_node_without_it_is_not_ready() {
    let store = Store::reserve();
    let one = TestServer::start_with(vec![app("one")], |all| {
        all.redis = Some(redis(&store));
        all.server.ready_requires_redis = true;
    });
    eventually("redis is found away", || ready(&one) != both(503, "starting"));
    assert_eq!(ready(&one), both(503, "degraded: redis"));
    assert_eq!(one.http().get("/").status, 503);
    assert_eq!(one.http().get("/up").status, 200);
}

#[test]
fn a_node_is_starting_until_it_knows_whether_redis_is_there() {
    // Takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = TestServer::start_with(vec![app("one")], |all| {
        let port = silent.local_addr().unwrap().port();
        let servers = RedisServers::Standalone(RedisAddress::Tcp("127.0.0.1".to_owned(), port));
        all.redis = Some(RedisSettings { servers, ..redis(&Store::reserve()) });
    });
    assert_eq!(ready(&one), both(503, "starting"));
    assert_eq!(one.http().get("/up").status, 200);
    drop(silent);
    eventually("it knows", || ready(&one) == both(200, "degraded: redis"));
}

/// The line for `ACL SETUSER` in the documentation, with a password.
pub(super) fn acl_line() -> String {
    let page = include_str!("../../../../docs/scaling.md");
    let line = page.lines().find(|line| line.starts_with("ACL SETUSER soundpost ")).unwrap();
    let rules: Vec<_> = ACL_RULES.split_whitespace().collect();
    assert!(line.ends_with(&rules.join(" ")), "the page names what is asked for: {ACL_RULES}");
    line.replace("PASSWORD", "secret")
}

#[test]
fn the_rights_that_the_documentation_names_are_enough() {
    let store = Store::start();
    assert_eq!(store.say(&acl_line()), ["OK"]);
    let node = |name: &str| {
        node_with(
            &store,
            |app| (app.webhooks, app.subscription_count) = (vec![told::webhook()], true),
            |redis| {
                redis.username = Some(name.to_owned());
                redis.password = Some(RedisPassword::new("secret"));
            },
        )
    };
    let (one, two, idle) = (node("soundpost"), node("soundpost"), node("soundpost"));
    let people = people(&one, &two);
    idle.api().trigger("cache-prices", "e", "1");
    let asked = [("info", "cache,subscription_count")];
    assert_eq!(idle.api().ask("/channels/cache-prices", &asked)["cache"]["data"], "1");
    let all = json!({"channels": {"orders": {}, ROOM: {}}});
    eventually("all channels are listed", || idle.api().ask("/channels", &[]) == all);
    let users = json!({"users": [{"id": "ben"}, {"id": "zoe"}]});
    assert_eq!(idle.api().ask(&format!("/channels/{ROOM}/users"), &[]), users);
    assert_eq!(idle.api().post("/users/nobody/terminate_connections", "{}").status, 200);
    drop(people);
    one.await_open(0);
    two.await_open(0);
    eventually("everybody has left", || idle.api().ask("/channels", &[]) == json!({"channels": {}}));
    wait_until("webhooks are told", || told::told(&store).iter().any(|told| told == "vacated presence-room"));
    for node in [&one, &two, &idle] {
        assert_eq!(node.metric("soundpost_redis_errors_total"), 0);
        assert_eq!(node.metric("soundpost_redis_reconnects_total"), 0);
    }
}

#[test]
fn a_redis_without_memory_counts_as_away_until_it_has_some() {
    let store = Store::start();
    let one = node(&store);
    let mut reader = one.connect();
    reader.subscribe("orders");
    assert_eq!(store.say("CONFIG SET maxmemory 1"), ["OK"]);
    // No lease can be renewed any more.
    wait_until("redis is away", || one.node().adapter.is_away());
    assert!(one.metric("soundpost_redis_errors_total") > 0);
    assert_eq!(one.api().post("/events", event().to_string()).status, 503);
    assert_eq!(store.say("CONFIG SET maxmemory 0"), ["OK"]);
    wait_until("redis is back", || !one.node().adapter.is_away());
    await_heard(&store, "orders", 1);
    one.api().trigger("orders", "n", "1");
    expect_event(&mut reader, "orders", "n", "1");
}
