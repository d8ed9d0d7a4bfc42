//! Redis goes away, and comes back.

use std::time::{Duration, Instant};

use soundpost_protocol::presence::NodeId;

use super::*;

const EVENT: &str = r#"{"name":"n","channel":"orders","data":"1"}"#;

#[test]
fn a_node_serves_before_it_has_reached_redis() {
    let mut store = Store::reserve();
    let one = node(&store);
    let mut client = one.connect();
    client.subscribe("orders");
    assert!(is_refused_at_once(&one));
    client.expect_nothing();
    store.run();
    await_connected(&one);
    await_heard(&store, "orders", 1);
    one.api().trigger("orders", "n", "2");
    expect_event(&mut client, "orders", "n", "2");
}

#[test]
fn a_restart_of_redis_with_nothing_in_it_is_no_news_to_anybody() {
    let mut store = Store::start();
    let (one, two) = (node(&store), node(&store));
    let (mut zoe, mut ben) = meet(&one, &two);
    zoe.subscribe("orders");
    ben.subscribe("orders");
    store.kill();
    await_away(&one);
    await_away(&two);
    assert!(is_refused_at_once(&one));
    store.run();
    let back = Instant::now();
    await_connected(&one);
    await_connected(&two);
    // From here on events pass again, as soon as both topics are heard.
    await_heard(&store, "orders", 2);
    assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
    one.api().trigger("orders", "n", "2");
    expect_event(&mut zoe, "orders", "n", "2");
    expect_event(&mut ben, "orders", "n", "2");
    eventually("the roster is whole", || {
        let users = two.api().ask(&format!("/channels/{ROOM}/users"), &[]);
        users == json!({"users": [{"id": "ben"}, {"id": "zoe"}]})
    });
    // Nobody is told anything, also not after all has settled.
    std::thread::sleep(Duration::from_secs(5));
    zoe.expect_nothing();
    ben.expect_nothing();
}

#[test]
fn a_redis_that_hangs_costs_a_publisher_a_second_at_most() {
    let store = Store::start();
    let one = node(&store);
    let mut client = one.connect();
    client.subscribe("orders");
    let mut hangs = 0;
    let costs_a_second = is_within(Duration::from_millis(1200), || {
        let mut api = one.api();
        store.server.pause();
        let began = Instant::now();
        let reply = api.post("/events", EVENT);
        let took = began.elapsed();
        assert_eq!(reply.status, 503, "{reply:?}");
        hangs += 1;
        await_away(&one);
        assert!(is_refused_at_once(&one), "known to be away");
        assert_eq!(one.metric("soundpost_redis_publishes_total{result=\"unconfirmed\"}"), hangs);
        store.server.resume();
        await_connected(&one);
        await_heard(&store, "orders", 1);
        took
    });
    assert!(costs_a_second);
    one.api().trigger("orders", "n", "2");
    let mut heard = client.event();
    // Those that hung may have been delivered, once each: it was never said that they were not.
    while heard["data"] == "1" {
        assert!(hangs > 0, "one came that nobody published");
        hangs -= 1;
        heard = client.event();
    }
    assert_eq!(heard["data"], "2");
    client.expect_nothing();
}

/// Whether a publisher hears at once that Redis is away, without the second it takes to find that out.
fn is_refused_at_once(node: &TestServer) -> bool {
    let mut api = node.api();
    is_within(Duration::from_millis(200), || {
        let began = Instant::now();
        assert_eq!(api.post("/events", EVENT).status, 503);
        began.elapsed()
    })
}

