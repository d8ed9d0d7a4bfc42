//! Joins and leaves: who is on a channel, who hears of it, and in which order.

use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use soundpost_protocol::{
    presence::{Member, UserId},
    server_frame::{self, SubscriptionFailure},
    socket_id::SocketId,
    websocket::Frame,
};

use super::{
    ConnectionRef, Delivery, Due, Hears, Item, Wakes,
    directory::{Channel, Presence},
    inbox::Urgency,
};
use crate::{
    apps::{ChannelKey, WorkerId},
    cache::Cache,
};

/// The connection that joins, leaves or asks again.
#[derive(Clone, Copy, Debug)]
pub struct Joiner {
    /// Where it lives.
    pub worker: WorkerId,
    /// Which of that worker's it is.
    pub connection: ConnectionRef,
    /// Its public name.
    pub socket_id: SocketId,
}

/// What a presence channel needs to know of a join.
#[derive(Clone, Debug)]
pub struct Joining {
    /// Who comes.
    pub member: Arc<Member>,
    /// When, in milliseconds since the epoch: of a user's connections the earliest describes the user.
    pub joined_at: u64,
    /// Users the channel may have.
    pub members_max: Option<NonZeroU32>,
}

/// What a channel's app wants for those who join.
#[derive(Clone, Copy, Debug)]
pub struct Company<'a> {
    /// The kept events of cache channels.
    pub cache: &'a Arc<Cache>,
    /// All are told how many they are now.
    pub tells_count: bool,
    /// What its webhooks are told of the channel.
    pub hears: Hears,
}

/// What a leave means to those who stay.
#[derive(Clone, Copy, Debug)]
pub struct Leaving<'a> {
    /// Who leaves, on presence channels.
    pub user_id: Option<&'a UserId>,
    /// Nobody need be told of anything: the app is gone, so none of the others stay either, and it has no webhooks.
    pub is_quiet: bool,
    /// How long the others are not told, in case the user comes back.
    pub hold: Duration,
    /// The others are told how many they are now.
    pub tells_count: bool,
    /// What the app's webhooks are told of the channel.
    pub hears: Hears,
}

impl Delivery {
    /// Counts the connection in, tells the others if a user came, and puts the join into the connection's own inbox:
    /// it hears events from there on and nothing that is older.
    ///
    /// Errors: [`SubscriptionFailure::MembersMax`], [`SubscriptionFailure::Busy`]; then nothing has changed.
    pub fn join(
        &self,
        joiner: Joiner,
        key: ChannelKey,
        ticket: u32,
        joining: Option<Joining>,
        company: Company<'_>,
        wakes: &mut Wakes<'_>,
    ) -> Result<Arc<ChannelKey>, SubscriptionFailure> {
        if let Some(cluster) = &self.cluster {
            return self.join_cluster(cluster, joiner, key, (ticket, joining), company, wakes);
        }
        let mut shard = self.directory.lock(&key);
        let own_inbox = self.inboxes.of(joiner.worker);
        if !own_inbox.reserve(None, Urgency::Join) {
            return Err(SubscriptionFailure::Busy);
        }
        let channel = shard.get_or_create(key);
        let key = Arc::clone(&channel.key);
        let hears = channel.told.hears.or(company.hears);
        let arriving = (hears != Hears::NOTHING).then(|| {
            let user_id = joining.as_ref().map(|joining| joining.member.user_id.clone());
            (channel.is_vacated(), user_id)
        });
        let is_new = match self.announce_join(joiner, channel, joining, wakes) {
            Ok(is_new) => is_new,
            Err(failure) => {
                own_inbox.release(None);
                shard.remove_if_vacated(&key);
                return Err(failure);
            }
        };
        channel.add(joiner.worker);
        channel.told.hears = hears;
        if let Some((was_vacated, user_id)) = arriving {
            self.note_arrival(channel, was_vacated, user_id.filter(|_| is_new));
        }
        let cached = key.name.kind().is_cache().then(|| {
            let kept = company.cache.frame(&key.name, Instant::now());
            kept.unwrap_or_else(|| self.miss(channel))
        });
        own_inbox.put(Item::Join { connection: joiner.connection, ticket, cached });
        wakes.add(joiner.worker);
        if let Some(channel) = shard.get_mut(&key).filter(|_| company.tells_count) {
            self.tell_count(channel, channel.subscribers(), wakes);
        }
        Ok(key)
    }

