//! Presence channels: who is there, who comes and who goes, each told once and in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::support::{Client, TestServer, eventually};

const ROOM: &str = "presence-room";

fn added(data: &str) -> Value {
    json!({"event": "pusher_internal:member_added", "channel": ROOM, "data": data})
}

fn removed(data: &str) -> Value {
    json!({"event": "pusher_internal:member_removed", "channel": ROOM, "data": data})
}

/// Who of a user's connections came first is told by the clock, in milliseconds.
fn next_millisecond() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let before = now();
    eventually("the clock to go on", || now() > before);
}

#[test]
fn the_others_hear_of_a_users_first_connection_and_of_its_last() {
    let server = TestServer::start(|_| {});
    let zoe = r#"{"user_id":"42","user_info":{"name":"Zoe"}}"#;
    let mut ann = server.connect();
    assert_eq!(ann.join(ROOM, r#"{"user_id":7}"#), json!({"count": 1, "ids": [7], "hash": {"7": null}}));
    let mut first = server.connect();
    let roster = first.join(ROOM, zoe);
    assert_eq!((&roster["count"], &roster["hash"]), (&json!(2), &json!({"7": null, "42": {"name": "Zoe"}})));
    let ids: BTreeSet<_> = roster["ids"].as_array().unwrap().iter().map(Value::to_string).collect();
    assert_eq!(ids, BTreeSet::from(["\"42\"".to_owned(), "7".to_owned()]));
    ann.expect(&added(zoe));
    first.expect_silence();

    // The same user on a second connection, with another info: the first one's still holds.
    let mut second = server.connect();
    next_millisecond();
    assert_eq!(second.join(ROOM, r#"{"user_id":"42","user_info":2}"#)["hash"]["42"], json!({"name": "Zoe"}));
    second.unsubscribe(ROOM);
    second.expect_silence();
    // A number and its text are one user.
    second.join(ROOM, r#"{"user_id":"7"}"#);
    second.leave();
    ann.expect_silence();
    first.expect_silence();

    first.unsubscribe(ROOM);
    first.expect_silence();
    ann.expect(&removed(r#"{"user_id":"42"}"#));
    first.join(ROOM, zoe);
    ann.expect(&added(zoe));
    // However a connection ends, its member goes.
    first.vanish();
    ann.expect(&removed(r#"{"user_id":"42"}"#));
    let mut third = server.connect();
    third.join(ROOM, zoe);
    ann.expect(&added(zoe));
    ann.leave();
    third.expect(&removed(r#"{"user_id":7}"#));
    third.expect_silence();
}

#[test]
fn a_repeated_join_shows_a_fresh_roster_and_tells_nobody() {
    let server = TestServer::start(|_| {});
    let mut ann = server.connect();
    let mut bob = server.connect();
    ann.join(ROOM, r#"{"user_id":"a","user_info":1}"#);
    bob.join(ROOM, r#"{"user_id":"b"}"#);
    ann.expect(&added(r#"{"user_id":"b"}"#));
    let roster = ann.join(ROOM, r#"{"user_id":"a","user_info":2}"#);
    assert_eq!(roster["hash"], json!({"a": 2, "b": null}));
    ann.expect_silence();
    bob.expect_silence();
    assert_eq!(bob.join(ROOM, r#"{"user_id":"b"}"#)["hash"], json!({"a": 2, "b": null}));
}

#[test]
fn a_user_is_described_by_the_earliest_connection_that_is_still_there() {
    let server = TestServer::start(|_| {});
    let mut watcher = server.connect();
    let mut first = server.connect();
    let mut second = server.connect();
    watcher.join(ROOM, r#"{"user_id":"w"}"#);
    first.join(ROOM, r#"{"user_id":"a","user_info":1}"#);
    watcher.expect(&added(r#"{"user_id":"a","user_info":1}"#));
    next_millisecond();
    assert_eq!(second.join(ROOM, r#"{"user_id":"a","user_info":2}"#)["hash"]["a"], 1);
    first.leave();
    watcher.expect_silence();
    let mut third = server.connect();
    next_millisecond();
    assert_eq!(third.join(ROOM, r#"{"user_id":"a","user_info":3}"#)["hash"]["a"], 2);
}

/// What a joiner has seen of the channel until the event `marker`.
#[derive(Debug)]
struct View {
    own_id: String,
    in_roster: BTreeSet<String>,
    /// How often each came, less how often each went.
    changes: BTreeMap<String, i32>,
}

impl View {
    fn of(client: &mut Client, own_id: &str) -> Self {
        let mut view = Self::at_first(client, own_id);
        view.follow(client);
        view
    }

    fn at_first(client: &mut Client, own_id: &str) -> Self {
        let roster = client.roster(ROOM);
        let in_roster: BTreeSet<_> = roster["hash"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(roster["count"], in_roster.len());
        Self { own_id: own_id.to_owned(), in_roster, changes: BTreeMap::new() }
    }

    /// Hears all up to the marker.
    fn follow(&mut self, client: &mut Client) {
        let Self { own_id, in_roster, changes } = self;
        loop {
            let event = client.event();
            let change = match event["event"].as_str().unwrap() {
                "pusher_internal:member_added" => 1,
                "pusher_internal:member_removed" => -1,
                "marker" => break,
                other => panic!("{other}"),
            };
            let data: Value = serde_json::from_str(event["data"].as_str().unwrap()).unwrap();
            let user_id = data["user_id"].as_str().unwrap().to_owned();
            let is_here = i32::from(in_roster.contains(&user_id));
            let count = changes.entry(user_id.clone()).or_insert(0);
            *count += change;
            assert!(matches!(is_here + *count, 0 | 1), "{user_id} came or went twice for {own_id}");
        }
    }

    fn members(&self) -> BTreeSet<String> {
        let ids = self.in_roster.iter().chain(self.changes.keys());
        ids.filter(|id| {
            let was_here = i32::from(self.in_roster.contains(*id));
            was_here + self.changes.get(*id).copied().unwrap_or(0) == 1
        })
        .cloned()
        .collect()
    }
}

#[test]
fn however_many_join_at_once_all_see_the_same_members() {
    let server = TestServer::start_with(vec![crate::support::app("one")], |settings| {
        settings.server.workers = 3.try_into().unwrap();
    });
    let id = |n: usize| format!("user-{n}");
    let mut clients: Vec<_> = (0..60).map(|_| server.connect()).collect();
    // Every sixth leaves again at once, and only then asks for an answer.
    std::thread::scope(|scope| {
        for (chunk, clients) in clients.chunks_mut(15).enumerate() {
            scope.spawn(move || {
                for (at, client) in clients.iter_mut().enumerate() {
                    let data = json!({"user_id": id(chunk * 15 + at)}).to_string();
                    client.send(&client.subscription(ROOM, Some(&data)));
                }
                for client in clients.iter_mut().step_by(6) {
                    client.unsubscribe(ROOM);
                    client.send(&json!({"event": "pusher:ping"}));
                }
            });
        }
    });
    let stays = |n: &usize| !(n % 15).is_multiple_of(6);
    for (_, client) in clients.iter_mut().enumerate().filter(|(n, _)| !stays(n)) {
        while client.event()["event"] != "pusher:pong" {}
    }
    let members: BTreeSet<_> = (0..60).filter(stays).map(id).collect();
    let mut api = server.api();
    eventually("all to be in", || {
        api.ask("/channels/presence-room", &[("info", "user_count")])["user_count"] == members.len()
    });
    api.trigger(ROOM, "marker", "");
    for (n, client) in clients.iter_mut().enumerate().filter(|(n, _)| stays(n)) {
        let view = View::of(client, &id(n));
        assert!(view.in_roster.contains(&view.own_id), "{view:?}");
        assert!(!view.changes.contains_key(&view.own_id), "told of itself: {view:?}");
        assert_eq!(view.members(), members, "{view:?}");
    }
}

fn id(n: usize) -> String {
    format!("user-{n}")
}

/// A server of one worker and sixty clients who have each asked so often for rosters of 120 kB, of which the worker sends
/// some sixteen at a time.
fn crowd(subscribes: usize) -> (TestServer, Vec<Client>) {
    let server = TestServer::start_with(vec![crate::support::app("one")], |settings| {
        settings.server.workers = 1.try_into().unwrap();
    });
    let mut clients: Vec<_> = (0..60).map(|_| server.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        let data = json!({"user_id": id(n), "user_info": "x".repeat(2000)}).to_string();
        let subscription = client.subscription(ROOM, Some(&data));
        (0..subscribes).for_each(|_| client.send(&subscription));
    }
    (server, clients)
}

#[test]
fn who_waits_for_a_large_roster_gets_the_one_of_its_turn() {
    let (server, mut clients) = crowd(1);
    let mut views: Vec<_> =
        clients.iter_mut().enumerate().map(|(n, client)| View::at_first(client, &id(n))).collect();
    server.api().trigger(ROOM, "marker", "");
    let members: BTreeSet<_> = (0..60).map(id).collect();
    for (client, view) in clients.iter_mut().zip(&mut views) {
        view.follow(client);
        assert!(
            view.in_roster.contains(&view.own_id) && !view.changes.contains_key(&view.own_id),
            "{view:?}"
        );
        assert_eq!(view.members(), members, "{view:?}");
    }
}

#[test]
fn who_asks_again_while_it_waits_for_a_large_roster_is_answered_again() {
    let (_server, mut clients) = crowd(2);
    for (n, client) in clients.iter_mut().enumerate() {
        View::at_first(client, &id(n));
        loop {
            match client.event()["event"].as_str().unwrap() {
                "pusher_internal:member_added" => {}
                event => break assert_eq!(event, "pusher_internal:subscription_succeeded"),
            }
        }
    }
}
