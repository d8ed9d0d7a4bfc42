//! Two apps on one node never hear of each other.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::{
    client::{Client, member},
    http::{BLOG, Keys, SHOP},
    random::Random,
    server::{Server, Setup},
};

const CHANNELS: [&str; 4] = ["room", "private-room", "presence-room", "cache-room"];
const SEED: u64 = 20_261_121;

/// A connection and the channels it is on.
struct Seat {
    client: Client,
    user: String,
    on: BTreeSet<&'static str>,
}

/// One app and what must be true of it.
struct Side {
    keys: Keys,
    seats: Vec<Seat>,
}

impl Side {
    fn new(server: &Server, keys: Keys) -> Self {
        let seat = |user: usize| {
            let mut client = Client::connect(server.address, &keys);
            client.texts = Some(Vec::new());
            Seat { client, user: format!("user-{}", user % 2), on: BTreeSet::new() }
        };
        Self { keys, seats: (0..3).map(seat).collect() }
    }

    fn subscribers(&self, channel: &str) -> usize {
        self.seats.iter().filter(|seat| seat.on.contains(channel)).count()
    }

    fn users(&self, channel: &str) -> usize {
        let seats = self.seats.iter().filter(|seat| seat.on.contains(channel));
        seats.map(|seat| &seat.user).collect::<BTreeSet<_>>().len()
    }

    fn toggle(&mut self, seat: usize, channel: &'static str) {
        let keys = self.keys;
        let seat = &mut self.seats[seat];
        if seat.on.remove(channel) {
            seat.client.unsubscribe(channel);
            seat.client.ping();
            return;
        }
        seat.on.insert(channel);
        let data = channel.starts_with("presence-").then(|| member(&seat.user, &format!("of-{}", keys.id)));
        seat.client.subscribe(&keys, channel, data.as_deref());
    }

    fn whisper(&mut self, seat: usize, channel: &str, text: &str) {
        let event = json!({ "event": "client-note", "channel": channel, "data": text });
        self.seats[seat].client.send(&event);
    }

    /// Everything the API tells of the app against what we know.
    fn check_counts(&self, server: &Server) {
        let reply = self.keys.get(server.address, "channels", &[("info", "subscription_count")]);
        let expected: BTreeMap<&str, _> = CHANNELS
            .into_iter()
            .map(|channel| (channel, self.subscribers(channel)))
            .filter(|(_, count)| *count > 0)
            .map(|(channel, count)| (channel, json!({ "subscription_count": count })))
            .collect();
        assert_eq!(reply.json(), json!({ "channels": expected }), "seed {SEED}");
        let users = self.keys.get(server.address, "channels/presence-room/users", &[]).json();
        assert_eq!(users["users"].as_array().unwrap().len(), self.users("presence-room"), "seed {SEED}");
        assert_eq!(server.connections(&self.keys), 3);
    }
}

#[test]
fn apps_with_the_same_channels_share_nothing() {
    println!("seed {SEED}");
    let server = Server::start(&Setup { apps: "client_events_per_second = 0", ..Setup::default() });
    let mut random = Random(SEED);
    let mut sides = [Side::new(&server, SHOP), Side::new(&server, BLOG)];
    let mut done = [0; 4];
    for turn in 0..1000 {
        let side = &mut sides[random.below(2)];
        let (seat, channel) = (random.below(3), CHANNELS[random.below(4)]);
        let kind = random.below(4);
        done[kind] += 1;
        match kind {
            0 => side.toggle(seat, channel),
            1 => {
                let data = format!("of-{} {turn}", side.keys.id);
                assert_eq!(side.keys.trigger(server.address, channel, "note", &data).status, 200);
            }
            2 => side.whisper(seat, CHANNELS[1 + random.below(2)], &format!("of-{} {turn}", side.keys.id)),
            _ => side.check_counts(&server),
        }
    }
    // The last event of each app comes after all others of its channel.
    for side in &mut sides {
        for seat in 0..3 {
            if !side.seats[seat].on.contains("room") {
                side.toggle(seat, "room");
            }
        }
        assert_eq!(side.keys.trigger(server.address, "room", "last", "x").status, 200);
    }
    for (at, other) in [(0, "of-blog"), (1, "of-shop")] {
        let mut heard = [0, 0];
        for seat in &mut sides[at].seats {
            seat.client.event("last");
            for text in seat.client.texts.take().unwrap() {
                heard[0] += usize::from(text.contains("of-"));
                heard[1] += usize::from(text.contains(other));
            }
        }
        println!("{}: {} frames with a mark, {} of the other's", sides[at].keys.id, heard[0], heard[1]);
        assert_eq!(heard[1], 0, "seed {SEED}");
        assert!(heard[0] > 50, "seed {SEED}: too little was heard to tell");
    }
    println!("subscribe or leave, trigger, whisper, query: {done:?}");
}
