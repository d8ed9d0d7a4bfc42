//! The shares of three nodes and their lives against a model that does everything anew each time: histories with deaths,
//! messages of different lives in any order, twice, and not at all.

use std::{env, sync::Arc};

use super::*;
use crate::{app::Limits, presence::Member, socket_id::SocketId};

/// Without `SHARES_HISTORIES`. Each takes some 0.1 ms in a debug build.
const HISTORIES: u64 = 100_000;

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end.max(1)
    }
}

fn members() -> Vec<Arc<Member>> {
    let member = |user: usize| format!(r#"{{"user_id":"u{}","user_info":{}}}"#, user / 2, user % 2);
    let parse = |data: String| Arc::new(Member::parse(&data, &Limits::default()).unwrap());
    (0..8).map(member).map(parse).collect()
}

/// One life: all it ever says, and the state of its share after each.
struct Owner {
    life: NodeId,
    said: Vec<(u64, u64, Change)>,
    states: Vec<Vec<Entry>>,
}

impl Owner {
    fn new(life: u64) -> Self {
        Self { life: NodeId(life), said: Vec::new(), states: vec![Vec::new()] }
    }

    fn state(&self) -> &[Entry] {
        self.states.last().unwrap()
    }

    fn say(&mut self, random: &mut Random, members: &[Arc<Member>], sequence: &mut u64) {
        let mut state = self.state().to_vec();
        let at = random.below(state.len());
        let change = match (state.get(at).cloned(), random.below(10)) {
            (Some(entry), 0..=4) => {
                state.remove(at);
                Change::Leave { socket_id: entry.socket_id, user_id: entry.member.user_id.clone() }
            }
            (Some(entry), 5) => {
                let user_id = &entry.member.user_id;
                let same = members.iter().filter(|member| member.user_id == *user_id).nth(random.below(2));
                let entry = Entry { member: same.unwrap().clone(), ..entry };
                state[at] = entry.clone();
                Change::Describe(entry)
            }
            _ => {
                let socket_id = SocketId { left: *sequence, right: self.life.0 };
                let member = members[random.below(members.len())].clone();
                let entry = Entry { socket_id, joined_at: random.below(50) as u64, member };
                state.push(entry.clone());
                Change::Join(entry)
            }
        };
        // Numbers are the life's, not the channel's; an owner may have forgotten its empty share.
        *sequence += 1 + random.below(3) as u64;
        let last = self.said.last().map_or(0, |(sequence, ..)| *sequence);
        let follows = if self.state().is_empty() && random.below(2) == 0 { 0 } else { last };
        self.said.push((*sequence, follows, change));
        self.states.push(state);
    }

    fn share(&self, upto: usize) -> Share {
        let entries = self.states[upto].clone();
        let sequence = upto.checked_sub(1).map_or(0, |last| self.said[last].0);
        let count = entries.len() as u32;
        Share { life: self.life, sequence, entries, count, may_live: true }
    }
}

/// Of each of the four users what is said, by number, if the user is there.
type Users = [Option<u8>; 4];

fn number(text: &str) -> usize {
    usize::from(text.as_bytes().last().unwrap() - b'0')
}

fn user(user_id: &UserId) -> usize {
    number(user_id.as_str())
}

fn said_of(member: &Member) -> u8 {
    number(member.user_info.as_deref().unwrap()) as u8
}

/// The users of these shares, each as the earliest connection says.
fn union<'a>(shares: impl Iterator<Item = &'a [Entry]>) -> Users {
    let mut earliest: [Option<&Entry>; 4] = [None; 4];
    for entry in shares.flatten() {
        let slot = &mut earliest[user(&entry.member.user_id)];
        let order = |entry: &Entry| (entry.joined_at, entry.socket_id);
        if slot.is_none_or(|before| order(entry) < order(before)) {
            *slot = Some(entry);
        }
    }
    earliest.map(|entry| entry.map(|entry| said_of(&entry.member)))
}

fn shown(shares: &Shares) -> Users {
    let mut users = [None; 4];
    for member in shares.roster().members() {
        users[user(&member.user_id)] = Some(said_of(member));
    }
    users
}

/// One node's view, and how far in the words of each life it is.
struct Listener {
    shares: Shares,
    /// Who is there by what was told.
    view: [bool; 4],
    reached: Vec<usize>,
    ended: Vec<bool>,
}

impl Listener {
    fn told(&mut self, transitions: impl IntoIterator<Item = Transition>) {
        for transition in transitions {
            let is_added = matches!(transition, Transition::Added(_));
            let is_there = &mut self.view[user(transition.user_id())];
            assert_ne!(*is_there, is_added, "told twice");
            *is_there = is_added;
        }
    }