    /// What a newcomer of a cache channel is told when nothing is kept there.
    pub(super) fn miss(&self, channel: &Channel) -> Frame {
        self.note_cache_miss(channel);
        server_frame::cache_miss(&channel.key.name)
    }

    /// Enters the member and tells the others if its user was not there before. True if so.
    fn announce_join(
        &self,
        joiner: Joiner,
        channel: &mut Channel,
        joining: Option<Joining>,
        wakes: &mut Wakes<'_>,
    ) -> Result<bool, SubscriptionFailure> {
        let (Some(joining), Some(presence)) = (joining, channel.presence.as_mut()) else { return Ok(false) };
        let Presence { roster, version, .. } = &mut **presence;
        let is_new = !roster.contains(&joining.member.user_id);
        if let Some(max) = joining.members_max.map(NonZeroU32::get)
            && is_new
            && roster.len() >= max as usize
        {
            return Err(SubscriptionFailure::MembersMax(max));
        }
        let frame = is_new.then(|| server_frame::member_added(&channel.key.name, &joining.member));
        if let Some(frame) = frame {
            let next = *version + 1;
            if !self.notify(channel, &frame, next, Urgency::Join, wakes) {
                return Err(SubscriptionFailure::Busy);
            }
        }
        if let Some(Presence { roster, version, held, .. }) = channel.presence.as_deref_mut() {
            let user_id = joining.member.user_id.clone();
            // Who comes back in time was never gone: the connection that had left is forgotten without a word.
            let returned = held.remove(&user_id);
            if let Some((_, removal)) = returned {
                self.ticker.call_off(removal);
            }
            match returned.map(|(before, _)| before) {
                Some(before) if before == joiner.socket_id => {
                    roster.describe(self.node, before, &joining.member);
                }
                before => {
                    roster.join(self.node, joiner.socket_id, joining.joined_at, joining.member);
                    if let Some(before) = before {
                        roster.leave(self.node, before, &user_id);
                    }
                }
            }
            *version += u64::from(is_new || returned.is_some());
        }
        Ok(is_new)
    }

    /// A repeated subscribe: success once more with a fresh roster, nothing that others see.
    pub fn rejoin(
        &self,
        joiner: Joiner,
        channel: &Arc<ChannelKey>,
        member: Option<&Arc<Member>>,
        wakes: &mut Wakes<'_>,
    ) -> Result<(), SubscriptionFailure> {
        if let Some(cluster) = &self.cluster {
            return self.rejoin_cluster(cluster, joiner, channel, member, wakes);
        }
        let mut shard = self.directory.lock(channel);
        let inbox = self.inboxes.of(joiner.worker);
        if !inbox.reserve(None, Urgency::Join) {
            return Err(SubscriptionFailure::Busy);
        }
        if let Some(presence) = shard.get_mut(channel).and_then(|channel| channel.presence.as_mut())
            && let Some(member) = member
        {
            presence.roster.describe(self.node, joiner.socket_id, member);
            // Nobody is told, but the next roster that is asked for must not be an old one.
            presence.version += 1;
        }
        inbox.put(Item::Rejoin { connection: joiner.connection, channel: Arc::clone(channel) });
        wakes.add(joiner.worker);
        Ok(())
    }

    /// Counts the connection out and tells the others if its user has left, now or when nobody has come back in its
    /// place for a while. Cannot fail.
    pub fn leave(&self, joiner: Joiner, key: &ChannelKey, leaving: &Leaving<'_>, wakes: &mut Wakes<'_>) {
        if let Some(cluster) = &self.cluster {
            return self.leave_cluster(cluster, joiner, key, leaving, wakes);
        }
        let mut shard = self.directory.lock(key);
        let Some(channel) = shard.get_mut(key) else { return };
        channel.subtract(joiner.worker);
        let hears = channel.told.hears.or(leaving.hears);
        channel.told.hears = if leaving.is_quiet { Hears::NOTHING } else { hears };
        if let Some(user_id) = leaving.user_id {
            self.leave_roster(joiner, channel, user_id, leaving, wakes);
        }
        if leaving.tells_count && !leaving.is_quiet {
            self.tell_count(channel, channel.subscribers(), wakes);
        }
        if channel.told.hears != Hears::NOTHING {
            self.note_departure(channel);
        }
        shard.remove_if_vacated(key);
    }

