//! From what happens on a node to its receivers: order, retries, and who waits for whom.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use soundpost_protocol::{app::AppSecret, webhook::event::Event, webhook::signature};
use soundpost_server::webhook::metrics::Dropped;

use crate::{
    hook,
    node::{TestNode, app, batches, eventually, of_channels, webhook},
    receiver::{Act, Nobody, OK, Received, Receiver, say, status},
};

#[test]
fn each_webhook_gets_its_own_request_over_its_own_connection() {
    let (all, orders) = (Receiver::start(|_| say(OK)), Receiver::start(|_| say(OK)));
    let node = TestNode::start(vec![app(vec![
        webhook(&all.url("http")),
        of_channels(&orders.url("http"), "orders"),
    ])]);
    node.event("orders", &Event::ChannelOccupied);
    node.event("users", &Event::ChannelOccupied);
    let body = |request: &Received| String::from_utf8(request.body.clone()).unwrap();
    let mut channels: Vec<_> = (0..2)
        .map(|_| all.next())
        .map(|request| {
            let text = body(&request);
            let (time, event) = text.strip_prefix("{\"time_ms\":").unwrap().split_once(',').unwrap();
            assert!(time.parse::<u64>().unwrap() > 1_700_000_000_000);
            let secret = AppSecret::new("secret-one");
            let [_, key, signed] = signature::headers(&hook::app("one").key, &secret, &request.body);
            assert_eq!(request.header(key.0), Some(&*key.1));
            assert_eq!(request.header(signed.0), Some(&*signed.1));
            event.to_owned()
        })
        .collect();
    channels.sort();
    let event = |channel| format!(r#""events":[{{"name":"channel_occupied","channel":"{channel}"}}]}}"#);
    assert_eq!(channels, [event("orders"), event("users")]);
    assert!(body(&orders.next()).ends_with(&event("orders")));
    eventually("all to be counted", || node.metrics().delivered.value() == 3);
    eventually("nothing to be left", || node.metrics().depth.value() == 0);
    assert_eq!((node.metrics().sent.value(), orders.try_next().is_none()), (3, true));
}

/// The counts that came of each channel, in their order, and how many requests it took.
fn counts(receiver: &Receiver, events: usize) -> (BTreeMap<String, Vec<u64>>, usize) {
    let (mut all, mut requests, mut seen) = (BTreeMap::<_, Vec<_>>::new(), 0, 0);
    while seen < events {
        requests += 1;
        for event in receiver.next().events() {
            let channel = event["channel"].as_str().unwrap().to_owned();
            all.entry(channel).or_default().push(event["subscription_count"].as_u64().unwrap());
            seen += 1;
        }
    }
    (all, requests)
}

#[test]
fn the_order_of_a_channel_stands_however_long_answers_take() {
    let receiver = Receiver::start(|request| {
        // Between 0 and 10 ms, by chance of the signature.
        let wait = u64::from(request.header("X-Pusher-Signature").unwrap().as_bytes()[0]) % 10;
        [vec![Act::Wait(Duration::from_millis(wait))], say(OK)].concat()
    });
    let node = TestNode::start(vec![app(vec![webhook(&receiver.url("http"))])]);
    for part in 0..5 {
        for channel in ["a", "b", "c", "d", "e", "f"] {
            node.counts(channel, part * 8..(part + 1) * 8);
        }
    }
    let (counts, requests) = counts(&receiver, 240);
    assert!(counts.values().all(|counts| counts.iter().copied().eq(0..40)), "{counts:?}");
    assert_eq!((counts.len(), requests, receiver.connections()), (6, 240, 4));
}

#[test]
fn batches_keep_the_order_and_save_requests() {
    let receiver = Receiver::start(|_| say(OK));
    let node = TestNode::start(vec![app(vec![batches(&receiver.url("http"), 3000, 100)])]);
    for channel in ["a", "b", "c"] {
        node.counts(channel, 0..200);
    }
    let (counts, requests) = counts(&receiver, 600);
    assert!(counts.values().all(|counts| counts.iter().copied().eq(0..200)), "{counts:?}");
    assert!((6..=12).contains(&requests), "{requests}");
}

#[test]
fn a_failure_is_tried_again_with_the_same_bytes_and_holds_up_its_channel_alone() {
    let (failed, of_b) = (Arc::new(AtomicU32::new(0)), AtomicU32::new(0));
    let failures = Arc::clone(&failed);
    // The first of the one channel fails twice, and for as long as not all of the other has come.
    let receiver = Receiver::start(move |request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        of_b.fetch_add(u32::from(body.contains(r#""channel":"b""#)), Relaxed);
        let is_first = body.contains(r#""channel":"a","subscription_count":0"#);
        if is_first && (failures.load(Relaxed) < 2 || of_b.load(Relaxed) < 3) {
            failures.fetch_add(1, Relaxed);
            return status(503);
        }
        say(OK)
    });
    let node = TestNode::start(vec![app(vec![webhook(&receiver.url("http"))])]);
    node.counts("a", 0..3);
    node.counts("b", 0..3);
    let metrics = node.metrics();
    eventually("all to be counted", || metrics.delivered.value() == 6);
    let failed = u64::from(failed.load(Relaxed));
    let all: Vec<_> = (0..6 + failed).map(|_| receiver.next()).collect();
    let of = |channel: &str| {
        let is_of = |request: &&Received| request.events()[0]["channel"] == channel;
        all.iter().filter(is_of).cloned().collect::<Vec<_>>()
    };
    let (a, b) = (of("a"), of("b"));
    let counts = a
        .iter()
        .map(|request| request.events()[0]["subscription_count"].as_u64().unwrap())
        .collect::<Vec<_>>();
    let failed_at_first = usize::try_from(failed).unwrap();
    assert_eq!(counts, [vec![0; failed_at_first], vec![0, 1, 2]].concat());
    for again in &a[1..=failed_at_first] {
        assert_eq!((&again.head, &again.body), (&a[0].head, &a[0].body));
    }
    let pauses = [a[1].at - a[0].at, a[2].at - a[1].at].map(|pause| pause.as_secs_f64());
    assert!((0.9..30.0).contains(&pauses[0]) && (1.9..30.0).contains(&pauses[1]), "{pauses:?}");
    assert!(b[2].at < a[failed_at_first].at, "the other channel has gone on");
    let counted = [metrics.sent.value(), metrics.failed.value(), metrics.retried.value()];
    assert_eq!(counted, [6 + failed, failed, failed]);
}

#[test]
fn what_is_refused_for_good_is_dropped_at_once() {
    let receiver = Receiver::start(|request| {
        let count = request.events()[0]["subscription_count"].as_u64().unwrap();
        status([404, 301, 410, 200][usize::try_from(count).unwrap()])
    });
    let node = TestNode::start(vec![app(vec![webhook(&receiver.url("http"))])]);
    node.counts("a", 0..4);
    let (metrics, (counts, _)) = (node.metrics(), counts(&receiver, 4));
    assert_eq!(counts["a"], [0, 1, 2, 3]);
    eventually("all to be counted", || metrics.delivered.value() == 1);
    assert_eq!([metrics.dropped(Dropped::Refused).value(), metrics.retried.value()], [3, 0]);
    assert_eq!(receiver.connections(), 1);
}

#[test]
fn a_slow_target_delays_no_other() {
    let slow = Receiver::start(|_| [vec![Act::Wait(Duration::from_secs(60))], say(OK)].concat());
    let absent = Nobody::new();
    let fast = Receiver::start(|_| say(OK));
    let node = TestNode::start(vec![app(vec![
        webhook(&slow.url("http")),
        webhook(&format!("http://{}/", absent.address)),
        webhook(&fast.url("http")),
    ])]);
    let begun = Instant::now();
    for n in 0..500 {
        node.counts(&format!("c{}", n % 50), n..n + 1);
    }
    (0..500).for_each(|_| drop(fast.next()));
    // Behind the slow one each four of them would have waited for ten seconds.
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    eventually("what waits to be counted", || node.metrics().depth.value() == 1000);
    // Four are under way at a time; those that were given up after ten seconds are others' connections.
    let rounds = || 1 + usize::try_from(begun.elapsed().as_secs() / 10).unwrap();
    eventually("all that may be to be under way", || (4..=4 * rounds()).contains(&slow.connections()));
}

#[test]
fn what_is_too_much_for_a_target_pushes_its_oldest_out() {
    let receiver = Receiver::start(|_| vec![Act::Wait(Duration::from_secs(60))]);
    let node = TestNode::start(vec![app(vec![webhook(&receiver.url("http"))])]);
    let metrics = node.metrics();
    for part in 0..11 {
        node.counts("a", part * 1000..(part + 1) * 1000);
        eventually("the engine to have taken them", || {
            metrics.depth.value() + metrics.dropped(Dropped::Overflow).value() == (part + 1) * 1000
        });
    }
    // One is under way, and 10,000 wait.
    assert_eq!(metrics.dropped(Dropped::Overflow).value(), 999);
    assert_eq!(receiver.next().events()[0]["subscription_count"], 0);
}

/// More than the engine takes up at a time, while it does: the last of them must not wait for something else to happen.
#[test]
fn of_many_happenings_none_is_left_lying() {
    let receiver = Receiver::start(|_| say(OK));
    let node = TestNode::start(vec![app(vec![batches(&receiver.url("http"), 10, 200)])]);
    for round in 0..5 {
        for channel in ["a", "b", "c", "d"] {
            node.counts(channel, round * 500..(round + 1) * 500);
        }
    }
    let (all, _) = counts(&receiver, 10_000);
    for (channel, counts) in all {
        assert!(counts.iter().copied().eq(0..2500), "{channel}");
    }
}
