//! Who is where, over all nodes.

use super::*;

#[test]
fn rosters_are_those_of_all_nodes_and_each_coming_and_going_is_told_once() {
    let store = Store::start();
    let (one, two) = (node(&store), node(&store));
    let (mut zoe, ben) = meet(&one, &two);
    let mut ben_too = one.connect();
    assert_eq!(ids(&ben_too.join(ROOM, &member("ben"))), ["ben", "zoe"]);
    for node in [&one, &two] {
        // The other node hears of a connection when its client does, or a little later.
        let asked = [("info", "user_count,subscription_count")];
        let expected = json!({"occupied": true, "user_count": 2, "subscription_count": 3});
        eventually("the counts are those of both", || {
            node.api().ask(&format!("/channels/{ROOM}"), &asked) == expected
        });
        let users = node.api().ask(&format!("/channels/{ROOM}/users"), &[]);
        assert_eq!(users, json!({"users": [{"id": "ben"}, {"id": "zoe"}]}));
    }
    ben.leave();
    one.api().trigger(ROOM, "n", "ben is still here");
    expect_event(&mut zoe, ROOM, "n", "ben is still here");
    expect_event(&mut ben_too, ROOM, "n", "ben is still here");
    ben_too.leave();
    let told = zoe.event();
    assert_eq!(told["event"], "pusher_internal:member_removed");
    assert_eq!(told["data"], json!({"user_id": "ben"}).to_string());
    zoe.expect_nothing();
}

#[test]
fn counts_and_lists_are_those_of_all_nodes() {
    let store = Store::start();
    let (one, two) = (node(&store), node(&store));
    let mut clients = [one.connect(), one.connect(), two.connect()];
    clients.iter_mut().for_each(|client| client.subscribe("orders"));
    clients[0].subscribe("only-here");
    clients[2].join(ROOM, &member("zoe"));
    for node in [&one, &two] {
        let counted = || node.api().ask("/channels/orders", &[("info", "subscription_count")]);
        eventually("three on the channel", || {
            counted() == json!({"occupied": true, "subscription_count": 3})
        });
        let all = json!({"orders": {}, "only-here": {}, ROOM: {}});
        eventually("all channels are listed", || node.api().ask("/channels", &[])["channels"] == all);
        let rooms = node.api().ask("/channels", &[("filter_by_prefix", "presence-"), ("info", "user_count")]);
        assert_eq!(rooms["channels"], json!({ROOM: {"user_count": 1}}));
        let nobody = node.api().ask("/channels/nobody", &[("info", "subscription_count")]);
        assert_eq!(nobody["occupied"], false);
    }
    let told = two.api().publish(
        &json!({"name": "n", "channels": ["orders", ROOM], "data": "", "info": "subscription_count,user_count"}),
    );
    assert_eq!(told["channels"]["orders"], json!({"subscription_count": 3}));
    assert_eq!(told["channels"][ROOM], json!({"subscription_count": 1, "user_count": 1}));
}

/// A node that only this test plays: it has a life, a lease, and a share of the room.
fn ghost(store: &Store, life: &str) {
    let base = "soundpost:0:reverb:";
    store.say(&format!("SET {base}{{nodes}}:lease:{life} x PX 60000"));
    store.say(&format!("ZADD {base}{{nodes}}:lives 1 {life}"));
    let tag = format!("{{app-one/{ROOM}}}");
    store.say(&format!("SADD {base}{{{life}}}:i {tag}"));
    store.say(&format!("HSET {base}{tag}:l {life} 1"));
    let value = [b"\0\0\0\0\0\0\0\x01\0\0\x05".as_slice(), b"ghost"].concat();
    let share = format!("{base}{tag}:s:{life}");
    store.ask(&[b"HSET", share.as_bytes(), b"s", b"0000000000000001", &[9; 16], &value]);
}

#[test]
fn the_members_of_a_node_that_died_go_within_ten_seconds_and_once() {
    let store = Store::start();
    ghost(&store, "00000000000000aa");
    let (one, two) = (node(&store), node(&store));
    let (mut zoe, mut ben) = (one.connect(), two.connect());
    assert_eq!(ids(&zoe.join(ROOM, &member("zoe"))), ["ghost", "zoe"]);
    assert_eq!(ids(&ben.join(ROOM, &member("ben"))), ["ben", "ghost", "zoe"]);
    assert_eq!(zoe.event()["event"], "pusher_internal:member_added");
    let began = std::time::Instant::now();
    assert_eq!(store.say("PEXPIRE soundpost:0:reverb:{nodes}:lease:00000000000000aa 6000"), ["1"]);
    wait_until("its death is found", || one.metric("soundpost_redis_deaths_total") == 1);
    for client in [&mut zoe, &mut ben] {
        let told = client.event();
        assert_eq!(told["event"], "pusher_internal:member_removed");
        assert_eq!(told["data"], json!({"user_id": "ghost"}).to_string());
    }
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    eventually("its traces are gone", || !store.keys().iter().any(|key| key.contains("00000000000000aa")));
    assert_eq!(store.say(&format!("HKEYS soundpost:0:reverb:{{app-one/{ROOM}}}:l")).len(), 2);
    // But for what keeps it from speaking again, should it only have stood still.
    let tombstone = format!("PTTL soundpost:0:reverb:{{app-one/{ROOM}}}:d:00000000000000aa");
    let milliseconds: u32 = store.say(&tombstone)[0].parse().unwrap();
    assert!((500_000..=600_000).contains(&milliseconds), "{milliseconds}");
    zoe.expect_nothing();
    ben.expect_nothing();
    assert_eq!(store.say("ZCARD soundpost:0:reverb:{nodes}:lives"), ["2"]);
}

#[test]
fn a_lease_that_ran_out_is_a_new_life_without_notices() {
    let store = Store::start();
    let (one, two) = (node(&store), node(&store));
    let (mut zoe, mut ben) = meet(&one, &two);
    let before = store.say("ZRANGE soundpost:0:reverb:{nodes}:lives 0 -1");
    // The others think that node two is dead: its tombstones are there, its share is gone.
    let life = before.iter().find(|life| {
        store.say(&format!("HEXISTS soundpost:0:reverb:{{app-one/{ROOM}}}:l {life}")) == ["1"]
            && !store
                .say(&format!("HVALS soundpost:0:reverb:{{app-one/{ROOM}}}:s:{life}"))
                .iter()
                .all(|text| !text.contains("ben"))
    });
    let life = life.unwrap();
    store.say(&format!("SET soundpost:0:reverb:{{app-one/{ROOM}}}:d:{life} x PX 600000"));
    let mut eve = two.connect();
    assert_eq!(ids(&eve.join(ROOM, &member("eve"))), ["ben", "eve", "zoe"]);
    for client in [&mut zoe, &mut ben] {
        let told = client.event();
        assert_eq!(told["event"], "pusher_internal:member_added");
        assert!(told["data"].as_str().unwrap().contains("eve"));
        client.expect_nothing();
    }
    assert_eq!(two.metric("soundpost_redis_renewals_total"), 1);
    assert_eq!(one.metric("soundpost_redis_renewals_total"), 0);
    wait_until("the former life is gone", || {
        !store.say("ZRANGE soundpost:0:reverb:{nodes}:lives 0 -1").contains(life)
    });
    zoe.expect_nothing();
}
