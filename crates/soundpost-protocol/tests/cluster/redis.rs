//! A store that does what the adapter's scripts will do, one command after the other.

use std::collections::{BTreeMap, BTreeSet};

use soundpost_protocol::{
    cluster::{
        channel::Confirmed,
        message::Notice,
        share::{Change, Entry},
    },
    presence::{NodeId, UserId},
    socket_id::SocketId,
};

use crate::{
    mutation::{Mutation, is_broken},
    told::{self, Held, Told},
};

/// How long an empty share and a tombstone stay.
pub(crate) const MARKER: u64 = 60_000;
pub(crate) const TOMBSTONE: u64 = 600_000;
const LEASE: u64 = 6_000;
/// More entries than this do not travel with a replacement.
const REPLACE_ENTRIES_MAX: usize = 3;

#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    pub(crate) sequence: u64,
    pub(crate) entries: BTreeMap<SocketId, Entry>,
    pub(crate) count: u32,
    pub(crate) expires: Option<u64>,
}

impl Stored {
    fn is_empty(&self) -> bool {
        self.count == 0 && self.entries.is_empty()
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Command {
    Renew(NodeId),
    CheckLease(NodeId),
    Change {
        life: NodeId,
        sequence: u64,
        follows: u64,
        change: Change,
    },
    Replace {
        life: NodeId,
        sequence: u64,
        predecessors: Vec<NodeId>,
        entries: Vec<Entry>,
        count: u32,
        confirmed: Option<Confirmed>,
        known: Vec<NodeId>,
    },
    Read {
        life: NodeId,
        ticket: u64,
        known: Vec<NodeId>,
    },
    Reap {
        by: NodeId,
        dead: NodeId,
    },
}

/// A share as it was read, and whether its life has a lease.
pub(crate) type ReadShare = (NodeId, u64, Vec<Entry>, u32, bool);

#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Renewed { sent_at: u64, lives: Vec<NodeId> },
    Lease { life: NodeId, is_there: bool },
    Done { sequence: u64 },
    Refused { life: NodeId, sequence: u64, is_over: bool },
    Shares { ticket: u64, shares: Vec<ReadShare>, over: Vec<NodeId> },
    Reaped,
}

/// What comes on the topic, or a heartbeat on the control topic.
#[derive(Clone, Debug)]
pub(crate) enum Published {
    Notice(NodeId, u64, Notice),
    Heartbeat(NodeId),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Data {
    pub(crate) shares: BTreeMap<NodeId, Stored>,
    pub(crate) tombstones: BTreeMap<NodeId, u64>,
    pub(crate) leases: BTreeMap<NodeId, u64>,
    pub(crate) lives: BTreeSet<NodeId>,
    held: Held,
}

#[derive(Debug, Default)]
pub(crate) struct Redis {
    pub(crate) data: Data,
    pub(crate) is_up: bool,
    /// How often it has come back.
    pub(crate) run: u64,
    /// It executes nothing before.
    pub(crate) stalled_until: u64,
    pub(crate) told: Told,
}

impl Redis {
    /// Executes one command; gives back the answer and what is published.
    pub(crate) fn execute(&mut self, now: u64, command: Command) -> (Reply, Vec<Published>) {
        self.data.shares.retain(|_, share| share.expires.is_none_or(|at| at > now));
        self.data.leases.retain(|_, at| *at > now);
        self.data.tombstones.retain(|_, at| *at > now);
        self.told.finish(now, &mut self.data.held);
        let before = self.users();
        let mut quiet = BTreeSet::new();
        let mut published = Vec::new();
        let reply = match command {
            Command::Renew(life) => {
                self.data.leases.insert(life, now + LEASE);
                self.data.lives.insert(life);
                published.push(Published::Heartbeat(life));
                Reply::Renewed { sent_at: now, lives: self.data.lives.iter().copied().collect() }
            }
            Command::CheckLease(life) => {
                Reply::Lease { life, is_there: self.data.leases.contains_key(&life) }
            }
            Command::Change { life, sequence, follows, change } => {
                self.change(now, life, sequence, follows, change, &mut published)
            }
            Command::Replace { life, sequence, predecessors, entries, count, confirmed, known } => {
                let over = self.over(known);
                let users: Vec<_> = entries.iter().map(|entry| entry.member.user_id.clone()).collect();
                let is_forgotten =
                    predecessors.iter().chain([&life]).all(|life| !self.data.shares.contains_key(life));
                let was_reaped = predecessors.iter().any(|life| self.data.tombstones.contains_key(life));
                quiet = told::quiet(confirmed.as_ref(), &users, is_forgotten, was_reaped);
                let replaced = (sequence, count, entries);
                let mut reply = self.replace(now, life, &predecessors, replaced, &mut published);
                if let Reply::Shares { over: found, .. } = &mut reply {
                    *found = over;
                }
                reply
            }
            Command::Read { life, ticket, known } => {
                let (shares, over) = (self.all(life), self.over(known));
                Reply::Shares { ticket, shares, over }
            }
            Command::Reap { by, dead } => self.reap(now, by, dead, &mut published),
        };
        let after = self.users();
        self.told.change(now, &mut self.data.held, [&before, &after], &quiet);
        (reply, published)
    }

