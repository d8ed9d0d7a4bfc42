//! Two nodes over a store that does what Redis' scripts do: what their clients see.

mod holds;
mod random;
mod store;
mod world;

use std::{cell::Cell, num::NonZeroU32};

use self::world::World;
use super::*;
use crate::{
    adapter::{Broadcast, Hearing},
    delivery::tests::hooks::noted,
};

thread_local! {
    /// By how much this test's machines believe that it is later.
    static AHEAD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

pub(super) fn now() -> Instant {
    Instant::now() + AHEAD.get()
}

const ROOM: &str = "presence-r";

#[test]
fn joins_wait_for_the_cluster_and_enter_in_its_order() {
    let mut world = World::new();
    world.join((0, 0), ROOM, Some("ada")).unwrap();
    world.nodes[0].work(0);
    assert!(!world.client((0, 0), ROOM).has_entered(), "not before the others can know");
    assert_eq!(world.nodes[0].delivery.directory.counts(&world.key(ROOM)), None);
    world.settle();
    assert_eq!(world.views(ROOM), [["ada"]]);
    world.join((1, 1), ROOM, Some("bob")).unwrap();
    world.join((0, 3), ROOM, Some("cy")).unwrap();
    world.settle();
    assert_eq!(world.views(ROOM), [["ada", "bob", "cy"]; 3]);
    let mut told = world.heard((0, 0), ROOM);
    told.sort();
    assert_eq!(told, ["added bob", "added cy"], "each once");
    world.join((1, 2), ROOM, Some("ada")).unwrap();
    world.settle();
    world.leave((0, 0), ROOM);
    world.settle();
    assert_eq!(world.heard((0, 3), ROOM), [""; 0], "ada is still there, on the other node");
    world.leave((1, 2), ROOM);
    world.settle();
    assert_eq!(world.heard((0, 3), ROOM), ["removed ada"]);
    assert_eq!(world.heard((1, 1), ROOM).last().unwrap(), "removed ada");
    let key = world.key(ROOM);
    let counts = ChannelCounts { subscriptions: 2, users: Some(2) };
    for node in &world.nodes {
        assert_eq!(node.delivery.directory.cluster_counts(&key), Some(counts));
        assert_eq!(node.delivery.directory.counts(&key).unwrap().subscriptions, 1, "of this node");
    }
    world.assert_empty();
}

#[test]
fn who_has_entered_hears_what_comes_then_and_nothing_older() {
    let mut world = World::new();
    world.join((0, 0), "orders", None).unwrap();
    world.publish("orders", "1", None);
    assert!(world.subscribe(0));
    world.publish("orders", "2", None);
    assert!(world.hear(0), "the topic");
    world.publish("orders", "3", None);
    world.join((0, 1), "orders", None).unwrap();
    world.settle();
    world.join((1, 1), "orders", None).unwrap();
    world.settle();
    world.publish("orders", "4", Some((1, 1)));
    world.settle();
    assert_eq!(world.heard((0, 0), "orders"), ["2", "3", "4"]);
    assert_eq!(world.heard((1, 1), "orders"), [""; 0], "its own");
    world.publish("private-nobody", "5", None);
    world.settle();
    world.assert_empty();
}

#[test]
fn a_count_is_that_of_all_nodes() {
    let mut world = World { tells_count: true, ..World::new() };
    let count = |n: u32| format!(r#"{{"subscription_count":{n}}}"#);
    world.join((0, 0), "orders", None).unwrap();
    world.settle();
    world.join((1, 1), "orders", None).unwrap();
    world.settle();
    world.join((1, 3), "orders", None).unwrap();
    world.settle();
    assert_eq!(world.heard((0, 0), "orders"), [count(1), count(2), count(3)]);
    assert_eq!(world.heard((1, 1), "orders").last().unwrap(), &count(3));
    let counts = ChannelCounts { subscriptions: 3, users: None };
    assert_eq!(world.nodes[0].delivery.directory.cluster_counts(&world.key("orders")), Some(counts));
    world.leave((1, 3), "orders");
    world.settle();
    assert_eq!(world.heard((0, 0), "orders"), [count(2)]);
    world.assert_empty();
}

#[test]
fn nobody_hears_of_counts_that_nobody_wants() {
    let mut world = World::new();
    world.join((0, 0), "orders", None).unwrap();
    world.settle();
    let before = world.store.published;
    world.join((0, 2), "orders", None).unwrap();
    world.settle();
    assert_eq!(world.store.published, before);
    assert_eq!(
        world.store.topic(&world.nodes[0].clients.values().next().unwrap().key().clone()).connections(),
        2
    );
    let known = world.nodes[0].delivery.directory.cluster_counts(&world.key("orders"));
    assert_eq!(known, None, "others may have said nothing");
    world.assert_empty();
}

#[test]
fn a_newcomer_of_a_cache_channel_gets_the_newest_event_once() {
    let mut world = World::new();
    world.publish("cache-price", "1", None);
    world.join((0, 0), "cache-price", None).unwrap();
    while world.subscribe(0) | world.hear(0) {}
    assert!(world.command(0), "the answer brings the first event");
    world.publish("cache-price", "2", None);
    while world.hear(0) {}
    world.settle();
    assert_eq!(world.heard((0, 0), "cache-price"), ["cached 2"], "a live one is newer than the answer");
    world.join((1, 1), "cache-price", None).unwrap();
    world.settle();
    world.publish("cache-price", "3", None);
    world.settle();
    assert_eq!(world.heard((1, 1), "cache-price"), ["cached 2", "3"]);
    assert_eq!(world.heard((0, 0), "cache-price"), ["3"]);
    world.leave((1, 1), "cache-price");
    world.settle();
    world.pass(1);
    world.pass(6);
    let key = world.key("cache-price");
    world.store.topic(&key).kept = None;
    world.join((1, 3), "cache-price", None).unwrap();
    world.settle();
    assert_eq!(world.heard((1, 3), "cache-price"), ["cached {}"], "what this node kept has had its time");
    let [first, second] = [0, 1].map(|node| noted(&world.nodes[node].delivery));
    assert_eq!(first, [""; 0], "who comes and goes is for the store to say");
    assert_eq!(second, ["cache_miss cache-price"], "but not what one has missed");
    world.assert_empty();
}

#[test]
fn what_was_delivered_here_first_is_kept_whatever_an_answer_brings() {
    for is_late in [false, true] {
        let mut world = World::new();
        world.publish("cache-price", "1", None);
        world.join((0, 0), "cache-price", None).unwrap();
        while world.subscribe(0) | world.hear(0) {}
        assert!(world.command(0), "the answer brings the first event");
        world.delivers_first = Some(0);
        world.publish("cache-price", "2", None);
        if is_late {
            while world.reply(0) {}
        }
        while world.hear(0) {}
        world.settle();
        let expected = if is_late { "cached 1" } else { "cached 2" };
        assert_eq!(world.heard((0, 0), "cache-price"), [expected]);
        world.join((0, 1), "cache-price", None).unwrap();
        world.settle();
        assert_eq!(world.heard((0, 1), "cache-price"), ["cached 2"]);
        assert_eq!(world.heard((0, 0), "cache-price"), Vec::<String>::new(), "and not delivered twice");
    }
}

#[test]
fn every_subscribe_has_an_answer() {
    let mut world = World::new();
    for _ in 0..3 {
        world.join((0, 0), ROOM, Some("ada")).unwrap();
        world.join((0, 0), "orders", None).unwrap();
    }
    world.settle();
    assert_eq!(world.client((0, 0), ROOM).successes, 3);
    assert_eq!(world.client((0, 0), "orders").successes, 3);
    world.join((0, 0), ROOM, Some("ada")).unwrap();
    world.join((0, 0), "orders", None).unwrap();
    world.settle();
    assert_eq!(world.client((0, 0), ROOM).successes, 4);
    assert_eq!(world.client((0, 0), "orders").successes, 4);
    world.assert_empty();
}

#[test]
fn who_leaves_while_it_waits_was_never_there() {
    let mut world = World { tells_count: true, ..World::new() };
    world.join((1, 1), ROOM, Some("bob")).unwrap();
    world.join((0, 2), "orders", None).unwrap();
    world.settle();
    for steps in 0..6 {
        world.join((0, 0), ROOM, Some("ada")).unwrap();
        world.join((0, 0), "orders", None).unwrap();
        for _ in 0..steps {
            let _ = world.subscribe(0) | world.command(0) | world.hear(0) | world.reply(0);
        }
        world.leave((0, 0), ROOM);
        world.leave((0, 0), "orders");
        // The same connection comes again while its leave is under way.
        world.join((0, 0), ROOM, Some("ada")).unwrap();
        world.settle();
        assert_eq!(world.views(ROOM), [["ada", "bob"]; 2]);
        world.leave((0, 0), ROOM);
        world.settle();
        assert_eq!(world.views(ROOM), [["bob"]]);
        let orders = world.nodes[0].delivery.directory.counts(&world.key("orders")).unwrap();
        assert_eq!(orders.subscriptions, 1);
    }
    world.assert_empty();
}

#[test]
fn who_waits_for_too_long_is_refused_once_for_each_subscribe() {
    let mut world = World::new();
    for channel in [ROOM, "orders"] {
        world.join((0, 0), channel, (channel == ROOM).then_some("ada")).unwrap();
        world.join((0, 0), channel, (channel == ROOM).then_some("ada")).unwrap();
    }
    world.nodes[0].delivery.tick_channels(Instant::now() + Duration::from_secs(3));
    world.join((0, 0), "orders", None).unwrap();
    world.nodes[0].work(0);
    world.nodes[0].refused.sort_by_key(|refused| refused.1);
    let busy = SubscriptionFailure::Busy;
    assert_eq!(world.nodes[0].refused, [(0, 2, busy.clone()), (0, 3, busy)]);
    world.settle();
    assert!(world.nodes[0].clients.is_empty());
    // Who leaves before it hears that it was refused has left, and may come again.
    world.join((0, 0), "orders", None).unwrap();
    world.nodes[0].delivery.tick_channels(Instant::now() + Duration::from_secs(3));
    world.leave((0, 0), "orders");
    world.join((0, 0), "orders", None).unwrap();
    world.settle();
    assert_eq!(world.nodes[0].refused.len(), 2);
    assert!(world.client((0, 0), "orders").has_entered());
    world.assert_empty();
}

#[test]
fn a_node_that_is_away_goes_on_alone_and_comes_back_unnoticed() {
    let mut world = World::new();
    world.join((0, 0), ROOM, Some("ada")).unwrap();
    world.settle();
    world.join((1, 1), ROOM, Some("bob")).unwrap();
    world.settle();
    world.join((0, 4), "orders", None).unwrap();
    world.lose(0);
    world.nodes[0].work(0);
    assert!(world.client((0, 4), "orders").has_entered(), "who waits is let in");
    world.join((0, 2), ROOM, Some("cy")).unwrap();
    world.join((0, 6), "private-new", None).unwrap();
    world.nodes[0].work(0);
    assert!(world.client((0, 6), "private-new").has_entered(), "at once");
    assert_eq!(world.heard((0, 0), ROOM), ["added bob", "added cy"]);
    assert_eq!(world.nodes[0].delivery.directory.cluster_counts(&world.key(ROOM)), None);
    world.leave((0, 2), ROOM);
    world.nodes[0].work(0);
    assert_eq!(world.heard((0, 0), ROOM), ["removed cy"]);
    world.heard((1, 1), ROOM);
    world.find(0);
    world.settle();
    assert_eq!(world.heard((0, 0), ROOM), [""; 0], "nothing has changed");
    assert_eq!(world.heard((1, 1), ROOM), [""; 0]);
    world.publish("private-new", "1", None);
    world.settle();
    assert_eq!(world.heard((0, 6), "private-new"), ["1"], "its topic is heard now");
    world.assert_empty();
}

#[test]
fn a_new_life_takes_the_place_of_the_last_without_a_word() {
    let mut world = World::new();
    world.join((0, 0), ROOM, Some("ada")).unwrap();
    world.join((1, 1), ROOM, Some("bob")).unwrap();
    world.settle();
    world.heard((0, 0), ROOM);
    world.heard((1, 1), ROOM);
    world.renew(0, 11);
    world.renew(0, 11);
    world.settle();
    world.lose(0);
    world.renew(0, 21);
    world.find(0);
    world.settle();
    assert_eq!([(0, 0), (1, 1)].map(|name| world.heard(name, ROOM).len()), [0, 0]);
    assert_eq!(world.views(ROOM), [["ada", "bob"]; 2]);
    assert_eq!(
        world.store.topic(&world.nodes[0].clients.values().next().unwrap().key().clone()).connections(),
        2
    );
    world.assert_empty();
}

#[test]
fn a_life_that_others_took_for_dead_is_renounced() {
    let mut world = World::new();
    world.join((0, 0), ROOM, Some("ada")).unwrap();
    world.settle();
    let subject = Subject::Channel(Arc::new(world.key(ROOM)));
    let delivery = &world.nodes[0].delivery;
    delivery.refused(&subject, NodeId(77), 1, true);
    assert_eq!(world.nodes[0].cluster.take_renounced(), None, "another life's");
    delivery.refused(&subject, NodeId(1), 1, true);
    assert_eq!(world.nodes[0].cluster.take_renounced(), Some(NodeId(1)));
}

#[test]
fn who_goes_with_its_app_is_gone_on_the_other_nodes_alone() {
    let mut world = World { hold: Duration::from_secs(3), ..World::new() };
    for n in 0..2 {
        for (node, user) in [(0, "ada"), (1, "bob")] {
            world.join((node, n), ROOM, Some(&format!("{user}{n}"))).unwrap();
            world.join((node, n), "orders", None).unwrap();
        }
    }
    world.settle();
    world.heard((0, 1), ROOM);
    world.heard((1, 1), ROOM);
    world.is_quiet = true;
    world.leave((0, 0), ROOM);
    world.leave((0, 0), "orders");
    world.settle();
    assert_eq!(world.heard((0, 1), ROOM), [""; 0], "it goes, too");
    assert_eq!(world.heard((1, 1), ROOM), ["removed ada0"], "and is not held");
    world.assert_empty();
}

#[test]
fn a_full_channel_is_full_on_every_node() {
    let mut world = World { members_max: NonZeroU32::new(2), ..World::new() };
    let full = SubscriptionFailure::MembersMax(2);
    world.join((0, 0), ROOM, Some("ada")).unwrap();
    world.settle();
    world.join((0, 2), ROOM, Some("bob")).unwrap();
    assert_eq!(world.join((0, 4), ROOM, Some("cy")), Err(full.clone()), "bob's place is taken on the way");
    world.join((0, 6), ROOM, Some("bob")).unwrap();
    world.settle();
    world.join((1, 1), ROOM, Some("cy")).unwrap();
    world.join((1, 1), ROOM, Some("cy")).unwrap();
    world.join((1, 3), ROOM, Some("ada")).unwrap();
    world.join((1, 3), ROOM, Some("ada")).unwrap();
    world.join((1, 5), ROOM, Some("dan")).unwrap();
    world.leave((1, 5), ROOM);
    world.settle();
    assert_eq!(world.nodes[1].refused, [(1, 2, full)], "it had to look first");
    assert_eq!(world.client((1, 3), ROOM).successes, 2);
    assert_eq!(world.heard((0, 0), ROOM), ["added bob"], "who is refused was never seen");
    assert_eq!(world.views(ROOM), [["ada", "bob"]; 4]);
    world.lose(1);
    assert!(world.join((1, 7), ROOM, Some("eve")).is_ok(), "away, too, it is told from the inbox");
    world.nodes[1].work(1);
    assert_eq!(world.nodes[1].refused.len(), 2);
    world.find(1);
    world.settle();
    world.assert_empty();
}

#[test]
fn what_did_not_reach_the_cluster_is_told_to_its_sender() {
    let mut world = World::new();
    let sender = World::joiner((0, 1)).socket_id;
    let key = world.key("private-a");
    world.nodes[0].delivery.relay_failed(sender, &key);
    world.nodes[0].work(1);
    assert_eq!(world.nodes[0].failed, ["private-a"]);
}

#[test]
fn an_adapter_reads_on_only_while_there_is_room() {
    let mut world = World::new();
    world.join((0, 0), "orders", None).unwrap();
    world.settle();
    let big = format!("\"{}\"", "x".repeat(1 << 20));
    let delivery = &world.nodes[0].delivery;
    let key = world.key("orders");
    let frame = server_frame::event(&key.name, "e", &big);
    let broadcast = Broadcast { key, frame, exclude: None, keep: None, told: None };
    while delivery.has_room() && delivery.deliver_here(std::slice::from_ref(&broadcast)) {}
    assert!(!delivery.deliver_here(&[broadcast]));
    for _ in 0..3 {
        world.publish("orders", &big, None);
    }
    while world.hear(0) {}
    assert!(!world.nodes[0].delivery.has_room());
    world.nodes[0].work(0);
    assert!(world.nodes[0].delivery.has_room());
    assert!(world.heard((0, 0), "orders").len() >= 18, "what was read is never dropped");
}
