//! What webhooks are told by nodes that meet at Redis: read from the stream, where an event stays until its target has it,
//! and this target never answers.

use std::{
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use soundpost_protocol::webhook::{
    Carrier, HttpTarget, Webhook,
    target::{EventKinds, ExtraHeaders, Target, TargetUrl},
};

use super::{
    processes::{Cluster, Data},
    *,
};

const HOLD: Duration = Duration::from_secs(3);

pub(super) fn webhook() -> Arc<Webhook> {
    let words =
        ["channel_occupied", "channel_vacated", "member_added", "member_removed", "subscription_count"];
    let target = Target { events: EventKinds::parse(words).unwrap(), ..Target::default() };
    let http = HttpTarget {
        url: TargetUrl::parse("http://127.0.0.1:1/").unwrap(),
        headers: ExtraHeaders::default(),
        ca: None,
        refuses_private: false,
    };
    Arc::new(Webhook::new(target, Carrier::Http(http)))
}

fn stream() -> String {
    format!("soundpost:0:reverb:{{app-one/@webhook/{}}}:q", webhook().id)
}

fn told_node(store: &Store) -> TestServer {
    node_with(store, |app| app.webhooks = vec![webhook()], |_| {})
}

/// `added zoe`, `occupied presence-room`, and so on.
fn short(json: &str) -> String {
    let event: Value = serde_json::from_str(json).unwrap();
    let name = event["name"].as_str().unwrap();
    let what = [&event["user_id"], &event["channel"]].into_iter().find_map(Value::as_str).unwrap();
    format!("{} {what}", name.split_once('_').unwrap().1)
}

/// All that was ever told.
pub(super) fn told(store: &Store) -> Vec<String> {
    let entries = store.say(&format!("XRANGE {} - +", stream()));
    entries.iter().filter(|text| text.starts_with('{')).map(|json| short(json)).collect()
}

#[track_caller]
fn await_told(store: &Store, expected: &[&str]) {
    wait_until("it is told", || told(store).len() >= expected.len());
    assert_eq!(told(store), expected);
}

fn lives(store: &Store) -> usize {
    store.say("ZRANGE soundpost:0:reverb:{nodes}:lives 0 -1").len()
}

#[test]
fn each_coming_and_going_is_told_once_and_a_return_elsewhere_is_none() {
    let store = Store::start();
    let (one, two) = (told_node(&store), told_node(&store));
    let (zoe, ben) = meet(&one, &two);
    let mut expected = vec!["occupied presence-room", "added zoe", "added ben"];
    await_told(&store, &expected);
    // Zoe comes back on the other node, and has two connections then.
    zoe.vanish();
    let (mut second, mut third) = (two.connect(), one.connect());
    second.join(ROOM, &member("zoe"));
    third.join(ROOM, &member("zoe"));
    ben.vanish();
    second.vanish();
    sleep(HOLD);
    expected.push("removed ben");
    await_told(&store, &expected);
    third.vanish();
    expected.extend(["removed zoe", "vacated presence-room"]);
    await_told(&store, &expected);
    eventually("nothing is left of the channel", || {
        let keys = store.keys();
        !keys.iter().any(|key| key.contains(ROOM)) && !keys.iter().any(|key| key.ends_with(":i"))
    });
}

#[test]
fn what_a_leaving_node_has_held_is_told_by_the_others_in_time() {
    let store = Store::start();
    let (one, two) = (told_node(&store), told_node(&store));
    let (zoe, ben) = meet(&one, &two);
    two.begin_stop();
    let began = Instant::now();
    drop(ben);
    eventually("the node has ended", || two.has_ended());
    await_told(&store, &["occupied presence-room", "added zoe", "added ben", "removed ben"]);
    assert!(began.elapsed() < HOLD + Duration::from_secs(2), "{:?}", began.elapsed());
    eventually("nothing else is left of it", || lives(&store) == 1);
    // The last node leaves what it holds to the next that starts; who is back by then was never gone.
    one.begin_stop();
    drop(zoe);
    eventually("the node has ended", || one.has_ended());
    assert_eq!(lives(&store), 1, "for what is held");
    let three = told_node(&store);
    let mut zoe = three.connect();
    zoe.join(ROOM, &member("zoe"));
    assert_eq!(lives(&store), 2);
    wait_until("the life is taken over", || lives(&store) == 1);
    sleep(Duration::from_millis(500));
    assert_eq!(told(&store).len(), 4);
    zoe.vanish();
    let all = ["occupied presence-room", "added zoe", "added ben", "removed ben", "removed zoe"];
    await_told(&store, &[&all[..], &["vacated presence-room"]].concat());
}

#[test]
fn what_a_dead_node_has_held_and_what_it_was_are_told_by_another() {
    let store = Store::start();
    let base = format!("soundpost:0:reverb:{{app-one/{ROOM}}}");
    let dead = "00000000000000aa";
    // It held the departure of one user, and died with another there.
    store.say(&format!("SADD soundpost:0:reverb:{{{dead}}}:i {{app-one/{ROOM}}}"));
    store.say(&format!("ZADD soundpost:0:reverb:{{nodes}}:lives 1 {dead}"));
    store.say(&format!("ZADD {base}:h 1 mben"));
    let one = told_node(&store);
    wait_until("its death is found", || one.metric("soundpost_redis_deaths_total") == 1);
    await_told(&store, &["removed ben"]);
    eventually("nothing is left", || {
        !store.keys().iter().any(|key| key.contains(dead) || key.contains(ROOM))
    });
}

#[test]
fn when_redis_is_back_what_has_changed_meanwhile_is_told_and_nothing_else() {
    for data in [Data::Saved, Data::Lost] {
        let mut store = Store::start();
        let (one, two) = (told_node(&store), told_node(&store));
        let (mut zoe, ben) = meet(&one, &two);
        let mut dan = two.connect();
        dan.join(ROOM, &member("dan"));
        zoe.event();
        let first = ["occupied presence-room", "added zoe", "added ben", "added dan"];
        await_told(&store, &first);
        store.server.save();
        store.server.kill();
        await_away(&one);
        await_away(&two);
        ben.vanish();
        let mut eve = two.connect();
        eve.join(ROOM, &member("eve"));
        let before: Vec<_> = if data == Data::Saved { first.to_vec() } else { vec![] };
        // Ben's node knows that he was there, though Redis may not.
        let removed = ["added eve", "removed ben"];
        store.server.start_again(data);
        await_connected(&one);
        await_connected(&two);
        await_told(&store, &[&before[..], &removed].concat());
        sleep(HOLD + Duration::from_secs(2));
        assert_eq!(told(&store), [&before[..], &removed].concat(), "and nothing else");
        // It goes on as before.
        eve.vanish();
        await_told(&store, &[&before[..], &removed, &["removed eve"]].concat());
        drop((zoe, dan));
    }
}

#[test]
fn departures_that_redis_took_in_without_an_answer_are_told_too() {
    let store = Store::start();
    let one = told_node(&store);
    let (mut zoe, mut ben, mut eve) = (one.connect(), one.connect(), one.connect());
    zoe.join(ROOM, &member("zoe"));
    ben.join(ROOM, &member("ben"));
    eve.join("presence-hall", &member("eve"));
    let mut expected =
        vec!["occupied presence-room", "added zoe", "added ben", "occupied presence-hall", "added eve"];
    await_told(&store, &expected);
    store.server.pause();
    ben.vanish();
    eve.vanish();
    await_away(&one);
    // It does now what it was told before it hung, and its answers reach nobody.
    store.server.resume();
    await_connected(&one);
    expected.extend(["removed ben", "removed eve", "vacated presence-hall"]);
    wait_until("all is told", || told(&store).len() >= expected.len());
    let (mut all, mut wanted) = (told(&store), expected.clone());
    all.sort();
    wanted.sort_unstable();
    assert_eq!(all, wanted);
    zoe.vanish();
    eventually("nothing is left of the channels", || {
        let keys = store.keys();
        !keys.iter().any(|key| key.contains("presence-")) && !keys.iter().any(|key| key.ends_with(":i"))
    });
}

#[test]
fn on_a_redis_cluster_events_come_to_the_streams_wherever_they_are() {
    let cluster = Cluster::start(&[]);
    let at_cluster = || {
        let mut app = app("one");
        app.webhooks = vec![webhook()];
        let node = start(app, RedisSettings::new(cluster.settings()));
        await_connected(&node);
        node
    };
    let (one, two) = (at_cluster(), at_cluster());
    let all = || -> Vec<String> {
        let key = stream();
        let server =
            cluster.servers.iter().find(|server| !server.ask(&["XLEN", &key]).starts_with("MOVED")).unwrap();
        let entries = server.ask(&["XRANGE", &key, "-", "+"]);
        entries.lines().filter(|text| text.starts_with('{')).map(short).collect()
    };
    let channels: Vec<_> = (0..12).map(|number| format!("presence-{number}")).collect();
    let mut clients: Vec<_> = channels
        .iter()
        .map(|channel| {
            let (mut zoe, mut ben) = (one.connect(), two.connect());
            zoe.join(channel, &member("zoe"));
            ben.join(channel, &member("ben"));
            (zoe, ben)
        })
        .collect();
    wait_until("all are told", || all().len() >= 36);
    clients.drain(..).for_each(|(zoe, ben)| {
        zoe.vanish();
        ben.vanish();
    });
    wait_until("all are told", || all().len() >= 72);
    sleep(Duration::from_millis(500));
    let mut told = all();
    assert_eq!(told.len(), 72, "each once: {told:?}");
    told.sort();
    assert_eq!(told.iter().filter(|event| *event == "removed ben").count(), 12);
    let left = |kind: &str| {
        let keys = cluster.servers.iter().map(|server| server.ask(&["KEYS", &format!("*presence-*:{kind}")]));
        keys.filter(|keys| !keys.is_empty()).collect::<Vec<_>>()
    };
    eventually("nothing is left of the channels", || left("[uhob]").is_empty());
}

/// Of so many users on two nodes, all of whose pages are left, and loaded again on the other node. False: that took longer
/// than departures are held, so that they had to be told.
fn storm(users: usize) -> bool {
    let store = Store::start();
    let (one, two) = (told_node(&store), told_node(&store));
    let join = |offset: usize| -> Vec<Client> {
        let node = |user: usize| if (user + offset).is_multiple_of(2) { &one } else { &two };
        (0..users)
            .map(|user| {
                let mut client = node(user).connect();
                client.send(&client.subscription(ROOM, Some(&member(&user.to_string()))));
                client
            })
            .collect()
    };
    let clients = join(0);
    wait_until("all have come", || told(&store).len() == users + 1);
    let began = Instant::now();
    drop(clients);
    let mut clients = join(1);
    // Everybody is in when it hears so.
    for client in &mut clients {
        while client.event()["event"] != "pusher_internal:subscription_succeeded" {}
    }
    if began.elapsed() >= HOLD {
        return false;
    }
    sleep(HOLD + Duration::from_secs(1));
    assert_eq!(told(&store).len(), users + 1);
    true
}

#[test]
fn a_storm_of_reloads_puts_nothing_into_the_stream() {
    // As many as this machine can bring back in time, beside whatever else it does.
    assert!([250, 120, 60, 30, 15].into_iter().any(storm), "not even fifteen were back in time");
}