    /// The process comes back with other data.
    pub(crate) fn restore(&mut self, data: Data) {
        self.data = data;
    }

    /// What is held is told once it is due.
    pub(crate) fn finish(&mut self, now: u64) {
        self.told.finish(now, &mut self.data.held);
    }

    fn users(&self) -> Vec<UserId> {
        let mut users: Vec<UserId> = Vec::new();
        for entry in self.data.shares.values().flat_map(|share| share.entries.values()) {
            if !users.contains(&entry.member.user_id) {
                users.push(entry.member.user_id.clone());
            }
        }
        users
    }

    fn over(&self, mut known: Vec<NodeId>) -> Vec<NodeId> {
        known.retain(|life| self.data.tombstones.contains_key(life));
        known
    }

    /// All shares that are not empty, and the own one.
    fn all(&self, own: NodeId) -> Vec<ReadShare> {
        let shares = self.data.shares.iter().filter(|(life, share)| !share.is_empty() || **life == own);
        let read = |(life, share): (&NodeId, &Stored)| {
            let entries = share.entries.values().cloned().collect();
            (*life, share.sequence, entries, share.count, self.data.leases.contains_key(life))
        };
        shares.map(read).collect()
    }

    fn change(
        &mut self,
        now: u64,
        life: NodeId,
        sequence: u64,
        follows: u64,
        change: Change,
        published: &mut Vec<Published>,
    ) -> Reply {
        if self.data.tombstones.contains_key(&life) {
            return Reply::Refused { life, sequence, is_over: true };
        }
        let stored = self.data.shares.get(&life);
        let (last, is_empty) = stored.map_or((0, true), |share| (share.sequence, share.is_empty()));
        let is_count = matches!(change, Change::Count(_));
        let is_next = follows == last || (follows == 0 && (is_empty || is_count)) || (last > 0 && is_count);
        if sequence <= last || !is_next {
            return Reply::Refused { life, sequence, is_over: false };
        }
        let share = self.data.shares.entry(life).or_default();
        match &change {
            Change::Join(entry) | Change::Describe(entry) => {
                share.entries.insert(entry.socket_id, entry.clone());
            }
            Change::Leave { socket_id, .. } => drop(share.entries.remove(socket_id)),
            Change::Count(count) => share.count = *count,
        }
        if !matches!(change, Change::Count(_)) {
            share.count = share.entries.len() as u32;
        }
        share.sequence = sequence;
        share.expires = share.is_empty().then_some(now + MARKER);
        published.push(Published::Notice(life, sequence, Notice::Change { follows, change }));
        Reply::Done { sequence }
    }

    fn replace(
        &mut self,
        now: u64,
        life: NodeId,
        predecessors: &[NodeId],
        (sequence, count, entries): (u64, u32, Vec<Entry>),
        published: &mut Vec<Published>,
    ) -> Reply {
        if self.data.tombstones.contains_key(&life) {
            return Reply::Refused { life, sequence, is_over: true };
        }
        if self.data.shares.get(&life).is_some_and(|share| share.sequence >= sequence) {
            return Reply::Refused { life, sequence, is_over: false };
        }
        for predecessor in predecessors {
            self.data.shares.remove(predecessor);
            self.data.tombstones.insert(*predecessor, now + TOMBSTONE);
            self.data.lives.remove(predecessor);
        }
        let is_empty = count == 0 && entries.is_empty();
        let stored = Stored {
            sequence,
            entries: entries.iter().map(|entry| (entry.socket_id, entry.clone())).collect(),
            count,
            expires: is_empty.then_some(now + MARKER),
        };
        self.data.shares.insert(life, stored);
        let predecessors = predecessors.to_vec();
        let entries = Some(entries).filter(|entries| entries.len() <= REPLACE_ENTRIES_MAX);
        published.push(Published::Notice(life, sequence, Notice::Replace { predecessors, count, entries }));
        Reply::Shares { ticket: sequence, shares: self.all(life), over: Vec::new() }
    }

    fn reap(&mut self, now: u64, by: NodeId, dead: NodeId, published: &mut Vec<Published>) -> Reply {
        self.data.lives.remove(&dead);
        if self.data.shares.remove(&dead).is_none() {
            return Reply::Reaped;
        }
        if !is_broken(Mutation::NoTombstones) {
            self.data.tombstones.insert(dead, now + TOMBSTONE);
        }
        published.push(Published::Notice(by, 0, Notice::Gone(dead)));
        Reply::Reaped
    }
}