    /// Compares with shares put together anew.
    fn check(&self, owners: &[Owner]) {
        let alive = owners.iter().zip(&self.reached).zip(&self.ended).filter(|(_, ended)| !**ended);
        let states = alive.map(|((owner, reached), _)| &owner.states[*reached][..]);
        let expected = union(states.clone());
        assert_eq!(shown(&self.shares), expected);
        assert_eq!(self.view, expected.map(|said| said.is_some()), "what was told");
        assert_eq!(self.shares.count() as usize, states.map(<[Entry]>::len).sum::<usize>());
    }

    fn hear(&mut self, owners: &[Owner], at: usize, index: usize) {
        let owner = &owners[at];
        let (sequence, follows, change) = &owner.said[index];
        let before = self.reached[at];
        match self.shares.hear(owner.life, *sequence, *follows, change) {
            Heard::Applied(transition) => {
                // Either the next one, or one that begins an empty share anew.
                assert!(
                    index == before
                        || (index > before
                            && owner.states[index].is_empty()
                            && owner.states[before].is_empty())
                );
                self.reached[at] = index + 1;
                self.told(transition);
            }
            Heard::Ignored => assert!(self.ended[at] || index < before, "ignored news"),
            Heard::Gap => {
                assert!(!self.ended[at] && index > before, "no gap");
                self.read(owners, index + 1);
            }
        }
    }

    /// All shares, at least as new as what was heard.
    fn read(&mut self, owners: &[Owner], least: usize) {
        let mut shares = Vec::new();
        for (at, owner) in owners.iter().enumerate() {
            let upto = owner.said.len().min(least.max(self.reached[at]) + 1);
            shares.push(owner.share(upto));
            self.reached[at] = upto;
        }
        let transitions = self.shares.install(NodeId(u64::MAX), shares, true);
        self.told(transitions);
    }
}

fn history(seed: u64, members: &[Arc<Member>]) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut owners: Vec<Owner> = (1..4).map(Owner::new).collect();
    let mut sequences = [0_u64; 4];
    let mut listener =
        Listener { shares: Shares::default(), view: [false; 4], reached: vec![0; 3], ended: vec![false; 3] };
    for _ in 0..random.below(40) + 5 {
        let at = random.below(owners.len());
        match random.below(20) {
            0..=6 => owners[at].say(&mut random, members, &mut sequences[at % 4]),
            // In the order of its life, whatever the others say.
            7..=13 if listener.reached[at] < owners[at].said.len() => {
                listener.hear(&owners, at, listener.reached[at]);
            }
            // Twice, or with something missing before it.
            14 | 15 if !owners[at].said.is_empty() => {
                let index = random.below(owners[at].said.len());
                listener.hear(&owners, at, index);
            }
            16 if random.below(3) == 0 => {
                listener.ended[at] = true;
                let transitions = listener.shares.end(owners[at].life);
                listener.told(transitions);
            }
            17 if owners.len() < 4 && random.below(3) == 0 => {
                // The node comes back with another life, which takes over what the last one held.
                let mut next = Owner::new(10);
                let entries = owners[0].state().to_vec();
                sequences[3] = 5;
                let replaced =
                    listener.shares.replace(next.life, 5, &[owners[0].life], entries.len() as u32, &entries);
                next.said.push((5, 0, Change::Count(0)));
                next.states.push(entries);
                listener.ended[0] = true;
                listener.reached.push(1);
                listener.ended.push(false);
                owners.push(next);
                listener.told(replaced.into_iter().flatten());
            }
            18 => listener.read(&owners, 0),
            _ => {}
        }
        listener.check(&owners);
    }
    // Everything is heard in the end, and everybody agrees.
    for at in 0..owners.len() {
        while listener.reached[at] < owners[at].said.len() && !listener.ended[at] {
            listener.hear(&owners, at, listener.reached[at]);
        }
    }
    let alive = owners.iter().zip(&listener.ended).filter(|(_, ended)| !**ended);
    assert_eq!(shown(&listener.shares), union(alive.map(|(owner, _)| owner.state())));
}

/// `SHARES_SEED=7` runs one history, `SHARES_HISTORIES=100000` so many.
#[test]
fn shares_are_what_a_naive_model_makes_of_them() {
    let variable = |name| env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    let members = members();
    if let Some(seed) = variable("SHARES_SEED") {
        return history(seed, &members);
    }
    for seed in 0..variable("SHARES_HISTORIES").unwrap_or(HISTORIES) {
        let result = std::panic::catch_unwind(|| history(seed, &members));
        assert!(result.is_ok(), "history {seed}: see SHARES_SEED={seed}");
    }
}
