//! Random histories of two nodes. Each is its seed: `DELIVERY_SEED=n cargo test -p soundpost-server random` runs one,
//! `DELIVERY_SEEDS=n` so many.

use std::collections::BTreeMap;

use soundpost_protocol::cluster::message::PREDECESSORS_MAX;

use super::world::{Name, Node, World};
use super::*;

const CHANNELS: [&str; 4] = [ROOM, "orders", "private-cache-price", "presence-cache-r"];
const USERS: [&str; 4] = ["ada", "bob", "cy", "dan"];
const SEEDS: u64 = 100;
const STEPS: u32 = 150;

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::try_from(self.roll(list.len() as u64)).unwrap()]
    }
}

struct History {
    world: World,
    dice: Dice,
    lives: u64,
    /// How often each node has taken another life. Who was let in because of that may hear what led to the kept event
    /// once more.
    renewals: [usize; 2],
    events: u32,
    /// What clients must hear: they had entered when it was published, and their node has not lost the store since.
    owed: BTreeMap<(Name, &'static str), Vec<u32>>,
    heard: BTreeMap<(Name, &'static str), Vec<u32>>,
}

impl History {
    fn step(&mut self) {
        let node = usize::try_from(self.dice.roll(2)).unwrap();
        let channel = self.dice.pick(&CHANNELS);
        let name = (node, u32::try_from(self.dice.roll(5)).unwrap());
        match self.dice.roll(100) {
            0..16 => self.join(name, channel),
            16..26 => self.leave(name, channel),
            26..42 => drop(self.world.command(node)),
            42..50 => drop(self.world.subscribe(node)),
            50..68 => drop(self.world.hear(node)),
            68..82 => drop(self.world.reply(node)),
            82..90 => self.world.nodes[node].work(u8::try_from(self.dice.roll(2)).unwrap()),
            90..96 => self.publish(channel),
            96 => {
                let late = Duration::from_secs(3 * self.dice.roll(2));
                self.world.nodes[node].delivery.tick_channels(Instant::now() + late);
            }
            // Of more lives than a share can name the others find those before dead; here nobody looks for them.
            97 if self.renewals[node] < PREDECESSORS_MAX => {
                self.lives += 10;
                self.renewals[node] += 1;
                self.world.renew(node, self.lives + node as u64);
            }
            98 if self.world.nodes[node].is_connected => self.lose(node),
            _ if !self.world.nodes[node].is_connected => self.world.find(node),
            _ => {}
        }
        self.world.nodes.iter_mut().for_each(Node::collect);
        self.listen();
    }

    fn join(&mut self, name: Name, channel: &str) {
        // A client is the same user whenever it asks.
        let user = USERS[(name.1 as usize + name.0) % USERS.len()];
        let joined = self.world.join(name, channel, channel.starts_with("presence-").then_some(user));
        if let Err(failure) = joined {
            assert!(matches!(failure, SubscriptionFailure::MembersMax(_)), "{failure:?}");
        }
    }

    fn leave(&mut self, name: Name, channel: &'static str) {
        if self.world.nodes[name.0].clients.contains_key(&(name.1, channel.to_owned())) {
            self.world.leave(name, channel);
            self.owed.remove(&(name, channel));
            self.heard.remove(&(name, channel));
        }
    }

    fn publish(&mut self, channel: &'static str) {
        self.events += 1;
        self.world.publish(channel, &self.events.to_string(), None);
        for (node, place) in self.world.nodes.iter().enumerate().filter(|(_, place)| place.is_connected) {
            for ((n, on), client) in &place.clients {
                if on == channel && client.has_entered() && self.world.store.hears(node, client.key()) {
                    self.owed.entry(((node, *n), channel)).or_default().push(self.events);
                }
            }
        }
    }

    /// What was on its way is lost, or reaches the store without an answer.
    fn lose(&mut self, node: usize) {
        for _ in 0..self.dice.roll(3) {
            self.world.command(node);
        }
        self.world.lose(node);
        self.owed.retain(|(name, _), _| name.0 != node);
    }

    fn listen(&mut self) {
        for (node, place) in self.world.nodes.iter_mut().enumerate() {
            for ((n, channel), client) in &mut place.clients {
                let channel = CHANNELS.into_iter().find(|known| known == channel).unwrap();
                let heard = self.heard.entry(((node, *n), channel)).or_default();
                for text in client.heard.drain(..) {
                    let Some(number) = text.rsplit(' ').next().and_then(|text| text.parse().ok()) else {
                        continue;
                    };
                    assert!(heard.last().is_none_or(|last| *last < number), "{heard:?} and then {number}");
                    heard.push(number);
                }
            }
        }
    }

    /// Both nodes have the store, and all that was on its way has come.
    fn end(&mut self) {
        for node in 0..2 {
            if !self.world.nodes[node].is_connected {
                self.world.find(node);
            }
        }
        self.world.settle();
        self.world.pass(6);
        self.listen();
        for ((name, channel), owed) in &self.owed {
            let heard = &self.heard[&(*name, *channel)];
            assert!(
                owed.iter().all(|number| heard.contains(number)),
                "{name:?} {channel}: {owed:?} {heard:?}"
            );
        }
        for channel in CHANNELS {
            self.agree(channel);
        }
        self.world.assert_empty();
    }

    /// Everybody on a channel knows who is there, and how many.
    fn agree(&mut self, channel: &'static str) {
        let key = self.world.key(channel);
        let mut users: Vec<&str> = Vec::new();
        let mut connections = 0;
        for (node, place) in self.world.nodes.iter().enumerate() {
            let here = place.clients.iter().filter(|((_, on), _)| on == channel);
            for ((n, _), client) in here {
                assert!(client.has_entered(), "{n} of {node} waits for {channel} for ever");
                users.push(USERS[(*n as usize + node) % USERS.len()]);
                connections += 1;
            }
        }
        users.sort_unstable();
        users.dedup();
        if channel.starts_with("presence-") {
            let views = self.world.views(channel);
            assert!(views.iter().all(|view| *view == users), "{channel} {users:?}: {views:?}");
        }
        for node in &self.world.nodes {
            if let Some(counts) = node.delivery.directory.cluster_counts(&key) {
                assert_eq!(counts.subscriptions, connections, "{channel}");
            }
        }
        assert_eq!(self.world.store.topic(&key).connections(), connections, "{channel}");
    }
}

#[test]
fn nodes_agree_after_every_random_history() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let all = 0..number("DELIVERY_SEEDS").unwrap_or(SEEDS);
    for seed in number("DELIVERY_SEED").map_or(all, |seed| seed..seed + 1) {
        let mut world = World::new();
        let mut dice = Dice(seed);
        world.tells_count = dice.roll(2) == 0;
        world.members_max = NonZeroU32::new(u32::try_from(dice.roll(2) * 3).unwrap());
        world.hold = Duration::from_secs(dice.roll(2) * 3);
        let (owed, heard) = (BTreeMap::new(), BTreeMap::new());
        let mut history = History { world, dice, lives: 100, renewals: [0; 2], events: 0, owed, heard };
        let run = std::panic::AssertUnwindSafe(|| {
            (0..STEPS).for_each(|_| history.step());
            history.end();
        });
        let ended = std::panic::catch_unwind(run);
        assert!(ended.is_ok(), "DELIVERY_SEED={seed}");
    }
}
