//! The end of a node, and what it leaves behind.

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
