//! Channels that reach over several nodes: calling a channel's machine while its lock is held, and carrying out what
//! comes of it.
//!
//! The machine, [`ClusterChannel`], knows what the nodes agree on; delivery holds the picture that its connections have
//! been given. A call and all that comes of it are one step under the lock of the channel's shard: what is asked of the
//! adapter, what is put into inboxes and the roster that newcomers get all belong to the same moment, and what one
//! channel asks comes out in the order of its calls.
//!
//! # When the store goes and comes
//!
//! The adapter first sets what holds from now on in [`Cluster`](adapter::Cluster) and then has every channel visited: `leave`
//! and [`lost`](Hearing::lost), `enter` and [`back`](Hearing::back), `renew` and [`renew`](Hearing::renew), all from its
//! one thread. Workers create channels meanwhile, and no channel must miss the visit without knowing already:
//!
//! - A visit first lists the channels of a shard under its lock, and later takes them up, some at a time. A channel is
//!   created under the same lock, and what holds is read under it. If it was created before the list was made, it is in
//!   the list. If after, the lock was taken after the adapter gave it back, so what the adapter had set before is seen:
//!   the channel begins with the life of now, and is told that the store is away if it is.
//! - Being visited without need does no harm: a machine that is away already is not lost again, one that is not away is
//!   not brought back, and one that has the new life already is left out here.
//! - What was asked before `leave` and is put in after it is forgotten by `enter`: who asks holds the shard's lock, and
//!   `lost`, which comes between the two, has to wait for that. Until a channel is visited by `lost` what it asks is
//!   dropped, and its machine does on the visit what it waits for. Between `enter` and the visit by `back` it asks
//!   nothing. So nothing that was asked under one connection is carried out under another.
//! - Between the new life and the visit by `renew` a channel goes on under its old one, and what it asks says so.

mod hearing;
mod joins;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::quality::RandomState;
use soundpost_protocol::{
    channel::ChannelKind,
    cluster::{
        channel::{ClusterChannel, Context, Effect},
        share::Transition,
    },
    presence::{NodeId, UserId},
    server_frame::{self, SubscriptionFailure},
    socket_id::SocketId,
};

use self::joins::{Phase, Waiting};
use super::{Company, ConnectionRef, Delivery, Item, Wakes, directory::Channel, inbox::Urgency};
use crate::{
    adapter::{self, Ask, ChannelCounts, KeptFrame, Subject},
    apps::ChannelKey,
    cache::Cache,
};
#[cfg(doc)]
use adapter::Hearing;

/// A map of those who wait with room for this many is kept when nobody waits.
const SPARE_WAITING: usize = 16;

/// What a channel needs to agree with other nodes.
#[derive(Debug)]
pub(super) struct Clustered {
    pub(super) machine: ClusterChannel,
    /// The life that the machine has.
    life: NodeId,
    /// Connections of this node that the machine has not let in yet, and those it has refused and who do not know yet.
    waiting: HashMap<SocketId, Waiting, RandomState>,
    /// The users of those who wait, where their number is limited, with how many of their connections wait.
    newcomers: HashMap<UserId, u32, RandomState>,
    /// What came with the last answer, on cache channels, until the topic has come so far.
    kept: Option<KeptFrame>,
    /// Where the channel's event is kept, on cache channels.
    cache: Option<Arc<Cache>>,
    /// The app wants all to be told how many they are.
    tells_count: bool,
    /// There was a time when it did not, so other nodes may not have said how many there are.
    was_silent: bool,
    /// Nobody need be told of anything any more, because none stays.
    is_quiet: bool,
}

impl Clustered {
    fn new(life: NodeId, kind: ChannelKind, cache: &Arc<Cache>) -> Self {
        Self {
            machine: ClusterChannel::new(life, kind),
            life,
            waiting: HashMap::default(),
            newcomers: HashMap::default(),
            kept: None,
            cache: kind.is_cache().then(|| Arc::clone(cache)),
            tells_count: false,
            was_silent: false,
            is_quiet: false,
        }
    }

