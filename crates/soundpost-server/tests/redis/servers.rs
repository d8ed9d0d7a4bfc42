//! More than one server: behind sentinels, and as a Redis Cluster.

use serde_json::json;

use super::{
    processes::{Cluster, Sentinel, settings},
    *,
};

const ROOM: &str = "presence-room";

fn member(id: &str) -> String {
    json!({"user_id": id, "user_info": {}}).to_string()
}

#[test]
fn nodes_follow_the_sentinels_to_another_master_and_nobody_hears_of_it() {
    let three = Sentinel::start("");
    let at_sentinels = || {
        let node = start(app("one"), settings(three.settings(&[])));
        await_connected(&node);
        node
    };
    let (one, two) = (at_sentinels(), at_sentinels());
    let (mut zoe, mut ben) = (one.connect(), two.connect());
    zoe.join(ROOM, &member("zoe"));
    ben.join(ROOM, &member("ben"));
    assert_eq!(zoe.event()["event"], "pusher_internal:member_added");
    three.fail_over();
    let master = three.servers.iter().find(|server| server.port == three.master_port()).unwrap();
    let topic = format!("soundpost:0:reverb:{{app-one/{ROOM}}}:t");
    processes::wait_until("both nodes hear the new master", || {
        master.ask(&["PUBSUB", "NUMSUB", &topic]).lines().nth(1) == Some("2")
    });
    processes::wait_until("events are taken", || {
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
        let node = start(app("one"), settings(cluster.settings()));
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
