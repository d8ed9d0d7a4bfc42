//! A deterministic simulation of a cluster: three nodes over a store, with everything that may go wrong on the way.
//!
//! A history is its seed. `CLUSTER_SEEDS=10000 cargo test -p soundpost-protocol --release --test cluster` runs so many
//! of them; `CLUSTER_SEED=7` runs one and prints what happened in it.

#![allow(clippy::disallowed_methods, reason = "tests may look at the clock and the environment")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests fail, and print, like tests"
)]

mod mutation;
mod node;
mod random;
mod redis;
mod told;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::Instant,
};

use soundpost_protocol::{app::Limits, presence::Member};

use crate::{
    mutation::{Mutation, break_rule},
    node::Kind,
    world::{Counted, World},
};

/// Without `CLUSTER_SEEDS`.
const SEEDS: u64 = if cfg!(debug_assertions) { 300 } else { 10_000 };
const ACTIVE: u64 = 15_000;
const REVEALED: u64 = 32_000;
const SETTLED: u64 = 40_000;
const VACATED: u64 = 50_000;

fn members() -> Vec<[Arc<Member>; 2]> {
    let member = |user: u64, info: u64| {
        let data = format!(r#"{{"user_id":"u{user}","user_info":{info}}}"#);
        Arc::new(Member::parse(&data, &Limits::default()).unwrap())
    };
    (0..8).map(|user| [member(user, 1), member(user, 2)]).collect()
}

fn history(seed: u64, base: Instant, members: &[[Arc<Member>; 2]], trace: bool) -> Counted {
    let mut world = World::new(seed, base, members.to_vec(), trace);
    world.log(|| format!("seed {seed}: {:?} {:?}", world.faults, world.kind));
    world.run_until(ACTIVE);
    world.heal();
    world.run_until(REVEALED);
    if world.faults.gaps {
        // A notice that was lost shows with the next one; now everybody has something to say.
        for node in 0..3 {
            if world.nodes[node].is_alive {
                let user = if world.kind == Kind::User { 0 } else { 5 + node };
                let member = world.members[user][0].clone();
                world.connect_client(node, &member, false);
            }
        }
    }
    world.run_until(SETTLED);
    check_agreement(&world);
    check_told(&mut world);
    world.leave_all();
    world.run_until(VACATED);
    check_nothing_is_left(&world);
    check_told(&mut world);
    assert!(world.largest_kept < 1000, "{} notices kept", world.largest_kept);
    world.count
}

/// All nodes know who is there, and so do their clients.
fn check_agreement(world: &World) {
    let mut truth = BTreeMap::new();
    let mut total = 0;
    for node in world.nodes.iter().filter(|node| node.is_alive) {
        for (socket_id, client) in node.clients.iter().filter(|(_, client)| !client.is_observer) {
            assert!(client.view.is_some(), "{socket_id} still waits");
            truth
                .entry(client.member.user_id.as_str().to_owned())
                .or_insert_with(BTreeSet::new)
                .insert(*socket_id);
            total += 1;
        }
    }
    let users: BTreeSet<String> = truth.keys().cloned().collect();
    for (index, node) in world.nodes.iter().enumerate().filter(|(_, node)| node.is_alive) {
        let Some(channel) = &node.channel else {
            assert!(node.clients.is_empty(), "node {index} has clients, but no channel");
            continue;
        };
        assert_eq!(channel.count(), total, "the count of node {index}");
        if world.kind == Kind::Plain {
            assert_eq!(node.count, total, "the count told by node {index}");
            continue;
        }
        let mut known: Vec<String> =
            channel.roster().members().map(|member| member.user_id.as_str().to_owned()).collect();
        known.sort();
        assert_eq!(known, users.iter().cloned().collect::<Vec<_>>(), "the roster of node {index}");
        for (socket_id, client) in &node.clients {
            assert_eq!(client.view.as_ref(), Some(&users), "what {socket_id} of node {index} has seen");
        }
    }
    for life in world.redis.data.shares.iter().filter(|(_, share)| share.count > 0).map(|(life, _)| *life) {
        assert!(
            world.nodes.iter().any(|node| node.is_alive && node.life == life),
            "a share of {life:?} is left"
        );
    }
}

/// Whoever is on the channel is known to the app's webhooks, and nobody else. Unless data were lost, nothing is told twice.
fn check_told(world: &mut World) {
    let now = world.now;
    world.redis.finish(now);
    let told = &world.redis.told;
    if world.kind == Kind::Plain {
        return assert_eq!(told.count, 0);
    }
    // What the store has forgotten of a node that is gone, nobody brings.
    if world.is_forgotten {
        return;
    }
    let there = world.nodes.iter().filter(|node| node.is_alive).flat_map(|node| node.clients.values());
    let there = there.filter(|client| !client.is_observer);
    let there: BTreeSet<_> = there.map(|client| client.member.user_id.as_str().to_owned()).collect();
    assert_eq!(told.present, there, "who is there, as the app knows");
    assert_eq!(told.repeated, BTreeSet::new(), "told again");
}

/// No topic, no channel, no share but markers that end by themselves.
fn check_nothing_is_left(world: &World) {
    for (index, node) in world.nodes.iter().enumerate().filter(|(_, node)| node.is_alive) {
        assert!(node.channel.is_none(), "node {index} keeps {:?}", node.channel);
        assert!(!world.hears_topic(index), "node {index} still hears the topic");
    }
    for (life, share) in &world.redis.data.shares {
        assert!(share.count == 0 && share.entries.is_empty(), "{life:?} has left a share: {share:?}");
        assert!(share.expires.is_some(), "{life:?} has left a marker for ever");
    }
}

/// Runs seeds from `first` until one fails, and gives it back.
fn first_failure(first: u64, count: u64, total: &mut Counted) -> Option<(u64, String)> {
    let (base, members) = (Instant::now(), members());
    for seed in first..first + count {
        let result = panic::catch_unwind(AssertUnwindSafe(|| history(seed, base, &members, false)));
        match result {
            Ok(counted) => add(total, counted),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                return Some((seed, text.unwrap_or_default()));
            }
        }
    }
    None
}

