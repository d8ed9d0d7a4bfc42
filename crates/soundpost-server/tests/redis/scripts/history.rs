//! Random histories of nodes and their lives, each step compared with a naive model.

use std::collections::{BTreeMap, BTreeSet};

use super::bench::{Bench, HOOKS, LONG, life};

/// Without `TOLD_STEPS`.
const STEPS: u64 = 6000;
const USERS: [&str; 5] = ["zoe", "ben", "c\"\\/é", "4", ""];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What the store should hold, and what should be told.
#[derive(Default)]
struct Model {
    shares: BTreeMap<u64, BTreeMap<u64, String>>,
    tombstones: BTreeSet<u64>,
    /// Whether each is due.
    held: BTreeMap<String, bool>,
    told: Vec<String>,
    /// What was told in no particular order.
    finished: Vec<String>,
}

fn event(name: &str, user: Option<&str>) -> String {
    let user = user.map(|user| format!(r#","user_id":{}"#, serde_json::to_string(user).unwrap()));
    format!(r#"{{"name":"{name}","channel":"presence-room"{}}}"#, user.unwrap_or_default())
}

impl Model {
    fn users(&self) -> BTreeSet<String> {
        self.shares.values().flat_map(BTreeMap::values).cloned().collect()
    }

    fn is_occupied(&self) -> bool {
        self.shares.values().any(|share| !share.is_empty())
    }

    /// Changes the shares and says what follows. `quiet`: who is no news, and whether the channel is.
    fn change(
        &mut self,
        wants: bool,
        is_due: bool,
        quiet: (&BTreeSet<String>, bool),
        change: impl FnOnce(&mut Self),
    ) {
        let (users, was_occupied) = (self.users(), self.is_occupied());
        change(self);
        if !wants {
            return;
        }
        let (after, is_occupied) = (self.users(), self.is_occupied());
        if is_occupied && !was_occupied && self.held.remove("c").is_none() && !quiet.1 {
            self.told.push(event("channel_occupied", None));
        }
        for user in users.difference(&after) {
            self.held.entry(format!("m{user}")).or_insert(is_due);
        }
        for user in after.difference(&users) {
            if self.held.remove(&format!("m{user}")).is_none() && !quiet.0.contains(user) {
                self.told.push(event("member_added", Some(user)));
            }
        }
        if was_occupied && !is_occupied {
            self.held.entry("c".into()).or_insert(is_due);
        }
    }

    /// These were there before the store forgot them, and so was somebody if `was_occupied`.
    fn miss(&mut self, gone: &BTreeSet<String>, was_occupied: bool, is_due: bool) {
        for user in gone.difference(&self.users()) {
            self.held.entry(format!("m{user}")).or_insert(is_due);
        }
        if was_occupied && !self.is_occupied() {
            self.held.entry("c".into()).or_insert(is_due);
        }
    }

    fn finish(&mut self, wants: bool) {
        if !wants {
            return self.held.clear();
        }
        let due: Vec<_> = self.held.iter().filter(|(_, due)| **due).map(|(what, _)| what.clone()).collect();
        let users = self.users();
        for what in due {
            self.held.remove(&what);
            match what.strip_prefix('m') {
                Some(user) if !users.contains(user) => {
                    self.finished.push(event("member_removed", Some(user)));
                }
                None if !self.is_occupied() => self.finished.push(event("channel_vacated", None)),
                Some(_) | None => {}
            }
        }
    }
}

/// What a node knows.
#[derive(Clone, Debug)]
struct Node {
    life: u64,
    last: u64,
    sockets: BTreeMap<u64, String>,
}

struct World {
    bench: Bench,
    random: Random,
    model: Model,
    nodes: [Node; 3],
    next: u64,
    /// Whoever listens believes this.
    believed: BTreeSet<String>,
    /// Events without which the listener cannot know: the app had no webhooks for a while.
    is_blurred: bool,
}

impl World {
    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn step(&mut self) {
        let is_due = self.random.chance(50);
        self.bench.hold = if is_due { 0 } else { LONG };
        let node = self.random.below(3) as usize;
        match self.random.below(100) {
            0..35 => self.join(node, is_due),
            35..65 => self.leave(node, is_due),
            65..70 => self.describe(node),
            70..78 => self.replace(node, is_due),
            78..82 => self.reap(node, is_due),
            82..84 => self.kill(node, is_due),
            84..85 => self.forget(is_due),
            85..86 => self.lose_users(),
            86..87 => self.switch(),
            87..89 => self.late(node),
            _ => {
                self.bench.finish();
                self.model.finish(self.bench.wants);
            }
        }
    }

    fn join(&mut self, node: usize, is_due: bool) {
        let (socket, sequence) = (self.next(), self.next());
        let user = USERS[self.random.below(5) as usize].to_owned();
        let Node { life: number, last, .. } = self.nodes[node];
        let said = self.bench.join(&life(number), [sequence, last], socket, &user);
        if self.model.tombstones.contains(&number) {
            assert_eq!(said.word, "over");
            return self.renew(node, is_due);
        }
        assert_eq!(said.word, "done");
        self.nodes[node].last = sequence;
        self.nodes[node].sockets.insert(socket, user.clone());
        self.model.change(self.bench.wants, is_due, (&BTreeSet::new(), false), |model| {
            model.shares.entry(number).or_default().insert(socket, user);
        });
    }

    fn leave(&mut self, node: usize, is_due: bool) {
        let sockets: Vec<_> = self.nodes[node].sockets.keys().copied().collect();
        if sockets.is_empty() {
            return;
        }
        let socket = sockets[self.random.below(sockets.len() as u64) as usize];
        let sequence = self.next();
        let Node { life: number, last, .. } = self.nodes[node];
        let said = self.bench.leave(&life(number), [sequence, last], socket);
        if self.model.tombstones.contains(&number) {
            assert_eq!(said.word, "over");
            return self.renew(node, is_due);
        }
        assert_eq!(said.word, "done");
        self.nodes[node].last = sequence;
        self.nodes[node].sockets.remove(&socket);
        self.model.change(self.bench.wants, is_due, (&BTreeSet::new(), false), |model| {
            model.shares.entry(number).or_default().remove(&socket);
        });
    }

    fn describe(&mut self, node: usize) {
        let Node { life: number, last, sockets } = self.nodes[node].clone();
        let Some((socket, user)) = sockets.first_key_value() else { return };
        if self.model.tombstones.contains(&number) {
            return;
        }
        let sequence = self.next();
        assert_eq!(self.bench.join(&life(number), [sequence, last], *socket, user).word, "done");
        self.nodes[node].last = sequence;
    }

    /// What was sent before is executed late: it is refused.
    fn late(&mut self, node: usize) {
        let Node { life: number, last, .. } = self.nodes[node];
        if last > 1 && !self.model.tombstones.contains(&number) {
            let said = self.bench.join(&life(number), [last, 0], 1, "late");
            assert_eq!(said.word, "stale");
        }
    }

    /// The node brings what it holds, with some who have come and gone meanwhile.
    fn replace(&mut self, node: usize, is_due: bool) {
        if self.model.tombstones.contains(&self.nodes[node].life) || self.random.chance(30) {
            return self.renew(node, is_due);
        }
        self.bring(node, None, false, is_due);
    }

    /// Another life.
    fn renew(&mut self, node: usize, is_due: bool) {
        let before = self.nodes[node].life;
        self.nodes[node].life = self.next();
        self.bring(node, Some(before), false, is_due);
    }

    /// `has_lost`: Redis has come back empty. Then nobody comes meanwhile: who moves to another node is told as new.
    fn bring(&mut self, node: usize, predecessor: Option<u64>, has_lost: bool, is_due: bool) {
        let known = self.nodes[node].sockets.clone();
        let is_return = has_lost || self.random.chance(80);
        for _ in 0..self.random.below(3) {
            if has_lost || self.random.chance(50) {
                self.nodes[node].sockets.pop_first();
            } else {
                let (socket, user) = (self.next(), USERS[self.random.below(5) as usize].to_owned());
                self.nodes[node].sockets.insert(socket, user);
            }
        }
        let sequence = self.next();
        self.nodes[node].last = sequence;
        let Node { life: number, sockets, .. } = self.nodes[node].clone();
        // It says what it knows whatever became of it: what it held may have been taken away.
        let is_here = |user: &String| known.values().any(|known| known == user);
        let (mut confirmed, mut quiet) = (String::new(), BTreeSet::new());
        let was_reaped = predecessor.is_some_and(|life| self.model.tombstones.contains(&life));
        if is_return {
            confirmed.push(if known.is_empty() { '0' } else { '1' });
            confirmed.extend(sockets.values().map(|user| if is_here(user) { '2' } else { '0' }));
            quiet.extend(sockets.values().filter(|user| is_here(user) && !was_reaped).cloned());
        }
        let entries: Vec<_> = sockets.iter().map(|(socket, user)| (*socket, user.clone())).collect();
        let predecessors: Vec<_> = predecessor.into_iter().map(life).collect();
        let is_held = |user: &String| sockets.values().any(|held| held == user);
        let gone: BTreeSet<_> = known.values().filter(|user| is_return && !is_held(user)).cloned().collect();
        let names: Vec<_> = gone.iter().map(String::as_str).collect();
        let confirmed = (confirmed.as_str(), 0, &names[..]);
        let said = self.bench.replace(&life(number), sequence, &predecessors, &entries, confirmed, None);
        assert_eq!(said.word, "done");
        let is_quiet = is_return && !known.is_empty() && !was_reaped;
        let has_share = |life: &u64| self.model.shares.contains_key(life);
        let is_forgotten = !predecessor.iter().chain([&number]).any(has_share) && !was_reaped;
        self.model.change(self.bench.wants, is_due, (&quiet, is_quiet), |model| {
            if let Some(before) = predecessor {
                model.shares.remove(&before);
                model.tombstones.insert(before);
            }
            model.shares.insert(number, sockets);
        });
        if is_forgotten && self.bench.wants {
            self.model.miss(&gone, is_quiet, is_due);
        }
    }

    /// Another node takes it for dead, while it only stands still.
    fn reap(&mut self, node: usize, is_due: bool) {
        let number = self.nodes[node].life;
        let has_share = self.model.shares.contains_key(&number);
        let said = self.bench.reap(&life(number));
        assert_eq!(said.word, if has_share { "done" } else { "nothing" });
        self.model.change(self.bench.wants, is_due, (&BTreeSet::new(), false), |model| {
            if model.shares.remove(&number).is_some() {
                model.tombstones.insert(number);
            }
        });
        let is_held = !self.model.held.is_empty() && self.bench.wants;
        assert_eq!(said.wait.is_some_and(|wait| wait >= 0), is_held, "the reaper sees to all that is held");
    }

    /// The node is killed, taken for dead, and another process is started.
    fn kill(&mut self, node: usize, is_due: bool) {
        self.reap(node, is_due);
        let life = self.next();
        self.nodes[node] = Node { life, last: 0, sockets: BTreeMap::new() };
    }

    /// Redis comes back empty, and all bring what they hold.
    fn forget(&mut self, is_due: bool) {
        self.bench.scripts.say::<()>("FLUSHDB");
        // What was held is forgotten with the rest.
        self.is_blurred |= !self.model.held.is_empty();
        let reaped = self.nodes.iter().any(|node| self.model.tombstones.contains(&node.life));
        self.is_blurred |= reaped;
        self.model.shares.clear();
        self.model.tombstones.clear();
        self.model.held.clear();
        for node in 0..3 {
            let before = self.nodes[node].life;
            self.nodes[node].life = self.next();
            self.bring(node, Some(before), true, is_due);
        }
    }

    fn lose_users(&mut self) {
        let users = self.bench.key("u");
        if self.random.chance(50) {
            self.bench.scripts.say::<()>(&format!("DEL {users}"));
        } else if self.bench.scripts.say(&format!("EXISTS {users}")) {
            self.bench.scripts.say::<()>(&format!("HSET {users} t 77"));
        }
    }

    /// The app has webhooks no more, or again.
    fn switch(&mut self) {
        self.bench.wants = !self.bench.wants;
        self.is_blurred = true;
    }

    fn check(&mut self) {
        let [all, members] = self.bench.told();
        let is_member = |json: &&String| json.contains("\"name\":\"member_");
        assert_eq!(all.iter().filter(is_member).collect::<Vec<_>>(), members.iter().collect::<Vec<_>>());
        let mut expected = std::mem::take(&mut self.model.told);
        if !self.model.finished.is_empty() {
            let is_vacated = all.iter().position(|json| json.contains("vacated"));
            assert!(is_vacated.is_none_or(|at| at == all.len() - 1), "{all:?}");
            expected.append(&mut self.model.finished);
        }
        let (mut found, mut expected) = (all.clone(), expected);
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        let before = |first: &str, then: &str| {
            let at = |name: &str| all.iter().position(|json| json.contains(name));
            assert!(at(first).zip(at(then)).is_none_or(|(first, then)| first < then), "{all:?}");
        };
        before("channel_occupied", "member_added");
        for json in all {
            self.believe(&json);
        }
    }

    /// Each arrival is followed by a departure, and the other way round.
    fn believe(&mut self, json: &str) {
        let (kind, what) = json.split_once(",\"channel\"").unwrap();
        let is_arrival = kind.contains("added") || kind.contains("occupied");
        let is_news = match is_arrival {
            true => self.believed.insert(what.to_owned()),
            false => self.believed.remove(what),
        };
        assert!(is_news || self.is_blurred, "told again: {json}");
    }
}

#[test]
fn what_is_told_of_a_random_history_is_what_has_happened() {
    let seed = std::env::var("TOLD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let steps = std::env::var("TOLD_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(STEPS);
    println!("TOLD_SEED={seed}");
    let nodes = [1, 2, 3].map(|life| Node { life, last: 0, sockets: BTreeMap::new() });
    let (bench, random) = (Bench::presence(), Random(seed));
    let (model, believed) = (Model::default(), BTreeSet::new());
    let mut world = World { bench, random, model, nodes, next: 10, believed, is_blurred: false };
    for _ in 0..steps {
        world.step();
        world.check();
    }
    // All holds are over: what is believed is what is true, unless something could not be told.
    world.bench.wants = true;
    world.bench.let_pass();
    world.model.held.values_mut().for_each(|due| *due = true);
    while world.bench.finish().is_some() {}
    world.model.finish(true);
    world.check();
    let held = world.bench.key("h");
    assert_eq!(world.bench.scripts.say::<u64>(&format!("ZCARD {held}")), 0);
    assert_eq!(HOOKS.len(), 2);
}

#[test]
fn without_losses_what_is_believed_is_true_in_the_end() {
    for seed in 0..20 {
        let nodes = [1, 2, 3].map(|life| Node { life, last: 0, sockets: BTreeMap::new() });
        let (bench, random) = (Bench::presence(), Random(seed));
        let (model, believed) = (Model::default(), BTreeSet::new());
        let mut world = World { bench, random, model, nodes, next: 10, believed, is_blurred: false };
        for _ in 0..150 {
            let is_due = world.random.chance(50);
            world.bench.hold = if is_due { 0 } else { LONG };
            let node = world.random.below(3) as usize;
            match world.random.below(100) {
                0..45 => world.join(node, is_due),
                45..80 => world.leave(node, is_due),
                80..85 => world.replace(node, is_due),
                85..90 => world.reap(node, is_due),
                90..92 => world.kill(node, is_due),
                _ => {
                    world.bench.finish();
                    world.model.finish(true);
                }
            }
            world.check();
        }
        world.bench.let_pass();
        world.model.held.values_mut().for_each(|due| *due = true);
        world.bench.finish();
        world.model.finish(true);
        world.check();
        let users = world.model.users();
        let mut truth: BTreeSet<_> = users
            .iter()
            .map(|user| format!(":\"presence-room\",\"user_id\":{}}}", serde_json::to_string(user).unwrap()))
            .collect();
        if world.model.is_occupied() {
            truth.insert(":\"presence-room\"}".to_owned());
        }
        assert_eq!(world.believed, truth, "seed {seed}");
    }
}
