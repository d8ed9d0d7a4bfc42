//! More than one server: behind sentinels, and as a Redis Cluster.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{
    processes::{Cluster, RedisServer, Sentinel},
    *,
};

#[test]
fn nodes_follow_the_sentinels_to_another_master_and_nobody_hears_of_it() {
    let three = Sentinel::start("");
    let at_sentinels = || {
        let node = start(app("one"), RedisSettings::new(three.settings(&[])));
        await_connected(&node);
        node
    };
    let (one, two) = (at_sentinels(), at_sentinels());
    let (mut zoe, mut ben) = meet(&one, &two);
    three.fail_over();
    let master = three.servers.iter().find(|server| server.port == three.master_port()).unwrap();
    let topic = format!("soundpost:0:reverb:{{app-one/{ROOM}}}:t");
    wait_until("both nodes hear the new master", || {
        master.ask(&["PUBSUB", "NUMSUB", &topic]).lines().nth(1) == Some("2")
    });
    wait_until("events are taken", || {
        let event = json!({"name": "n", "channel": ROOM, "data": "1"});
        one.api().post("/events", event.to_string()).status == 200
    });
    for client in [&mut zoe, &mut ben] {
        expect_event(client, ROOM, "n", "1");
    }
    let users = || two.api().ask(&format!("/channels/{ROOM}/users"), &[]);
    eventually("the roster is whole", || users() == json!({"users": [{"id": "ben"}, {"id": "zoe"}]}));
    zoe.expect_nothing();
    ben.expect_nothing();
}

#[test]
fn a_redis_cluster_carries_every_channel() {
    let cluster = Cluster::start(&[]);
    let at_cluster = || {
        let node = start(app("one"), RedisSettings::new(cluster.settings()));
        await_connected(&node);
        node
    };
    let (one, two) = (at_cluster(), at_cluster());
    let (mut zoe, mut ben) = (one.connect(), two.connect());
    let channels: Vec<_> = (0..30).map(|number| format!("cache-{number}")).collect();
    for channel in &channels {
        zoe.subscribe(channel);
        assert_eq!(zoe.event()["event"], "pusher:cache_miss");
    }
    zoe.join(ROOM, &member("zoe"));
    ben.join(ROOM, &member("ben"));
    assert_eq!(zoe.event()["event"], "pusher_internal:member_added");
    let mut api = two.api();
    api.publish(&json!({"name": "n", "channels": channels, "data": "1"}));
    let mut heard: Vec<_> = (0..30).map(|_| zoe.event()).collect();
    heard.sort_by_key(|event| channels.iter().position(|channel| *channel == event["channel"]));
    for (event, channel) in heard.iter().zip(&channels) {
        assert_eq!(*event, json!({"event": "n", "channel": channel, "data": "1"}));
    }
    for channel in channels.iter().take(5) {
        ben.subscribe(channel);
        expect_event(&mut ben, channel, "n", "1");
    }
    let all = api.ask("/channels", &[]);
    assert_eq!(all["channels"].as_object().unwrap().len(), 31, "{all}");
    let users = one.api().ask(&format!("/channels/{ROOM}/users"), &[]);
    assert_eq!(users, json!({"users": [{"id": "ben"}, {"id": "zoe"}]}));
    ben.leave();
    assert_eq!(zoe.event()["event"], "pusher_internal:member_removed");
    zoe.leave();
    for node in [&one, &two] {
        node.begin_stop();
        eventually("the node has ended", || node.has_ended());
    }
    for server in &cluster.servers {
        let keys = server.ask(&["KEYS", "*"]);
        let lasting = keys.lines().filter(|key| server.ask(&["PTTL", key]) == "-1").collect::<Vec<_>>();
        assert_eq!(lasting, Vec::<&str>::new());
    }
}

/// The server that has this key.
fn owner<'a>(cluster: &'a Cluster, key: &str) -> &'a RedisServer {
    let slot: u16 = cluster.servers[0].ask(&["CLUSTER", "KEYSLOT", key]).parse().unwrap();
    &cluster.servers[usize::from(slot / 5461).min(2)]
}

#[test]
fn on_a_redis_cluster_a_share_waits_until_it_stands_in_the_index() {
    const BASE: &str = "soundpost:0:reverb:";
    let cluster = Cluster::start(&[]);
    let one = start(app("one"), RedisSettings::new(cluster.settings()));
    await_connected(&one);
    let mut client = one.connect();
    let lives = format!("{BASE}{{nodes}}:lives");
    let life = owner(&cluster, &lives).ask(&["ZRANGE", &lives, "0", "-1"]);
    let index = format!("{BASE}{{{life}}}:i");
    let home = owner(&cluster, &index);
    let share = |channel: &str| format!("{BASE}{{app-one/{channel}}}:s:{life}");
    let mut channels = (0..).map(|number| format!("orders-{number}"));
    let channel = channels.find(|channel| owner(&cluster, &share(channel)).port != home.port).unwrap();
    let share = share(&channel);
    let elsewhere = owner(&cluster, &share);
    home.pause();
    client.send(&json!({"event": "pusher:subscribe", "data": {"channel": channel}}));
    let until = Instant::now() + Duration::from_millis(300);
    while Instant::now() < until {
        assert_eq!(elsewhere.ask(&["EXISTS", &share]), "0", "nobody would take it away");
    }
    home.resume();
    processes::wait_until("the share is there", || elsewhere.ask(&["HGET", &share, "c"]) == "1");
    let tag = format!("{{app-one/{channel}}}");
    assert_eq!(home.ask(&["SISMEMBER", &index, &tag]), "1");
}
