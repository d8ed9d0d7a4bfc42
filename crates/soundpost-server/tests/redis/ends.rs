//! The end of a node, and what it leaves behind.

use std::sync::Arc;

use soundpost_protocol::webhook::{
    Carrier, HttpTarget, Webhook,
    target::{ExtraHeaders, Target, TargetUrl},
};

use super::*;

#[test]
fn a_node_that_stops_leaves_nothing_behind_and_its_members_go_at_once() {
    let store = Store::start();
    let (one, two) = (node(&store), node(&store));
    let (mut zoe, mut ben) = meet(&one, &two);
    ben.subscribe("orders");
    two.begin_stop();
    let told = zoe.event();
    assert_eq!(told["event"], "pusher_internal:member_removed");
    assert_eq!(told["data"], json!({"user_id": "ben"}).to_string());
    drop(ben);
    eventually("the node has ended", || two.has_ended());
    assert_eq!(store.say("ZCARD soundpost:0:reverb:{nodes}:lives"), ["1"], "it said farewell");
    assert_eq!(one.metric("soundpost_redis_deaths_total"), 0);
    zoe.leave();
    one.begin_stop();
    eventually("the node has ended", || one.has_ended());
    assert_eq!(store.keys(), Vec::<String>::new());
}

/// What a node that stops holds for webhooks is seen to by the others, who say then that its life is gone. It must not take
/// that for a reason to begin another, which they would find dead some seconds later.
#[test]
fn a_node_that_stops_while_something_is_held_for_webhooks_begins_no_new_life() {
    let store = Store::start();
    let hooked = |app: &mut App| {
        // Nobody listens there.
        let url = TargetUrl::parse("http://127.0.0.1:9/").unwrap();
        let http = HttpTarget { url, headers: ExtraHeaders::default(), ca: None, refuses_private: false };
        app.webhooks = vec![Arc::new(Webhook::new(Target::default(), Carrier::Http(http)))];
    };
    let [one, two] = [(); 2].map(|()| node_with(&store, hooked, |_| {}));
    let mut others: Vec<_> = (0..20).map(|_| two.connect()).collect();
    for (n, other) in others.iter_mut().enumerate() {
        other.join(ROOM, &member(&format!("user-{n}")));
    }
    two.begin_stop();
    drop(others);
    eventually("the node has ended", || two.has_ended());
    eventually("it is not there", || store.say("ZCARD soundpost:0:reverb:{nodes}:lives") == ["1"]);
    assert_eq!(one.metric("soundpost_redis_deaths_total"), 0);
}

#[test]
fn a_channel_that_nobody_is_on_is_gone_from_redis() {
    let store = Store::start();
    let one = node(&store);
    let before = store.keys();
    let mut client = one.connect();
    client.subscribe("orders");
    client.join(ROOM, &member("zoe"));
    assert_eq!(store.topics(), 3);
    client.unsubscribe("orders");
    client.unsubscribe(ROOM);
    eventually("the shares are gone", || store.keys() == before);
    wait_until("topics are given up after a while", || store.topics() == 1);
}

#[test]
fn a_share_that_was_empty_lasts_again_when_somebody_comes() {
    let store = Store::start();
    let one = node(&store);
    let mut client = one.connect();
    let shares_last = |expected: [bool; 2]| {
        eventually("the shares last, or end by themselves", || {
            let shares = store.say("KEYS soundpost:0:reverb:*:s:*");
            let lasts = |share: &String| store.say(&format!("PTTL {share}")) == ["-1"];
            shares.iter().map(lasts).collect::<Vec<_>>() == expected
        });
    };
    for _ in 0..2 {
        client.subscribe("orders");
        client.join(ROOM, &member("zoe"));
        shares_last([true, true]);
        client.unsubscribe("orders");
        client.unsubscribe(ROOM);
        shares_last([false, false]);
    }
}
