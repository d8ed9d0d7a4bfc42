//! Nodes and a Redis that fail.

use std::{
    collections::{BTreeSet, HashMap},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use super::*;
use receiver::{Act, status};

/// Events that a sender delivers one after the other, in 20 ms each, before it must have heard of Redis, or does not send.
const IN_DOUBT_MAX: usize = 50;

#[test]
fn what_a_dead_sender_leaves_is_sent_by_another_and_only_what_was_in_doubt_comes_again() {
    let store = Store::start();
    let requests = AtomicUsize::new(0);
    // The first four get no answer.
    let receiver = Receiver::start(move |_| match requests.fetch_add(1, Relaxed) {
        0..4 => vec![Act::Wait(Duration::from_secs(12)), Act::Close],
        _ => status(200),
    });
    let relay = Relay::to(store.server.port);
    let one = teller(&receiver, RedisServers::Standalone(local(relay.port)));
    await_sender(&store, &receiver, &one);
    let two = teller(&receiver, at(&store));
    (0..40).for_each(|number| note(&one, &format!("private-{}", number % 8), number));
    let doubted: BTreeSet<String> = (0..4).flat_map(|_| event_ids(&receiver.next())).collect();
    wait_until("all is in the stream", || depth(&store, &receiver) == 40);
    relay.cut();
    let cut = Instant::now();
    let rest = gather(&receiver, 40);
    let first = rest[0].at - cut;
    assert!(first > Duration::from_secs(3) && first < LEASE + Duration::from_secs(5), "{first:?}");
    for numbers in numbers(&rest).values() {
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    }
    let ids: Vec<String> = rest.iter().flat_map(event_ids).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 40, "each once");
    assert!(doubted.iter().all(|id| ids.contains(id)), "what comes again has its id again");
    wait_until("all is settled", || depth(&store, &receiver) == 0);
    assert_eq!(metrics(&two).delivered.value(), 40);
    // It comes back to what another has sent.
    relay.mend();
    await_connected(&one);
    expect_no_more(&receiver);
    wait_until("nothing is left there", || metrics(&one).depth.value() == 0);
    note(&one, "private-last", 99);
    assert_eq!(numbers(&gather(&receiver, 1))["private-last"], [99]);
}

#[test]
fn a_sender_that_hears_nothing_of_redis_stops_before_another_begins() {
    let store = Store::start();
    let receiver = Receiver::start(|_| vec![Act::Wait(Duration::from_millis(20)), status(200).remove(0)]);
    let relay = Relay::to(store.server.port);
    let one = teller(&receiver, RedisServers::Standalone(local(relay.port)));
    await_sender(&store, &receiver, &one);
    let two = teller(&receiver, at(&store));
    // More than the first can send in the time.
    (0..300).for_each(|number| note(&one, "private-x", number));
    wait_until("all is in the stream", || depth(&store, &receiver) + metrics(&one).delivered.value() >= 300);
    relay.cut();
    let mut requests = Vec::new();
    let mut at = HashMap::<u64, usize>::new();
    while !requests.iter().any(|request: &Received| number(&request.events()[0]) == 299) {
        let request = receiver.next();
        *at.entry(number(&request.events()[0])).or_default() += 1;
        requests.push(request);
    }
    assert_eq!(at.len(), 300);
    // The first went on for a while, but between its last request and the first of the other nobody sent.
    let again = requests.iter().position(|request| at[&number(&request.events()[0])] > 1);
    let gap = requests.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap();
    assert!(gap > Duration::from_secs(1), "{gap:?}");
    assert!(again.is_some() && metrics(&one).delivered.value() > 20);
    drop(two);
}

