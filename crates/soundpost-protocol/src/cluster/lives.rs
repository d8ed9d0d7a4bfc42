//! Which nodes are alive, as one node sees it.
//!
//! A life is dead when three things hold at once: its lease is missing in the store; it was not heard for as long as a
//! lease holds; and the observer itself was connected for that long without a break. The last is what keeps an outage of
//! the store, or its coming back empty, from looking like the death of everybody. What is dead stays dead.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crate::presence::NodeId;

/// How long a lease holds.
pub const LEASE: Duration = Duration::from_secs(6);
/// How often its owner renews it and sends a heartbeat. It goes by a clock that goes on while the machine sleeps.
pub const RENEWAL: Duration = Duration::from_secs(2);
/// For so long it is remembered that a life has ended.
pub const REMEMBERED: Duration = Duration::from_secs(600);
/// Lives that are known at most, and lives that are remembered as dead.
pub const LIVES_MAX: usize = 4096;

/// The lives of the other nodes.
#[derive(Clone, Debug, Default)]
pub struct Lives {
    connected_since: Option<Instant>,
    /// When the store was there again after it had been away.
    returned_at: Option<Instant>,
    was_connected: bool,
    /// When each was heard, or first found in the store.
    heard: BTreeMap<NodeId, Instant>,
    dead: VecDeque<(NodeId, Instant)>,
}

impl Lives {
    /// Both ways to the store are open.
    pub const fn connect(&mut self, now: Instant) {
        self.connected_since = Some(now);
        if self.was_connected {
            self.returned_at = Some(now);
        }
        self.was_connected = true;
    }

    /// One of them is not.
    pub const fn disconnect(&mut self) {
        self.connected_since = None;
    }

    /// A heartbeat came, or anything else that only a live node does now. False if the life is over.
    pub fn hear(&mut self, life: NodeId, now: Instant) -> bool {
        if self.is_dead(life) {
            return false;
        }
        if self.heard.len() < LIVES_MAX || self.heard.contains_key(&life) {
            self.heard.insert(life, now);
        }
        true
    }

    /// A trace of a life was found in the store, which may be an old one.
    pub fn find(&mut self, life: NodeId, now: Instant) {
        if !self.heard.contains_key(&life) {
            self.hear(life, now);
        }
    }

    /// The lives whose leases are to be looked at: those not heard for so long that a missing lease means death.
    pub fn suspects(&self, now: Instant) -> Vec<NodeId> {
        if !self.trusts_leases(now) {
            return Vec::new();
        }
        let is_silent = |heard: &Instant| now.saturating_duration_since(*heard) >= LEASE;
        self.heard.iter().filter(|(_, heard)| is_silent(heard)).map(|(life, _)| *life).collect()
    }

    /// A lease is not in the store. True if the life is over now, which is said once.
    pub fn miss_lease(&mut self, life: NodeId, now: Instant) -> bool {
        let heard = self.heard.get(&life);
        let is_silent = heard.is_some_and(|heard| now.saturating_duration_since(*heard) >= LEASE);
        if !is_silent || !self.trusts_leases(now) {
            return false;
        }
        self.end(life, now)
    }

    /// A life is over: it said so, or another node has seen it. True if that is news.
    pub fn end(&mut self, life: NodeId, now: Instant) -> bool {
        self.heard.remove(&life);
        if self.is_dead(life) {
            return false;
        }
        let is_old = |died: &Instant| now.saturating_duration_since(*died) >= REMEMBERED;
        while self.dead.front().is_some_and(|(_, died)| is_old(died)) || self.dead.len() >= LIVES_MAX {
            self.dead.pop_front();
        }
        self.dead.push_back((life, now));
        true
    }

    /// Whether the life is known to be over.
    pub fn is_dead(&self, life: NodeId) -> bool {
        self.dead.iter().any(|(dead, _)| *dead == life)
    }

    /// Whether the life has been over for so long that its shares should be gone everywhere: who still shows one has
    /// missed the notice, see [`ClusterChannel::ended`](super::channel::ClusterChannel::ended).
    pub fn is_long_dead(&self, life: NodeId, now: Instant) -> bool {
        let is_long = |died: Instant| now.saturating_duration_since(died) >= RENEWAL;
        self.dead.iter().any(|(dead, died)| *dead == life && is_long(*died))
    }

    /// Whether a share found in the store counts: its owner has a lease or was heard, or its lease may have run out while
    /// the store was away. A node that has only just started believes the leases.
    pub fn may_live(&self, life: NodeId, has_lease: bool, now: Instant) -> bool {
        if self.is_dead(life) {
            return false;
        }
        let heard = self.heard.get(&life);
        let is_heard = heard.is_some_and(|heard| now.saturating_duration_since(*heard) < LEASE);
        let is_recent = |at: Instant| now.saturating_duration_since(at) < LEASE;
        has_lease || is_heard || self.returned_at.is_some_and(is_recent)
    }

    fn trusts_leases(&self, now: Instant) -> bool {
        self.connected_since.is_some_and(|since| now.saturating_duration_since(since) >= LEASE)
    }
}
