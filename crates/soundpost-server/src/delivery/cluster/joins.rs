//! Joins and leaves of this node's connections on channels of a cluster.
//!
//! A connection that joins waits until the machine lets it in: it is counted nowhere and hears nothing before. What the
//! client does meanwhile: a repeated subscribe waits with the first, an unsubscribe or the end of the connection takes it
//! away as if it had never been.

use std::num::NonZeroU32;

use parking_lot::MutexGuard;
use soundpost_protocol::{cluster::share::Entry, presence::Member};

use super::{
    super::{Joiner, Joining, Leaving, directory::Shard},
    *,
};

/// A connection that waits to be let in.
#[derive(Debug)]
pub(super) struct Waiting {
    /// What the hub calls the join.
    ticket: u32,
    /// Whose connection it is, on presence channels.
    pub(super) user_id: Option<UserId>,
    pub(super) phase: Phase,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// The machine has its join. `is_counted`: its user is among the newcomers.
    Joining { is_counted: bool },
    /// It is to see first whether the channel has room for another user.
    Looking(Joining),
    /// It is not let in, and so many subscribes are to hear why.
    Refused { failure: SubscriptionFailure, answers: u32 },
}

/// What a connection is told that was not let in.
#[derive(Debug)]
pub(in crate::delivery) struct Refusal {
    /// Why.
    pub(in crate::delivery) failure: SubscriptionFailure,
    /// How many subscribes are answered by it.
    pub(in crate::delivery) answers: u32,
    /// Who it was, on presence channels.
    pub(in crate::delivery) user_id: Option<UserId>,
}

impl Delivery {
    /// Lets a connection wait to be let in by the cluster, which may happen at once. `wanted`: the hub's ticket, and who
    /// comes.
    ///
    /// Errors: [`SubscriptionFailure::MembersMax`], [`SubscriptionFailure::Busy`]; then nothing has changed. Both may
    /// come later, too, by [`Item::Refuse`].
    pub(in crate::delivery) fn join_cluster(
        &self,
        cluster: &adapter::Cluster,
        joiner: Joiner,
        key: ChannelKey,
        wanted: (u32, Option<Joining>),
        company: Company<'_>,
        wakes: &mut Wakes<'_>,
    ) -> Result<Arc<ChannelKey>, SubscriptionFailure> {
        self.has_room_for_join(joiner)?;
        let mut shard = self.directory.lock(&key);
        let channel = shard.get_or_create(key);
        let key = Arc::clone(&channel.key);
        let mut turn = Turn::new(self, cluster, channel, wakes, now());
        turn.begin(&company);
        let joined = turn.join(joiner.socket_id, wanted);
        turn.end();
        shard.settle(&key);
        joined.map(|()| key)
    }

    /// A repeated subscribe: waits with the first if that still waits, else for what it says of its user.
    pub(in crate::delivery) fn rejoin_cluster(
        &self,
        cluster: &adapter::Cluster,
        joiner: Joiner,
        key: &ChannelKey,
        member: Option<&Arc<Member>>,
        wakes: &mut Wakes<'_>,
    ) -> Result<(), SubscriptionFailure> {
        self.has_room_for_join(joiner)?;
        let mut shard = self.directory.lock(key);
        let Some(channel) = shard.get_mut(key) else { return Ok(()) };
        let mut turn = Turn::new(self, cluster, channel, wakes, now());
        turn.join_again(joiner.socket_id, member);
        turn.end();
        shard.settle(key);
        Ok(())
    }

    /// Takes a connection off the channel, whether it was let in, waits, or was refused and has not heard of it.
    pub(in crate::delivery) fn leave_cluster(
        &self,
        cluster: &adapter::Cluster,
        joiner: Joiner,
        key: &ChannelKey,
        leaving: &Leaving<'_>,
        wakes: &mut Wakes<'_>,
    ) {
        let mut shard = self.directory.lock(key);
        let Some(channel) = shard.get_mut(key) else { return };
        let mut turn = Turn::new(self, cluster, channel, wakes, now());
        turn.leave(joiner, leaving);
        turn.end();
        shard.settle(key);
    }

    /// A held member has not come back: its share ends.
    pub(in crate::delivery) fn leave_held(
        &self,
        cluster: &adapter::Cluster,
        shard: &mut MutexGuard<'_, Shard>,
        key: &ChannelKey,
        (socket_id, user_id): (SocketId, &UserId),
        wakes: &mut Wakes<'_>,
    ) {
        let Some(channel) = shard.get_mut(key) else { return };
        let mut turn = Turn::new(self, cluster, channel, wakes, now());
        turn.call(|machine, cx| machine.leave(socket_id, Some(user_id), cx));
        turn.end();
        shard.settle(key);
    }

