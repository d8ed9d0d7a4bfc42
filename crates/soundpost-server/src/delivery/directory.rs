//! Who is subscribed on this node: per channel the workers that have subscribers and, on presence channels, the roster.
//!
//! The shard a channel falls into is its lock. It is never held across an await, and while it is held only inboxes, the
//! ticker and an app's cache are locked.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, Hasher},
    sync::Arc,
};

use foldhash::quality::RandomState;
use parking_lot::{Mutex, MutexGuard};
use soundpost_protocol::{
    channel::{ChannelKind, ChannelName},
    presence::{Roster, UserId},
    server_frame,
    socket_id::SocketId,
    websocket::Frame,
};

use super::{cluster::Clustered, counts::Told, ticker::PutOff};
use crate::{
    adapter::ChannelCounts,
    apps::{AppIndex, ChannelKey, WorkerId},
};

/// Locks the channels are spread over.
const SHARDS: usize = 64;

/// Maps with room for this many more than they hold are left as they are.
const SPARE_ENTRIES: usize = 64;

/// The members of a presence channel as this node knows them.
#[derive(Debug, Default)]
pub(super) struct Presence {
    pub(super) roster: Roster,
    /// Rises with every change that a roster shows, told to the others or not.
    pub(super) version: u64,
    /// The roster as newcomers get it, and its version.
    encoded: Option<(u64, Frame)>,
    /// Users whose last connection has left, but who may yet come back unnoticed: that connection, and its removal.
    pub(super) held: HashMap<UserId, (SocketId, PutOff), RandomState>,
}

/// A channel with at least one subscriber on this node.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) key: Arc<ChannelKey>,
    /// Subscribers of each worker that has any.
    workers: Vec<(WorkerId, u32)>,
    pub(super) presence: Option<Box<Presence>>,
    /// What was told of it, and to whom.
    pub(super) told: Told,
    /// What it takes to agree with other nodes, on a node that has any.
    pub(super) cluster: Option<Box<Clustered>>,
}

impl Channel {
    fn new(key: Arc<ChannelKey>) -> Self {
        let presence = key.name.kind().is_presence().then(Box::default);
        Self { key, workers: Vec::with_capacity(1), presence, told: Told::default(), cluster: None }
    }

    pub(super) fn subscribers(&self) -> u32 {
        self.workers.iter().map(|(_, count)| count).sum()
    }

    /// The workers that have subscribers.
    pub(super) fn workers(&self) -> impl Iterator<Item = WorkerId> {
        self.workers.iter().map(|(worker, _)| *worker)
    }

    pub(super) fn add(&mut self, worker: WorkerId) {
        match self.workers.iter_mut().find(|(found, _)| *found == worker) {
            Some((_, count)) => *count += 1,
            None => self.workers.push((worker, 1)),
        }
    }

    pub(super) fn subtract(&mut self, worker: WorkerId) {
        if let Some(at) = self.workers.iter().position(|(found, _)| *found == worker)
            && let Some((_, count)) = self.workers.get_mut(at)
        {
            *count -= 1;
            if *count == 0 {
                self.workers.swap_remove(at);
            }
        }
    }

    /// How many all are told that there are: of all nodes, where there are others.
    pub(super) fn count(&self) -> u32 {
        self.cluster.as_ref().map_or_else(|| self.subscribers(), |clustered| clustered.machine.count())
    }

    /// Whether nobody of this node is left, nor anybody held.
    pub(super) fn is_vacated(&self) -> bool {
        let is_held = self.presence.as_ref().is_some_and(|presence| !presence.held.is_empty());
        self.workers.is_empty() && !is_held
    }

    /// Whether the cluster needs nothing of it either.
    fn is_over(&self) -> bool {
        self.is_vacated() && self.cluster.as_ref().is_none_or(|clustered| clustered.is_idle())
    }

    /// Whether the HTTP API counts the channel among the occupied ones.
    fn is_occupied(&self) -> bool {
        !self.workers.is_empty() && self.key.name.kind() != ChannelKind::ServerToUser
    }

    fn counts(&self) -> ChannelCounts {
        let users = self.presence.as_ref().map(|presence| presence.roster.len());
        ChannelCounts {
            subscriptions: self.subscribers(),
            users: users.map(|users| u32::try_from(users).unwrap_or(u32::MAX)),
        }
    }
}

/// The channels of one lock.
#[derive(Debug, Default)]
pub(super) struct Shard {
    channels: HashMap<Arc<ChannelKey>, Channel, RandomState>,
    /// Those whose machines want to know that time passes.
    restless: HashSet<Arc<ChannelKey>, RandomState>,
}

impl Shard {
    pub(super) fn get_mut(&mut self, key: &ChannelKey) -> Option<&mut Channel> {
        self.channels.get_mut(key)
    }

    pub(super) fn get_or_create(&mut self, key: ChannelKey) -> &mut Channel {
        let known = self.channels.get_key_value(&key).map(|(known, _)| Arc::clone(known));
        let key = known.unwrap_or_else(|| Arc::new(key));
        self.channels.entry(Arc::clone(&key)).or_insert_with(|| Channel::new(key))
    }

    /// Forgets a channel of which nothing is left.
    pub(super) fn remove_if_vacated(&mut self, key: &ChannelKey) {
        if self.channels.get(key).is_some_and(Channel::is_over) {
            self.channels.remove(key);
            if self.channels.capacity() > 4 * self.channels.len() + SPARE_ENTRIES {
                self.channels.shrink_to(2 * self.channels.len());
            }
        }
    }

