//! More events than may wait: which are dropped, and that they are counted, each once.

use std::collections::BTreeSet;

use super::*;

/// Events that may wait.
const MOST: u64 = 10_000;

/// How many were lost, as the scripts count.
fn lost(store: &Store, receiver: &Receiver) -> u64 {
    let lost = store.say(&format!("HGET {} lost", key(receiver, "m"))).pop();
    lost.and_then(|lost| lost.parse().ok()).unwrap_or(0)
}

fn dropped(node: &TestServer) -> u64 {
    metrics(node).dropped(Dropped::Overflow).value()
}

/// Notes these events on the node, over a few channels, and waits until they are in the stream, or lost there.
fn fill(store: &Store, receiver: &Receiver, node: &TestServer, numbers: std::ops::Range<u64>) {
    for number in numbers.clone() {
        note(node, &format!("private-{}", number % 7), number);
        // No more at once than a node keeps that waits for Redis.
        if number % 1000 == 999 || number + 1 == numbers.end {
            wait_until("it is added", || depth(store, receiver) + lost(store, receiver) == number + 1);
        }
    }
}

/// All events that have come, until nothing is in the stream any more.
fn rest(store: &Store, receiver: &Receiver) -> Vec<u64> {
    let mut left = depth(store, receiver);
    while left > 0 {
        // Each portion in time, however long all of them take.
        wait_until("more is settled", || depth(store, receiver) < left);
        left = depth(store, receiver);
    }
    std::iter::from_fn(|| receiver.try_next()).map(|request| number(&request.events()[0])).collect()
}

#[test]
fn what_is_dropped_is_counted_and_not_delivered_and_what_is_delivered_is_not_counted() {
    let store = Store::start();
    let (receiver, is_open) = gated();
    let one = teller(&receiver, at(&store));
    await_sender(&store, &receiver, &one);
    fill(&store, &receiver, &one, 0..4);
    wait_until("the first are under way", || metrics(&one).sent.value() == 4);
    fill(&store, &receiver, &one, 4..13_000);
    wait_until("the oldest are dropped", || depth(&store, &receiver) == MOST);
    wait_until("they are counted", || dropped(&one) == 3_000);
    wait_until("no more is counted as waiting than waits", || metrics(&one).depth.value() == MOST);
    is_open.store(true, Relaxed);
    let came = rest(&store, &receiver);
    assert_eq!(came.len() as u64, MOST, "each once");
    let expected: BTreeSet<_> = (0..4).chain(3_004..13_000).collect();
    assert_eq!(came.into_iter().collect::<BTreeSet<_>>(), expected, "those under way, and the newest");
    wait_until("nothing is left", || metrics(&one).depth.value() == 0);
    assert_eq!((metrics(&one).delivered.value(), dropped(&one)), (MOST, 3_000));
}

#[test]
fn bytes_push_the_oldest_out_too() {
    let store = Store::start();
    let (receiver, is_open) = gated();
    let one = teller(&receiver, at(&store));
    await_sender(&store, &receiver, &one);
    let large = |number: u64| {
        let json = [
            format!(r#"{{"name":"client_event","channel":"c","data":"{number}","x":""#),
            "x".repeat(1 << 20),
            "\"}".into(),
        ]
        .concat();
        let add = ["k", "client_event", "c", "c", "j", &json];
        let (stream, fill) = (key(&receiver, "q"), key(&receiver, "m"));
        store.ask(&[&[b"XADD", stream.as_bytes(), b"*"], &add.map(str::as_bytes)[..]].concat());
        store.say(&format!("HINCRBY {fill} bytes {}", json.len()));
    };
    large(0);
    wait_until("the first is under way", || metrics(&one).sent.value() == 1);
    (1..20).for_each(large);
    // A mebibyte and a little each.
    wait_until("the oldest are dropped", || depth(&store, &receiver) == 15 && dropped(&one) == 5);
    is_open.store(true, Relaxed);
    assert_eq!(rest(&store, &receiver), [&[0], &(6..20).collect::<Vec<_>>()[..]].concat());
    assert_eq!((metrics(&one).delivered.value(), dropped(&one)), (15, 5));
}

#[test]
fn who_takes_over_a_full_queue_drops_the_oldest_and_each_event_is_delivered_or_counted() {
    let store = Store::start();
    let (receiver, is_open) = gated();
    let relay = Relay::to(store.server.port);
    let one = teller(&receiver, RedisServers::Standalone(local(relay.port)));
    await_sender(&store, &receiver, &one);
    let two = teller(&receiver, at(&store));
    fill(&store, &receiver, &two, 0..10_500);
    wait_until("the oldest are dropped", || depth(&store, &receiver) == MOST && dropped(&one) == 500);
    // Else the next would count them again: who is cut off before it has said that it knows may not have counted them.
    let told = format!("HGET {} told", key(&receiver, "m"));
    wait_until("it has said that it knows", || store.say(&told) == ["500"]);
    relay.cut();
    // Nobody sees to the bound until the lease has run out, and nothing is lost for that.
    fill(&store, &receiver, &two, 10_500..14_000);
    await_sender(&store, &receiver, &two);
    wait_until("the oldest are dropped", || depth(&store, &receiver) == MOST);
    wait_until("they are counted", || dropped(&two) == 3_500);
    assert_eq!((dropped(&one), metrics(&two).depth.value()), (500, MOST));
    // What the first had under way got no answer, and is over with it.
    drop(one);
    is_open.store(true, Relaxed);
    let came: BTreeSet<_> = rest(&store, &receiver).into_iter().collect();
    assert!((4_000..14_000).all(|number| came.contains(&number)));
    assert_eq!((metrics(&two).delivered.value(), dropped(&two)), (MOST, 3_500));
}