    /// What to tell a connection that was refused, unless it has left since; `ticket` is what the hub called its join.
    pub(in crate::delivery) fn take_refusal(
        &self,
        key: &ChannelKey,
        socket_id: SocketId,
        ticket: u32,
    ) -> Option<Refusal> {
        let mut shard = self.directory.lock(key);
        let clustered = shard.get_mut(key)?.cluster.as_deref_mut()?;
        let is_refused =
            |waiting: &Waiting| waiting.ticket == ticket && matches!(waiting.phase, Phase::Refused { .. });
        clustered.waiting.get(&socket_id).filter(|waiting| is_refused(waiting))?;
        let Waiting { user_id, phase, .. } = clustered.stop_waiting(socket_id)?;
        shard.settle(key);
        match phase {
            Phase::Refused { failure, answers } => Some(Refusal { failure, answers, user_id }),
            Phase::Joining { .. } | Phase::Looking(_) => None,
        }
    }

    /// Whether the connection's worker may be given more joins. What comes of this one is put in whether there is room
    /// or not: it may come much later.
    fn has_room_for_join(&self, joiner: Joiner) -> Result<(), SubscriptionFailure> {
        let inbox = self.inboxes.of(joiner.worker);
        if !inbox.reserve(None, Urgency::Join) {
            return Err(SubscriptionFailure::Busy);
        }
        inbox.release(None);
        Ok(())
    }
}

impl Turn<'_, '_> {
    fn join(
        &mut self,
        socket_id: SocketId,
        (ticket, joining): (u32, Option<Joining>),
    ) -> Result<(), SubscriptionFailure> {
        let Some(clustered) = self.clustered() else { return Err(SubscriptionFailure::Busy) };
        let user_id = joining.as_ref().map(|joining| joining.member.user_id.clone());
        if let Some(joining) = joining.as_ref()
            && let Some(max) = joining.members_max
            && !clustered.machine.roster().contains(&joining.member.user_id)
        {
            if clustered.machine.is_live() {
                clustered.check_room(&joining.member.user_id, max)?;
            } else {
                // Who is there is not known, and who has joined cannot be taken back unseen.
                let phase = Phase::Looking(joining.clone());
                clustered.waiting.insert(socket_id, Waiting { ticket, user_id, phase });
                self.call(|machine, cx| machine.observe(socket_id, cx));
                return Ok(());
            }
        }
        self.wait_to_join(socket_id, ticket, joining);
        Ok(())
    }

    /// Lets the machine have the join.
    fn wait_to_join(&mut self, socket_id: SocketId, ticket: u32, joining: Option<Joining>) {
        let Some(clustered) = self.clustered() else { return };
        let user_id = joining.as_ref().map(|joining| joining.member.user_id.clone());
        let is_counted = joining.as_ref().is_some_and(|joining| {
            joining.members_max.is_some() && !clustered.machine.roster().contains(&joining.member.user_id)
        });
        if let Some(user_id) = user_id.clone().filter(|_| is_counted) {
            *clustered.newcomers.entry(user_id).or_default() += 1;
        }
        let phase = Phase::Joining { is_counted };
        clustered.waiting.insert(socket_id, Waiting { ticket, user_id, phase });
        let Some(Joining { member, joined_at, .. }) = joining else {
            return self.call(|machine, cx| machine.join(socket_id, None, cx));
        };
        let user_id = member.user_id.clone();
        let entry = Some(Entry { socket_id, joined_at, member });
        // Who comes back in time was never gone: the new connection stands for the user before the held one ends.
        match self.return_held(&user_id) {
            Some(held) if held == socket_id => self.call(|machine, cx| machine.again(socket_id, entry, cx)),
            held => {
                self.call(|machine, cx| machine.join(socket_id, entry, cx));
                if let Some(held) = held {
                    self.call(|machine, cx| machine.leave(held, Some(&user_id), cx));
                }
            }
        }
    }

    /// The connection that is held for a user who comes back; its removal is called off.
    fn return_held(&mut self, user_id: &UserId) -> Option<SocketId> {
        let (socket_id, removal) = self.channel.presence.as_deref_mut()?.held.remove(user_id)?;
        self.delivery.ticker.call_off(removal);
        Some(socket_id)
    }

    fn join_again(&mut self, socket_id: SocketId, member: Option<&Arc<Member>>) {
        let Some(clustered) = self.clustered() else { return };
        match clustered.waiting.get_mut(&socket_id).map(|waiting| &mut waiting.phase) {
            Some(Phase::Refused { answers, .. }) => *answers = answers.saturating_add(1),
            Some(Phase::Looking(joining)) => {
                member.cloned().into_iter().for_each(|member| joining.member = member);
                self.call(|machine, cx| machine.again(socket_id, None, cx));
            }
            Some(Phase::Joining { .. }) | None => {
                // When it joined the machine knows best.
                let entry =
                    |member: &Arc<Member>| Entry { socket_id, joined_at: 0, member: Arc::clone(member) };
                let entry = member.map(entry);
                self.call(|machine, cx| machine.again(socket_id, entry, cx));
            }
        }
    }

