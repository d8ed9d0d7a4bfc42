//! Histories of three nodes: whatever happens, each watcher is told of each change once, and ends with the truth. Each is
//! its seed: `USERS_SEED=n cargo test -p soundpost-server every_watcher` runs one, `USERS_SEEDS=n` so many.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{World, user};

const USERS: [&str; 3] = ["bob", "cy", "dan"];
const NODES: usize = 3;
const SEEDS: u64 = 60;

/// The same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// What each client believes; nothing before its first frame.
type Views = BTreeMap<u32, BTreeSet<String>>;

struct History {
    world: World,
    dice: Dice,
    views: Views,
    /// Whether the first frame since the last sign-in is still to come.
    overdue: BTreeMap<u32, bool>,
    clients: u32,
    seed: u64,
    disconnected: BTreeSet<usize>,
}

impl History {
    fn new(seed: u64) -> Self {
        let (views, overdue, disconnected) = <_>::default();
        let dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1);
        Self { world: World::new(NODES as u64), dice, views, overdue, clients: 0, seed, disconnected }
    }

    fn listen(&mut self) {
        for node in 0..NODES {
            for line in self.world.told(node) {
                self.hear(node, &line);
            }
        }
    }

    fn hear(&mut self, node: usize, line: &str) {
        let seed = self.seed;
        let mut words = line.split(' ');
        let client: u32 = words.next().unwrap().parse().unwrap();
        // What is on its way to a client that has gone reaches nobody.
        let Some(user) = self.world.nodes[node].clients.get(&client) else { return };
        if self.overdue.get(&client) == Some(&true) {
            self.overdue.insert(client, false);
            let mut named: Vec<&str> = words.clone().map(|word| &word[1..]).collect();
            named.sort_unstable();
            let mut watched: Vec<&str> = user.watchlist.iter().map(|id| id.as_str()).collect();
            watched.sort_unstable();
            assert_eq!(named, watched, "seed {seed}: the first frame names all: {line}");
            let online = words.filter_map(|word| word.strip_prefix('+')).map(str::to_owned).collect();
            self.views.insert(client, online);
            return;
        }
        let view = self.views.get_mut(&client).unwrap();
        for word in words {
            let (sign, name) = word.split_at(1);
            let is_news = if sign == "+" { view.insert(name.to_owned()) } else { view.remove(name) };
            assert!(is_news, "seed {seed}: {client} hears again: {line}");
        }
    }

    fn sign_in(&mut self, node: usize) {
        let is_again = self.dice.below(4) == 0;
        let known: Vec<u32> = self.world.nodes[node].clients.keys().copied().collect();
        let client = match known.as_slice() {
            known @ [_, ..] if is_again => known[self.dice.below(known.len())],
            _ => {
                self.clients += 1;
                self.clients
            }
        };
        let before = self.world.nodes[node].clients.get(&client).map(|user| user.id.as_str().to_owned());
        let id = before.unwrap_or_else(|| {
            let names = ["bob", "cy", "dan", "eve"];
            names[self.dice.below(names.len())].to_owned()
        });
        let mask = self.dice.below(8);
        let watches = |(at, name): (usize, &&str)| mask >> at & 1 == 1 && **name != id;
        let watchlist: Vec<&str> =
            USERS.iter().enumerate().filter(|each| watches(*each)).map(|(_, n)| *n).collect();
        // What was told before is heard before.
        self.listen();
        self.views.remove(&client);
        self.overdue.insert(client, !watchlist.is_empty());
        self.world.sign_in(node, client, &user(&id, &watchlist));
    }

    fn sign_out(&mut self, node: usize) {
        let known: Vec<u32> = self.world.nodes[node].clients.keys().copied().collect();
        if !known.is_empty() {
            let client = known[self.dice.below(known.len())];
            self.world.sign_out(node, client);
        }
    }

    fn happen(&mut self) {
        let node = self.dice.below(NODES);
        if !self.world.nodes[node].is_alive {
            return;
        }
        match self.dice.below(100) {
            0..20 => self.sign_in(node),
            20..35 => self.sign_out(node),
            35..80 => {
                let way = self.dice.below(3);
                self.world.step_on(node, way);
            }
            80..90 => self.world.pass([250, 1000, 3000][self.dice.below(3)]),
            90..92 => {
                let name = USERS[self.dice.below(3)].to_owned();
                if !self.world.withheld.remove(&name) {
                    self.world.withheld.insert(name);
                }
            }
            92..94 => {
                self.world.disconnect(node);
                self.disconnected.insert(node);
            }
            94..97 => {
                if self.disconnected.remove(&node) {
                    self.world.connect(node);
                }
            }
            97 => {
                let life = self.world.nodes[node].cluster.life();
                let by = self.world.nodes[(node + 1) % NODES].cluster.life();
                self.world.reap(life, by);
            }
            98 if node == NODES - 1 && self.dice.below(5) == 0 => self.world.kill(node),
            _ => self.world.run(),
        }
        self.listen();
    }

    /// Everything is connected, and enough time passes.
    fn settle(&mut self) {
        self.world.withheld.clear();
        for node in std::mem::take(&mut self.disconnected) {
            if self.world.nodes[node].is_alive {
                self.world.connect(node);
            }
        }
        for _ in 0..60 {
            self.world.run();
            self.world.pass(250);
            self.listen();
        }
    }

    fn check(&self) {
        let seed = self.seed;
        let nodes = || self.world.nodes.iter().filter(|node| node.is_alive);
        let everybody: BTreeSet<&str> =
            nodes().flat_map(|node| node.clients.values()).map(|user| user.id.as_str()).collect();
        for (client, user) in nodes().flat_map(|node| &node.clients) {
            let watched = user.watchlist.iter().map(|id| id.as_str());
            let truth: BTreeSet<String> =
                watched.filter(|id| everybody.contains(id)).map(str::to_owned).collect();
            let view = self.views.get(client).cloned().unwrap_or_default();
            assert_eq!(view, truth, "seed {seed}: client {client}, {user:?}");
            assert!(self.overdue.get(client) != Some(&true), "seed {seed}: {client} was told nothing");
        }
    }
}

#[test]
fn every_watcher_hears_each_change_once_and_ends_with_the_truth() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let all = 0..number("USERS_SEEDS").unwrap_or(SEEDS);
    for seed in number("USERS_SEED").map_or(all, |seed| seed..seed + 1) {
        let mut history = History::new(seed);
        for _ in 0..4 {
            for _ in 0..60 {
                history.happen();
            }
            history.settle();
            history.check();
        }
    }
}