    fn leave_roster(
        &self,
        joiner: Joiner,
        channel: &mut Channel,
        user_id: &UserId,
        leaving: &Leaving<'_>,
        wakes: &mut Wakes<'_>,
    ) {
        if self.hold(joiner.socket_id, channel, user_id, leaving, Instant::now()) {
            return;
        }
        let Some(presence) = channel.presence.as_deref_mut() else { return };
        let Presence { roster, version, .. } = presence;
        let has_left = roster.leave(self.node, joiner.socket_id, user_id);
        // Whoever stays may now be described by another connection.
        *version += 1;
        let version = *version;
        if has_left {
            self.note_member_left(channel, user_id);
        }
        if has_left && !leaving.is_quiet {
            let frame = server_frame::member_removed(&channel.key.name, user_id);
            self.notify(channel, &frame, version, Urgency::Leave, wakes);
        }
    }

    /// Puts the end of a member off, if the app wants that and no other connection of this node stands for its user. True
    /// if so. Every node holds its own, so the user goes when the last hold of all ends, whoever left when.
    pub(super) fn hold(
        &self,
        socket_id: SocketId,
        channel: &mut Channel,
        user_id: &UserId,
        leaving: &Leaving<'_>,
        now: Instant,
    ) -> bool {
        let Channel { key, presence, cluster, .. } = channel;
        let Some(Presence { roster, held, .. }) = presence.as_deref_mut() else { return false };
        if leaving.is_quiet || leaving.hold.is_zero() {
            return false;
        }
        let is_last = match cluster {
            Some(clustered) => clustered.machine.is_last_here(socket_id, user_id),
            None => roster.is_last(socket_id, user_id),
        };
        if !is_last {
            return false;
        }
        let removal = Due::Removed(Arc::clone(key), user_id.clone());
        let removal = self.ticker.put_off(now + leaving.hold, removal);
        held.insert(user_id.clone(), (socket_id, removal));
        true
    }

    /// A held member has not come back: now it has left.
    pub(super) fn removal_due(
        &self,
        key: &ChannelKey,
        user_id: &UserId,
        now: Instant,
        wakes: &mut Wakes<'_>,
    ) {
        let mut shard = self.directory.lock(key);
        let Some(channel) = shard.get_mut(key) else { return };
        let Some(presence) = channel.presence.as_deref_mut() else { return };
        let Presence { roster, version, held, .. } = presence;
        let Some((socket_id, _)) = held.get(user_id).filter(|(_, removal)| removal.time <= now).copied()
        else {
            return;
        };
        held.remove(user_id);
        if let Some(cluster) = &self.cluster {
            return self.leave_held(cluster, &mut shard, key, (socket_id, user_id), wakes);
        }
        if roster.leave(self.node, socket_id, user_id) {
            *version += 1;
            let version = *version;
            self.note_member_left(channel, user_id);
            let frame = server_frame::member_removed(&channel.key.name, user_id);
            self.notify(channel, &frame, version, Urgency::Leave, wakes);
        }
        self.note_departure(channel);
        shard.remove_if_vacated(key);
    }

    /// Puts a notice into the inbox of every worker with subscribers, all or none.
    pub(super) fn notify(
        &self,
        channel: &Channel,
        frame: &Frame,
        roster_version: u64,
        urgency: Urgency,
        wakes: &mut Wakes<'_>,
    ) -> bool {
        self.put_all(channel, frame, urgency, wakes, || Item::Notice {
            channel: Arc::clone(&channel.key),
            frame: frame.clone(),
            roster_version,
        })
    }

    /// Reserves room in the inbox of every worker with subscribers; only if all have it, puts one item into each.
    pub(super) fn put_all(
        &self,
        channel: &Channel,
        frame: &Frame,
        urgency: Urgency,
        wakes: &mut Wakes<'_>,
        item: impl Fn() -> Item,
    ) -> bool {
        for (reserved, worker) in channel.workers().enumerate() {
            if !self.inboxes.of(worker).reserve(Some(frame), urgency) {
                for worker in channel.workers().take(reserved) {
                    self.inboxes.of(worker).release(Some(frame));
                }
                return false;
            }
        }
        for worker in channel.workers() {
            self.inboxes.of(worker).put(item());
            wakes.add(worker);
        }
        true
    }
}