fn add(total: &mut Counted, one: Counted) {
    total.kills += one.kills;
    total.pauses += one.pauses;
    total.breaks += one.breaks;
    total.stalls += one.stalls;
    total.restarts += one.restarts;
    total.lost += one.lost;
    total.told += one.told;
    total.refused += one.refused;
    total.guarded += one.guarded;
    total.events += one.events;
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

#[test]
fn nodes_agree_after_every_history() {
    if let Some(seed) = number("CLUSTER_SEED") {
        history(seed, Instant::now(), &members(), true);
        return;
    }
    let (first, count) = (number("CLUSTER_FIRST").unwrap_or(0), number("CLUSTER_SEEDS").unwrap_or(SEEDS));
    let mut total = Counted::default();
    let start = Instant::now();
    if let Some((seed, why)) = first_failure(first, count, &mut total) {
        panic!(
            "seed {seed}: {why}\nwhat happened: CLUSTER_SEED={seed} cargo test -p soundpost-protocol --test cluster"
        );
    }
    println!("{count} histories in {:?}: {total:?}", start.elapsed());
    assert!(count < 300 || (total.kills > 0 && total.restarts > 0 && total.guarded > 0 && total.lost > 0));
}

#[test]
fn the_simulation_notices_broken_rules() {
    let found = [
        Mutation::NoTombstones,
        Mutation::HastyDeath,
        Mutation::StubbornLife,
        Mutation::DeafWhileReading,
        Mutation::StormOnReturn,
    ]
    .map(|mutation| {
        break_rule(Some(mutation));
        let found = first_failure(0, 3000, &mut Counted::default());
        break_rule(None);
        (mutation, found)
    });
    for (mutation, found) in found {
        println!("{mutation:?}: {found:?}");
        assert!(found.is_some(), "{mutation:?} goes unnoticed");
    }
}