#[test]
fn a_sender_that_was_paused_begins_nothing_when_another_sends() {
    const PAUSE: Duration = Duration::from_secs(9);
    let store = Store::start();
    let receiver = Receiver::start(|_| vec![Act::Wait(Duration::from_millis(20)), status(200).remove(0)]);
    let one = teller(&receiver, at(&store));
    await_sender(&store, &receiver, &one);
    let two = teller(&receiver, at(&store));
    (0..200).for_each(|number| note(&one, "private-x", number));
    wait_until("the first are sent", || metrics(&one).delivered.value() > 5);
    let paused = Instant::now();
    one.pause(PAUSE);
    await_sender(&store, &receiver, &two);
    assert!(paused.elapsed() < PAUSE, "{:?}", paused.elapsed());
    let sent = metrics(&one).sent.value();
    wait_until("all is settled", || depth(&store, &receiver) == 0);
    wait_until("it goes on", || metrics(&one).depth.value() == 0);
    assert_eq!(metrics(&one).sent.value(), sent);
    assert_eq!(sender(&store, &receiver), name(&two));
    let mut sent: Vec<u64> = Vec::new();
    while sent.last() != Some(&199) {
        sent.push(number(&receiver.next().events()[0]));
    }
    // What it had delivered and could not take out any more comes again, once: what it sends in the time in which Redis
    // answers, which is less than a second.
    assert!(sent.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{sent:?}");
    assert!(sent.windows(2).filter(|pair| pair[1] <= pair[0]).count() <= 1, "{sent:?}");
    assert!(sent.len() < 200 + IN_DOUBT_MAX, "{sent:?}");
}

#[test]
fn who_has_lost_the_lease_stops_at_once() {
    let (store, receiver) = (
        Store::start(),
        Receiver::start(|_| vec![Act::Wait(Duration::from_millis(20)), status(200).remove(0)]),
    );
    let one = teller(&receiver, at(&store));
    await_sender(&store, &receiver, &one);
    (0..200).for_each(|number| note(&one, "private-x", number));
    wait_until("the first are sent", || metrics(&one).delivered.value() > 5);
    let lease = key(&receiver, "o");
    let before = metrics(&one).sent.value();
    assert_eq!(store.say(&format!("SET {lease} somebody PX 60000")), ["OK"]);
    wait_until("it lets go of all", || metrics(&one).depth.value() == 0);
    let sent = metrics(&one).sent.value();
    // One each 20 ms at most: it has not waited until it had to renew the lease, every two seconds.
    assert!(sent - before < 40, "{} were begun after that", sent - before);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!((metrics(&one).sent.value(), metrics(&one).depth.value()), (sent, 0));
    // Nobody's any more. What is left is sent, and nothing again but what was in doubt.
    assert_eq!(store.say(&format!("DEL {lease}")), ["1"]);
    await_sender(&store, &receiver, &one);
    wait_until("all is settled", || depth(&store, &receiver) == 0);
    let sent = metrics(&one).sent.value();
    assert!((200..200 + IN_DOUBT_MAX as u64).contains(&sent), "{sent}");
}

#[test]
fn a_redis_that_is_back_with_its_data_loses_nothing() {
    let mut store = Store::start();
    let (receiver, is_open) = gated();
    let (one, two) = (teller(&receiver, at(&store)), teller(&receiver, at(&store)));
    wait_until("somebody sends", || !sender(&store, &receiver).is_empty());
    (0..50).for_each(|number| note(&one, &format!("private-{number}"), number));
    wait_until("all is in the stream", || depth(&store, &receiver) == 50);
    store.server.save();
    store.kill();
    await_away(&one);
    await_away(&two);
    // What happens meanwhile waits on its node.
    (0..50).for_each(|number| note(&one, "private-x", number));
    (0..50).for_each(|number| note(&two, "private-y", number));
    store.server.start_again(Data::Saved);
    is_open.store(true, Relaxed);
    await_all(&receiver, 150);
    wait_until("all is settled", || depth(&store, &receiver) == 0);
    assert!(metrics(&one).delivered.value() + metrics(&two).delivered.value() >= 150);
}

#[test]
fn a_redis_that_is_back_empty_hangs_nothing() {
    let mut store = Store::start();
    let (receiver, is_open) = gated();
    let one = teller(&receiver, at(&store));
    await_sender(&store, &receiver, &one);
    let relay = Relay::to(store.server.port);
    let two = teller(&receiver, RedisServers::Standalone(local(relay.port)));
    (0..50).for_each(|number| note(&one, &format!("private-{number}"), number));
    wait_until("all is read", || metrics(&one).depth.value() == 50);
    store.kill();
    await_away(&one);
    await_away(&two);
    (0..50).for_each(|number| note(&one, "private-x", number));
    (0..50).for_each(|number| note(&two, "private-y", number));
    // What the sender had read is still in its memory, and is forgotten only if another is faster to send.
    relay.cut();
    store.run();
    wait_until("it sends again", || !sender(&store, &receiver).is_empty());
    relay.mend();
    is_open.store(true, Relaxed);
    await_all(&receiver, 150);
    wait_until("all is settled", || {
        depth(&store, &receiver) == 0 && metrics(&one).depth.value() + metrics(&two).depth.value() == 0
    });
    assert!(metrics(&one).delivered.value() + metrics(&two).delivered.value() >= 150);
}

/// Waits until every one of so many different events has come, those of one channel in order.
fn await_all(receiver: &Receiver, events: usize) {
    let mut seen = BTreeMap::<String, BTreeSet<u64>>::new();
    while seen.values().map(BTreeSet::len).sum::<usize>() < events {
        for (channel, numbers) in numbers(&[receiver.next()]) {
            let seen = seen.entry(channel).or_default();
            for number in numbers {
                assert!(seen.contains(&number) || seen.last().is_none_or(|last| *last < number));
                seen.insert(number);
            }
        }
    }
}