    /// After a call of a channel's machine: remembers whether time matters to it, and forgets a channel that is over.
    pub(super) fn settle(&mut self, key: &ChannelKey) {
        let Some(channel) = self.channels.get(key) else { return };
        let is_at_rest = channel.cluster.as_ref().is_none_or(|clustered| clustered.machine.is_at_rest());
        if !is_at_rest {
            self.restless.insert(Arc::clone(&channel.key));
        } else if self.restless.remove(key)
            && self.restless.capacity() > 4 * self.restless.len() + SPARE_ENTRIES
        {
            self.restless.shrink_to(2 * self.restless.len());
        }
        self.remove_if_vacated(key);
    }

    /// The channels whose machines want to know that time passes.
    pub(super) fn restless(&self) -> Vec<Arc<ChannelKey>> {
        self.restless.iter().cloned().collect()
    }

    /// All channels.
    pub(super) fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.channels.values()
    }

    /// Their names.
    pub(super) fn keys(&self) -> Vec<Arc<ChannelKey>> {
        self.channels.keys().cloned().collect()
    }
}

/// All channels of this node that have subscribers.
#[derive(Debug)]
pub struct Directory {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

impl Default for Directory {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::default() }
    }
}

impl Directory {
    /// Locks the shard of a channel.
    #[expect(clippy::indexing_slicing, reason = "the index is a remainder of the number of shards")]
    pub(super) fn lock(&self, key: &ChannelKey) -> MutexGuard<'_, Shard> {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key.name.as_str().as_bytes());
        let shard = usize::try_from(hasher.finish() >> 32).unwrap_or(0) % SHARDS;
        self.shards[shard].lock()
    }

    /// The locks, one after the other.
    pub(super) fn shards(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.shards.iter().map(Mutex::lock)
    }

    /// The counts of one channel over all nodes, if this node knows them for certain without asking: it hears all that
    /// the others say of it.
    pub fn cluster_counts(&self, key: &ChannelKey) -> Option<ChannelCounts> {
        let shard = self.lock(key);
        shard.channels.get(key)?.cluster.as_ref()?.counts()
    }

    /// The users of a presence channel over all nodes, in order, if this node knows them for certain without asking.
    pub fn cluster_users(&self, key: &ChannelKey) -> Option<Vec<UserId>> {
        let roster = {
            let shard = self.lock(key);
            let channel = shard.channels.get(key)?;
            // They are known when the counts are.
            channel.cluster.as_ref()?.counts()?;
            channel.presence.as_ref()?.roster.clone()
        };
        let mut users: Vec<_> = roster.members().map(|member| member.user_id.clone()).collect();
        users.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        Some(users)
    }

    /// The counts of one channel on this node, if it is occupied.
    pub fn counts(&self, key: &ChannelKey) -> Option<ChannelCounts> {
        self.lock(key).channels.get(key).filter(|channel| channel.is_occupied()).map(Channel::counts)
    }

    /// Whether an event would reach anybody on this node.
    pub fn has_subscribers(&self, key: &ChannelKey) -> bool {
        self.lock(key).channels.get(key).is_some_and(|channel| !channel.workers.is_empty())
    }

    /// Every occupied channel of an app whose name starts with `prefix`. Locks one shard after the other, so what
    /// changes meanwhile may or may not be seen.
    pub fn channels(&self, app: AppIndex, prefix: &str) -> Vec<(ChannelName, ChannelCounts)> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let wanted = |key: &ChannelKey| key.app == app && key.name.as_str().starts_with(prefix);
            let occupied = shard.channels.values().filter(|channel| channel.is_occupied());
            let channels = occupied.filter(|channel| wanted(&channel.key));
            found.extend(channels.map(|channel| (channel.key.name.clone(), channel.counts())));
        }
        found
    }

    /// The users of a presence channel; none if it is not occupied.
    pub fn users(&self, key: &ChannelKey) -> Vec<UserId> {
        let roster = {
            let shard = self.lock(key);
            let channel = shard.channels.get(key).filter(|channel| channel.is_occupied());
            channel.and_then(|channel| Some(channel.presence.as_ref()?.roster.clone())).unwrap_or_default()
        };
        roster.members().map(|member| member.user_id.clone()).collect()
    }

    /// The `subscription_succeeded` of a presence channel and the version of the roster in it. Only the snapshot is
    /// taken under the lock; it is encoded outside, once for each version however many ask.
    pub(super) fn roster_frame(&self, key: &ChannelKey) -> Option<(u64, Frame)> {
        let (version, roster) = {
            let shard = self.lock(key);
            let presence = shard.channels.get(key)?.presence.as_ref()?;
            if let Some((version, frame)) = &presence.encoded
                && *version == presence.version
            {
                return Some((*version, frame.clone()));
            }
            (presence.version, presence.roster.clone())
        };
        let frame = server_frame::subscription_succeeded_with(&key.name, &roster);
        if let Some(presence) = self.lock(key).get_mut(key).and_then(|channel| channel.presence.as_mut())
            && presence.encoded.as_ref().is_none_or(|(encoded_version, _)| *encoded_version < version)
        {
            presence.encoded = Some((version, frame.clone()));
        }
        Some((version, frame))
    }

    /// Calls `see` with the app, kind and subscribers of every channel that has any, or somebody held.
    pub fn survey(&self, mut see: impl FnMut(AppIndex, ChannelKind, u32)) {
        for shard in &self.shards {
            for channel in shard.lock().channels.values().filter(|channel| !channel.is_vacated()) {
                see(channel.key.app, channel.key.name.kind(), channel.subscribers());
            }
        }
    }
}