#[test]
fn where_the_settings_say_so_a_node_delivers_alone_while_redis_is_away() {
    let mut store = Store::start();
    let local = |settings: &mut RedisSettings| settings.on_outage = OnOutage::Local;
    let (one, two) = (node_with(&store, |_| {}, local), node_with(&store, |_| {}, local));
    let (mut here, mut there) = (one.connect(), two.connect());
    here.subscribe("private-orders");
    there.subscribe("private-orders");
    store.server.pause();
    // Taken before anybody knows that Redis is away, and after.
    let mut numbers = 0..;
    let mut trigger = || one.api().trigger("private-orders", "n", &numbers.next().unwrap().to_string());
    trigger();
    await_away(&one);
    let are_taken_at_once = is_within(Duration::from_millis(500), || {
        let began = Instant::now();
        trigger();
        trigger();
        began.elapsed()
    });
    assert!(are_taken_at_once);
    (0..numbers.start).for_each(|number| expect_event(&mut here, "private-orders", "n", &number.to_string()));
    store.server.resume();
    await_connected(&one);
    await_connected(&two);
    await_heard(&store, "private-orders", 2);
    one.api().trigger("private-orders", "n", "last");
    expect_event(&mut here, "private-orders", "n", "last");
    here.expect_nothing();
    // What was on its way when Redis hung may have come to the other node, once.
    let mut heard = there.event();
    if heard["data"] == "0" {
        heard = there.event();
    }
    assert_eq!(heard["data"], "last");
    store.kill();
    await_away(&one);
    one.api().trigger("private-orders", "n", "alone");
    expect_event(&mut here, "private-orders", "n", "alone");
}

#[test]
fn what_was_delivered_while_redis_hung_is_not_delivered_again_when_it_comes_after_all() {
    let store = Store::start();
    let one = node_with(&store, |_| {}, |settings| settings.on_outage = OnOutage::Local);
    let life = store.say("ZRANGE soundpost:0:reverb:{nodes}:lives 0 -1").remove(0);
    let life = NodeId(u64::from_str_radix(&life, 16).unwrap());
    let mut client = one.connect();
    client.subscribe("orders");
    store.server.pause();
    one.api().trigger("orders", "n", "1");
    expect_event(&mut client, "orders", "n", "1");
    store.server.resume();
    await_connected(&one);
    await_heard(&store, "orders", 1);
    store.publish(life, 1, "1");
    one.api().trigger("orders", "n", "2");
    expect_event(&mut client, "orders", "n", "2");
    client.expect_nothing();
}

#[test]
fn joins_and_leaves_while_redis_is_away_are_told_when_it_is_back() {
    let mut store = Store::start();
    let (one, two) = (node(&store), node(&store));
    let (mut zoe, mut ben) = meet(&one, &two);
    store.kill();
    await_away(&one);
    await_away(&two);
    let mut eve = two.connect();
    assert_eq!(ids(&eve.join(ROOM, &member("eve"))), ["ben", "eve", "zoe"]);
    assert_eq!(ben.event()["event"], "pusher_internal:member_added");
    ben.leave();
    assert_eq!(eve.event()["event"], "pusher_internal:member_removed");
    zoe.expect_nothing();
    store.run();
    let mut told = [zoe.event(), zoe.event()].map(|event| event["event"].as_str().unwrap().to_owned());
    told.sort();
    assert_eq!(told, ["pusher_internal:member_added", "pusher_internal:member_removed"]);
    zoe.expect_nothing();
    eve.expect_nothing();
}

#[test]
fn nodes_put_back_what_somebody_has_deleted_and_tell_nobody() {
    let store = Store::start();
    let (one, two) = (node(&store), node(&store));
    let (mut zoe, mut ben) = meet(&one, &two);
    let former = store.say("ZRANGE soundpost:0:reverb:{nodes}:lives 0 -1");
    store.say("FLUSHALL");
    // The next heartbeat finds no lease any more.
    let whole = json!({"users": [{"id": "ben"}, {"id": "zoe"}]});
    eventually("the roster is whole", || one.api().ask(&format!("/channels/{ROOM}/users"), &[]) == whole);
    eventually("both have new lives", || {
        [&one, &two].iter().all(|node| node.metric("soundpost_redis_renewals_total") == 1)
    });
    // Whoever still speaks as one of the former lives is not believed.
    assert_eq!(former.len(), 2);
    for life in former {
        let tombstone = format!("EXISTS soundpost:0:reverb:{{app-one/{ROOM}}}:d:{life}");
        eventually("the former life is over", || store.say(&tombstone) == ["1"]);
    }
    one.api().trigger(ROOM, "n", "1");
    expect_event(&mut zoe, ROOM, "n", "1");
    expect_event(&mut ben, ROOM, "n", "1");
    std::thread::sleep(Duration::from_secs(5));
    zoe.expect_nothing();
    ben.expect_nothing();
}
