//! What was heard is told before what was said to it: two clients of one channel who answer each other.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
};

use soundpost_protocol::webhook::target::Batching;

use super::*;
use receiver::status;

/// What is said last.
const END: &str = "end";

/// How often each of the two says something. `PING_PONGS=5000` makes more of it.
fn rounds() -> u64 {
    std::env::var("PING_PONGS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(300)
}

/// The app, without bounds on what clients say; its webhook takes much at once.
fn talkative(receiver: &Receiver) -> App {
    let mut app = telling(receiver);
    app.client_events_per_second = None;
    let mut webhook = (*app.webhooks[0]).clone();
    webhook.target.batching = Batching::new(20, 200).unwrap();
    app.webhooks = vec![Arc::new(webhook)];
    app
}

fn node_at(servers: RedisServers, receiver: &Receiver, on_outage: OnOutage) -> TestServer {
    let node = start(talkative(receiver), RedisSettings { on_outage, ..RedisSettings::new(servers) });
    await_connected(&node);
    node
}

fn say(client: &mut Client, word: &str) {
    client.send(&json!({"event": "client-n", "channel": ROOM, "data": word}));
}

/// The next that the other says.
fn hear(client: &mut Client) -> String {
    loop {
        let event = client.event();
        assert_ne!(event["event"], "pusher:error", "{event}");
        if event["event"] == "client-n" {
            return event["data"].as_str().unwrap().to_owned();
        }
    }
}

/// Zoe says a number as soon as she is there, ben answers with the next as soon as he hears it, and so on, until it is
/// not to go on. Gives back how many numbers were said.
fn talk(one: &TestServer, two: &TestServer, goes_on: impl Fn(u64) -> bool) -> u64 {
    let (mut zoe, mut ben) = (one.connect(), two.connect());
    ben.join(ROOM, &member("ben"));
    zoe.join(ROOM, &member("zoe"));
    let answers = thread::spawn(move || {
        loop {
            let word = hear(&mut ben);
            let Ok(number) = word.parse::<u64>() else { return ben };
            say(&mut ben, &(number + 1).to_string());
        }
    });
    let mut said = 0;
    while goes_on(said) {
        say(&mut zoe, &said.to_string());
        said += 2;
        assert_eq!(hear(&mut zoe), (said - 1).to_string());
    }
    say(&mut zoe, END);
    drop(answers.join().unwrap());
    said
}

/// All that is told of that, each event as a word, and once.
fn told(receiver: &Receiver) -> Vec<String> {
    let (mut told, mut ids) = (Vec::<String>::new(), HashSet::new());
    while told.last().is_none_or(|word| !word.starts_with("channel_vacated")) {
        let request = receiver.next();
        for (id, event) in event_ids(&request).into_iter().zip(request.events()) {
            let text = |field: &str| event[field].as_str().unwrap_or_default();
            let word = match text("name") {
                "client_event" => text("data").to_owned(),
                name => format!("{name} {}", text("user_id")),
            };
            if ids.insert(id) {
                told.push(word);
            }
        }
    }
    told
}

/// Who comes is told before what they say, what they say in the order in which it could be heard, and at last who leaves.
#[track_caller]
fn assert_in_order(told: &[String], said: u64) {
    let numbers: Vec<u64> = told.iter().filter_map(|word| word.parse().ok()).collect();
    let wrong = numbers.windows(2).filter(|pair| pair[0] > pair[1]).count();
    assert!(numbers.iter().copied().eq(0..said), "{wrong} of {} before what they answer", numbers.len());
    let at = |word: &str| told.iter().position(|told| told == word).unwrap();
    assert!(at("channel_occupied ") < at("member_added ben") && at("member_added zoe") < at("0"));
    assert!(at("member_added ben") < at("1"));
    assert!(at(END) < at("member_removed zoe") && at(&(said - 1).to_string()) < at("member_removed ben"));
    assert_eq!(told.len() as u64, said + 7);
}

#[test]
fn on_one_node_what_was_heard_is_told_before_its_answer() {
    let receiver = Receiver::start(|_| status(200));
    let node = TestServer::start_with(vec![talkative(&receiver)], |settings| {
        settings.server.workers = 4.try_into().unwrap();
    });
    let said = talk(&node, &node, |said| said < 2 * rounds());
    assert_in_order(&told(&receiver), said);
}

#[test]
fn over_two_nodes_what_was_heard_is_told_before_its_answer() {
    let (store, receiver) = (Store::start(), Receiver::start(|_| status(200)));
    let node = || node_at(at(&store), &receiver, OnOutage::Refuse);
    let (one, two) = (node(), node());
    let said = talk(&one, &two, |said| said < 2 * rounds());
    assert_in_order(&told(&receiver), said);
}

/// A node that goes on alone while Redis hangs tells in the same order what was said before, meanwhile and after.
#[test]
fn an_outage_changes_nothing_about_the_order() {
    let (store, receiver) = (Store::start(), Receiver::start(|_| status(200)));
    let node = node_at(at(&store), &receiver, OnOutage::Local);
    let (said, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let more = || {
        let before = said.load(Relaxed);
        wait_until("more is said", || said.load(Relaxed) > before + 200);
    };
    let all = thread::scope(|scope| {
        let talk = scope.spawn(|| {
            talk(&node, &node, |number| {
                said.store(number, Relaxed);
                !is_over.load(Relaxed)
            })
        });
        more();
        store.server.pause();
        await_away(&node);
        more();
        store.server.resume();
        await_connected(&node);
        more();
        is_over.store(true, Relaxed);
        talk.join().unwrap()
    });
    assert_in_order(&told(&receiver), all);
}

/// The client events that are told until nothing is left to be told.
fn words(store: &Store, receiver: &Receiver) -> Vec<String> {
    wait_until("all is told", || depth(store, receiver) == 0);
    let requests = std::iter::from_fn(|| receiver.try_next());
    let events = requests.flat_map(|request| request.events());
    let words = events.filter(|event| event["name"] == "client_event");
    words.map(|event| event["data"].as_str().unwrap().to_owned()).collect()
}

/// Two members of the room, of whom the first has heard that the second came.
fn in_the_room(node: &TestServer) -> (Client, Client) {
    let (mut zoe, mut ben) = (node.connect(), node.connect());
    zoe.join(ROOM, &member("zoe"));
    ben.join(ROOM, &member("ben"));
    zoe.event();
    (zoe, ben)
}

#[test]
fn what_nobody_got_is_not_told_and_what_somebody_may_have_got_is_told_if_he_has() {
    let (store, receiver) = (Store::start(), Receiver::start(|_| status(200)));
    let node = node_at(at(&store), &receiver, OnOutage::Refuse);
    let (mut zoe, mut ben) = in_the_room(&node);
    let refused = |client: &mut Client| assert_eq!(client.event()["data"]["code"], 4301);
    store.server.pause();
    say(&mut zoe, "unconfirmed");
    refused(&mut zoe);
    await_away(&node);
    say(&mut zoe, "refused");
    refused(&mut zoe);
    // It does now what it was told before it hung.
    store.server.resume();
    await_connected(&node);
    wait_until("it has", || {
        store.say(&format!("XINFO STREAM {}", key(&receiver, "q"))).contains(&"client_event".to_owned())
    });
    await_heard(&store, ROOM, 1);
    say(&mut zoe, "last");
    while hear(&mut ben) != "last" {}
    assert_eq!(words(&store, &receiver), ["unconfirmed", "last"]);
}

#[test]
fn an_event_is_delivered_though_a_stream_does_not_take_it_and_told_when_it_does() {
    let (store, receiver) = (Store::start(), Receiver::start(|_| status(200)));
    let node = node_at(at(&store), &receiver, OnOutage::Refuse);
    let (mut zoe, mut ben) = in_the_room(&node);
    wait_until("they are told of", || depth(&store, &receiver) == 0);
    let stream = key(&receiver, "q");
    store.say(&format!("DEL {stream}"));
    store.say(&format!("SET {stream} spoilt"));
    for word in ["1", "2"] {
        say(&mut zoe, word);
        assert_eq!(hear(&mut ben), word);
    }
    wait_until("it is noted", || node.node().delivery.webhooks.has_noted());
    store.say(&format!("DEL {stream}"));
    wait_until("it is in the stream", || !node.node().delivery.webhooks.has_noted());
    assert_eq!(words(&store, &receiver), ["1", "2"]);
}