    /// Whether nobody waits and the cluster needs nothing of the channel.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.machine.is_idle()
    }

    /// The counts over all nodes, if they are known for certain.
    pub(super) fn counts(&self) -> Option<ChannelCounts> {
        let is_presence = self.machine.is_presence();
        if !self.machine.is_live() || (self.was_silent && !is_presence) {
            return None;
        }
        let users = || u32::try_from(self.machine.roster().len()).unwrap_or(u32::MAX);
        Some(ChannelCounts { subscriptions: self.machine.count(), users: is_presence.then(users) })
    }

    /// Notes what the app wants, which a reload may have changed since.
    fn note_wishes(&mut self, kind: ChannelKind, tells_count: bool) {
        self.tells_count = tells_count && !kind.is_presence() && kind != ChannelKind::ServerToUser;
        self.was_silent |= !self.tells_count;
    }

    /// Takes one out of those who wait.
    fn stop_waiting(&mut self, socket_id: SocketId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&socket_id)?;
        if self.waiting.is_empty() && self.waiting.capacity() > SPARE_WAITING {
            self.waiting = HashMap::default();
        }
        self.uncount(&waiting);
        Some(waiting)
    }

    /// The user of one who waits is no newcomer any more.
    fn uncount(&mut self, waiting: &Waiting) {
        if let (Phase::Joining { is_counted: true }, Some(user_id)) = (&waiting.phase, &waiting.user_id)
            && let Some(connections) = self.newcomers.get_mut(user_id)
        {
            *connections -= 1;
            if *connections == 0 {
                self.newcomers.remove(user_id);
            }
            if self.newcomers.is_empty() {
                self.newcomers = HashMap::default();
            }
        }
    }
}

/// One step of a channel, under its lock: calls of the machine, and then all that comes of them.
struct Turn<'a, 'w> {
    delivery: &'a Delivery,
    cluster: &'a adapter::Cluster,
    channel: &'a mut Channel,
    wakes: &'a mut Wakes<'w>,
    now: Instant,
    effects: VecDeque<Effect>,
    /// The roster may say something else than before.
    is_news: bool,
}

impl<'a, 'w> Turn<'a, 'w> {
    const fn new(
        delivery: &'a Delivery,
        cluster: &'a adapter::Cluster,
        channel: &'a mut Channel,
        wakes: &'a mut Wakes<'w>,
        now: Instant,
    ) -> Self {
        let effects = VecDeque::new();
        Self { delivery, cluster, channel, wakes, now, effects, is_news: false }
    }

    fn clustered(&mut self) -> Option<&mut Clustered> {
        self.channel.cluster.as_deref_mut()
    }

    /// Lets the channel have a machine, that of a node which may have lost the store already.
    fn begin(&mut self, company: &Company<'_>) {
        let kind = self.channel.key.name.kind();
        let is_new = self.channel.cluster.is_none();
        let life = self.cluster.life();
        let begin = || Box::new(Clustered::new(life, kind, company.cache));
        self.channel.cluster.get_or_insert_with(begin).note_wishes(kind, company.tells_count);
        self.channel.told.hears = self.channel.told.hears.or(company.hears);
        if is_new && self.cluster.is_away() {
            self.call(ClusterChannel::lost);
        }
    }