    fn leave(&mut self, joiner: Joiner, leaving: &Leaving<'_>) {
        let Joiner { socket_id, worker, .. } = joiner;
        let Some(clustered) = self.clustered() else { return };
        clustered.is_quiet |= leaving.is_quiet;
        match clustered.stop_waiting(socket_id).map(|waiting| waiting.phase) {
            Some(Phase::Refused { .. }) => return,
            Some(Phase::Looking(_)) => return clustered.machine.unobserve(socket_id),
            // It was never counted in.
            Some(Phase::Joining { .. }) => {}
            None => self.channel.subtract(worker),
        }
        let is_held = |user_id| self.delivery.hold(socket_id, self.channel, user_id, leaving, self.now);
        if !leaving.user_id.is_some_and(is_held) {
            self.call(|machine, cx| machine.leave(socket_id, leaving.user_id, cx));
        }
    }

    /// The machine lets a connection in, or answers one that it has let in before.
    pub(super) fn let_in(&mut self, socket_id: SocketId, answers: u32) {
        let Some(clustered) = self.clustered() else { return };
        let mut again = answers;
        if let Some(Waiting { ticket, phase, user_id }) = clustered.stop_waiting(socket_id) {
            match phase {
                Phase::Joining { .. } => self.enter(socket_id, ticket),
                Phase::Looking(joining) => return self.look(socket_id, ticket, joining, answers),
                phase @ Phase::Refused { .. } => {
                    clustered.waiting.insert(socket_id, Waiting { ticket, user_id, phase });
                    return;
                }
            }
            again = answers.saturating_sub(1);
        }
        for _ in 0..again {
            let channel = Arc::clone(&self.channel.key);
            self.put(socket_id, |connection| Item::Rejoin { connection, channel });
        }
    }

    /// Counts a connection in, and puts the join into its worker's inbox: it hears what comes from there on.
    fn enter(&mut self, socket_id: SocketId, ticket: u32) {
        let (worker, _) = ConnectionRef::of(socket_id);
        self.channel.add(worker);
        let channel = &*self.channel;
        let cache = channel.cluster.as_deref().and_then(|clustered| clustered.cache.as_ref());
        let kept = |cache: &Arc<Cache>| cache.frame(&channel.key.name, self.now);
        let cached = cache.map(|cache| kept(cache).unwrap_or_else(|| self.delivery.miss(channel)));
        self.put(socket_id, |connection| Item::Join { connection, ticket, cached });
    }

    /// A connection that was to look first sees who is there: it joins if there is room for its user.
    fn look(&mut self, socket_id: SocketId, ticket: u32, joining: Joining, answers: u32) {
        let Some(clustered) = self.clustered() else { return };
        let room =
            joining.members_max.map_or(Ok(()), |max| clustered.check_room(&joining.member.user_id, max));
        if let Err(failure) = room {
            clustered.machine.unobserve(socket_id);
            let (user_id, phase) =
                (Some(joining.member.user_id.clone()), Phase::Joining { is_counted: false });
            clustered.waiting.insert(socket_id, Waiting { ticket, user_id, phase });
            return self.refuse(socket_id, answers, failure);
        }
        let member = Arc::clone(&joining.member);
        self.wait_to_join(socket_id, ticket, Some(joining));
        for _ in 1..answers {
            self.join_again(socket_id, Some(&member));
        }
        if let Some(clustered) = self.clustered() {
            clustered.machine.unobserve(socket_id);
        }
    }

    /// A connection is not let in. It is told when its worker comes to it, and may do anything meanwhile.
    pub(super) fn refuse(&mut self, socket_id: SocketId, answers: u32, failure: SubscriptionFailure) {
        let Some(clustered) = self.clustered() else { return };
        let Some(waiting) = clustered.stop_waiting(socket_id) else { return };
        let (ticket, phase) = (waiting.ticket, Phase::Refused { failure, answers });
        clustered.waiting.insert(socket_id, Waiting { phase, ..waiting });
        let channel = Arc::clone(&self.channel.key);
        self.put(socket_id, |_| Item::Refuse { connection: socket_id, ticket, channel });
    }
}

impl Clustered {
    /// Whether there is room for this user among the members.
    ///
    /// This is exact as long as no other node lets users in: those it has heard of and those who wait here are counted.
    /// Two nodes that let users in within the time their changes travel, some milliseconds, do not see each other's, so
    /// that each may let in as many as it sees room for. While the store is away each node counts alone.
    fn check_room(&self, user_id: &UserId, max: NonZeroU32) -> Result<(), SubscriptionFailure> {
        let roster = self.machine.roster();
        let is_known = roster.contains(user_id) || self.newcomers.contains_key(user_id);
        let users = roster.len().saturating_add(self.newcomers.len());
        if is_known || users < max.get() as usize {
            return Ok(());
        }
        Err(SubscriptionFailure::MembersMax(max.get()))
    }
}
