//! Events from node to node.

use soundpost_protocol::presence::NodeId;

use super::*;

#[test]
fn events_reach_all_nodes_in_one_order() {
    let store = Store::start();
    let (one, two) = (node(&store), node(&store));
    let (mut here, mut there) = (one.connect(), two.connect());
    here.subscribe("orders");
    there.subscribe("orders");
    let (mut first, mut second) = (one.api(), two.api());
    for number in 0..40 {
        let api = if number % 2 == 0 { &mut first } else { &mut second };
        api.trigger("orders", "shipped", &number.to_string());
    }
    for client in [&mut here, &mut there] {
        for number in 0..40 {
            expect_event(client, "orders", "shipped", &number.to_string());
        }
        client.expect_nothing();
    }
    for node in [&one, &two] {
        assert_eq!(node.metric("soundpost_redis_gaps_total"), 0);
        assert_eq!(node.metric("soundpost_redis_duplicates_total"), 0);
        assert_eq!(node.metric("soundpost_redis_publishes_total{result=\"accepted\"}"), 20);
    }
}

#[test]
fn concurrent_publishers_are_heard_in_the_same_order_everywhere() {
    let store = Store::start();
    let (one, two) = (node(&store), node(&store));
    let (mut here, mut there) = (one.connect(), two.connect());
    here.subscribe("orders");
    there.subscribe("orders");
    std::thread::scope(|scope| {
        for (node, who) in [(&one, "a"), (&two, "b")] {
            scope.spawn(move || {
                let mut api = node.api();
                (0..100).for_each(|number| api.trigger("orders", who, &number.to_string()));
            });
        }
    });
    let heard = |client: &mut Client| (0..200).map(|_| client.event()).collect::<Vec<_>>();
    let (here, there) = (heard(&mut here), heard(&mut there));
    assert_eq!(here, there);
    for who in ["a", "b"] {
        let of = here.iter().filter(|event| event["event"] == who);
        let numbers: Vec<_> = of.map(|event| event["data"].as_str().unwrap().to_owned()).collect();
        assert_eq!(numbers, (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
    }
}

#[test]
fn a_batch_and_many_channels_are_one_request() {
    let store = Store::start();
    let (one, two) = (node(&store), node(&store));
    let mut there = two.connect();
    there.subscribe("a");
    there.subscribe("b");
    let mut api = one.api();
    api.publish(&json!({"name": "n", "channels": ["a", "b"], "data": "1"}));
    let batch = json!({"batch": [
        {"name": "n", "channel": "a", "data": "2"},
        {"name": "n", "channel": "b", "data": "3"},
    ]});
    assert_eq!(api.post("/batch_events", batch.to_string()).status, 200);
    let mut heard: Vec<_> = (0..4).map(|_| there.event()).map(|event| event["data"].clone()).collect();
    heard.sort_by_key(ToString::to_string);
    assert_eq!(heard, ["1", "1", "2", "3"]);
}

#[test]
fn the_excluded_connection_hears_nothing_wherever_it_is() {
    let store = Store::start();
    let (one, two) = (node(&store), node(&store));
    let (mut here, mut there) = (one.connect(), two.connect());
    here.subscribe("orders");
    there.subscribe("orders");
    let event = json!({"name": "n", "channel": "orders", "data": "1", "socket_id": there.socket_id});
    one.api().publish(&event);
    one.api().trigger("orders", "n", "2");
    expect_event(&mut here, "orders", "n", "1");
    expect_event(&mut here, "orders", "n", "2");
    expect_event(&mut there, "orders", "n", "2");
}

#[test]
fn client_events_reach_the_members_on_other_nodes() {
    let store = Store::start();
    let (one, two) = (node(&store), node(&store));
    let (mut here, mut there) = (one.connect(), two.connect());
    here.subscribe("private-room");
    there.subscribe("private-room");
    here.send(&json!({"event": "client-typing", "channel": "private-room", "data": "yes"}));
    expect_event(&mut there, "private-room", "client-typing", "yes");
    there.send(&json!({"event": "client-typing", "channel": "private-room", "data": "no"}));
    expect_event(&mut here, "private-room", "client-typing", "no");
}

#[test]
fn newcomers_of_any_node_get_the_event_that_a_cache_channel_keeps() {
    let store = Store::start();
    let (one, two) = (node(&store), node(&store));
    one.api().trigger("cache-prices", "price", "1");
    one.api().trigger("cache-prices", "price", "2");
    let newcomer = |node: &TestServer, expected: &str| {
        let mut client = node.connect();
        client.subscribe("cache-prices");
        expect_event(&mut client, "cache-prices", "price", expected);
        let state = node.api().ask("/channels/cache-prices", &[("info", "cache")]);
        assert_eq!(state["cache"]["data"], expected, "{state}");
        client
    };
    let nodes = [&one, &two];
    let mut clients = nodes.map(|node| newcomer(node, "2"));
    // Nodes that hear the channel keep what they hear.
    one.api().trigger("cache-prices", "price", "3");
    for client in &mut clients {
        expect_event(client, "cache-prices", "price", "3");
    }
    for node in nodes {
        newcomer(node, "3");
    }
}

#[test]
fn local_first_delivers_at_once_and_never_twice() {
    let store = Store::start();
    let settings = |settings: &mut RedisSettings| settings.local_first = true;
    let (one, two) = (node_with(&store, |_| {}, settings), node_with(&store, |_| {}, settings));
    let (mut here, mut there) = (one.connect(), two.connect());
    here.subscribe("orders");
    there.subscribe("orders");
    for number in 0..20 {
        one.api().trigger("orders", "n", &number.to_string());
    }
    for client in [&mut here, &mut there] {
        (0..20).for_each(|number| expect_event(client, "orders", "n", &number.to_string()));
    }
    // Each comes behind the copies of those before it.
    for (node, name) in [(&two, "there"), (&one, "here")] {
        node.api().trigger("orders", name, "");
        for client in [&mut here, &mut there] {
            expect_event(client, "orders", name, "");
        }
    }
    here.expect_nothing();
    there.expect_nothing();
}

#[test]
fn deployments_with_another_name_or_database_never_meet() {
    let store = Store::start();
    let one = node(&store);
    for change in [
        (|settings: &mut RedisSettings| settings.database = 1) as fn(&mut RedisSettings),
        |settings| settings.prefix = "other".to_owned(),
        |settings| settings.channel = "other".to_owned(),
    ] {
        let other = node_with(&store, |_| {}, change);
        let mut client = other.connect();
        client.subscribe("orders");
        one.api().trigger("orders", "n", "theirs");
        other.api().trigger("orders", "n", "ours");
        expect_event(&mut client, "orders", "n", "ours");
        client.expect_nothing();
    }
}

#[test]
fn what_is_no_message_of_this_version_is_counted_and_dropped() {
    let store = Store::start();
    let one = node(&store);
    let mut client = one.connect();
    client.subscribe("orders");
    let topic: &[u8] = b"soundpost:0:reverb:{app-one/orders}:t";
    assert_eq!(store.ask(&[b"PUBLISH", topic, b"\x02\x01\0later"]), [b"1"]);
    assert_eq!(store.ask(&[b"PUBLISH", topic, b"\x01\x63\0aaaaaaaabbbbbbbb\0"]), [b"1"]);
    assert_eq!(store.ask(&[b"PUBLISH", topic, b"\x01\x01"]), [b"1"]);
    one.api().trigger("orders", "n", "1");
    expect_event(&mut client, "orders", "n", "1");
    assert_eq!(one.metric("soundpost_redis_unknown_messages_total"), 2);
    assert_eq!(one.metric("soundpost_redis_malformed_messages_total"), 1);
}

#[test]
fn an_event_that_comes_twice_is_dropped_and_what_is_missing_is_counted() {
    let store = Store::start();
    let one = node(&store);
    let mut client = one.connect();
    client.subscribe("orders");
    for sequence in [5, 6, 6, 5, 9, 8, 1, 2, 2] {
        store.publish(NodeId(7), sequence, &sequence.to_string());
    }
    one.api().trigger("orders", "last", "");
    for sequence in ["5", "6", "9", "1", "2"] {
        expect_event(&mut client, "orders", "n", sequence);
    }
    expect_event(&mut client, "orders", "last", "");
    assert_eq!(one.metric("soundpost_redis_duplicates_total"), 4);
    assert_eq!(one.metric("soundpost_redis_gaps_total"), 2);
}