    /// Calls the machine; what comes of it waits for [`Self::end`].
    fn call(&mut self, act: impl FnOnce(&mut ClusterChannel, &mut Context<'_>)) {
        let Some(clustered) = self.channel.cluster.as_deref_mut() else { return };
        let mut effects = Vec::new();
        let sequence = self.cluster.sequence();
        act(&mut clustered.machine, &mut Context { now: self.now, sequence, effects: &mut effects });
        // What this node does while it is alone counts at once.
        self.is_news |= !clustered.machine.is_live();
        self.effects.extend(effects);
    }

    /// The same for what the cluster has said.
    fn hear(&mut self, act: impl FnOnce(&mut ClusterChannel, &mut Context<'_>)) {
        self.is_news = true;
        self.call(act);
    }

    /// Carries out all that has come of the calls, and shows the roster that there is now.
    fn end(mut self) {
        let mut told = 0;
        while let Some(effect) = self.effects.pop_front() {
            told += u64::from(matches!(effect, Effect::Tell(_)));
            self.carry_out(effect);
        }
        let Channel { presence, cluster, .. } = self.channel;
        if let (Some(presence), Some(clustered)) = (presence.as_deref_mut(), cluster)
            && (self.is_news || told > 0)
        {
            presence.roster = clustered.machine.roster().clone();
            // Nobody may have been told, but the next roster that is asked for must not be an old one.
            presence.version += u64::from(told == 0);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Subscribe { .. }
            | Effect::Unsubscribe
            | Effect::Change { .. }
            | Effect::Replace { .. }
            | Effect::Read { .. } => self.ask(effect),
            // The roster goes to the client when the join comes up in its inbox, as it is then.
            Effect::Enter { socket_id, answers, .. } => self.let_in(socket_id, answers),
            Effect::Refuse { socket_id, answers } => {
                self.refuse(socket_id, answers, SubscriptionFailure::Busy);
            }
            Effect::Tell(transition) => self.tell(&transition),
            Effect::Count(count) => {
                let is_heard =
                    self.clustered().is_some_and(|clustered| clustered.tells_count && !clustered.is_quiet);
                if is_heard {
                    self.delivery.tell_count(self.channel, count, self.wakes);
                }
            }
            Effect::Keep => self.keep(),
            Effect::Renew(life) => self.cluster.renounce(life),
        }
    }

    fn ask(&self, effect: Effect) {
        let Some(clustered) = self.channel.cluster.as_deref() else { return };
        let is_silent = !clustered.machine.is_presence() && !clustered.tells_count;
        let subject = Subject::Channel(Arc::clone(&self.channel.key));
        self.cluster.ask(Ask { subject, life: clustered.life, effect, is_silent });
    }

    /// Tells the connections that have entered. They are told whatever waits for them: what they have of the others
    /// would stay wrong.
    fn tell(&mut self, transition: &Transition) {
        let Some(presence) = self.channel.presence.as_deref_mut() else { return };
        presence.version += 1;
        let version = presence.version;
        if self.channel.cluster.as_ref().is_some_and(|clustered| clustered.is_quiet) {
            return;
        }
        let name = &self.channel.key.name;
        let frame = match transition {
            Transition::Added(member) => server_frame::member_added(name, member),
            Transition::Removed(user_id) => server_frame::member_removed(name, user_id),
        };
        self.delivery.notify(self.channel, &frame, version, Urgency::Leave, self.wakes);
    }

    /// What came with the answer is the newest event there is.
    fn keep(&mut self) {
        let name = &self.channel.key.name;
        let Some(clustered) = self.channel.cluster.as_deref_mut() else { return };
        let kept = clustered.kept.take();
        let Some(cache) = &clustered.cache else { return };
        match kept {
            Some(KeptFrame { frame, data_bytes, milliseconds }) => {
                cache.keep_for(name, &frame, data_bytes, Duration::from_millis(milliseconds), self.now);
            }
            None => cache.forget(name),
        }
    }

    /// Puts an item that must not be lost into the inbox of the worker that a connection lives on.
    fn put(&mut self, socket_id: SocketId, item: impl FnOnce(ConnectionRef) -> Item) {
        let (worker, connection) = ConnectionRef::of(socket_id);
        if let Some(inbox) = self.delivery.inboxes.get(worker)
            && inbox.reserve(None, Urgency::Leave)
        {
            inbox.put(item(connection));
            self.wakes.add(worker);
        }
    }
}

#[cfg(not(test))]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
use tests::now;

#[cfg(test)]
mod tests;
