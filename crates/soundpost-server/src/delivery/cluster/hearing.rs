//! What the adapter of several nodes says to delivery.

use soundpost_protocol::{
    cluster::{channel::Answer, message::Notice},
    webhook::event::Encoded,
    websocket::Frame,
};

use super::{super::directory::Shard, *};
use crate::{
    adapter::{Broadcast, HeardEvent, Hearing},
    apps::{AppIndex, UserKey},
};

/// A lock is given back after so many channels, so that workers wait for no more.
const VISITED_MAX: usize = 32;

impl Delivery {
    /// Lets a channel of this node have a turn, if there is such a channel.
    fn on_channel(&self, key: &ChannelKey, now: Instant, act: impl FnOnce(&mut Turn<'_, '_>)) {
        let mut wakes = self.wakes();
        let mut shard = self.directory.lock(key);
        self.have_turn(&mut shard, key, now, &mut wakes, act);
    }

    fn have_turn(
        &self,
        shard: &mut Shard,
        key: &ChannelKey,
        now: Instant,
        wakes: &mut Wakes<'_>,
        act: impl FnOnce(&mut Turn<'_, '_>),
    ) {
        let Some(cluster) = &self.cluster else { return };
        let Some(channel) = shard.get_mut(key).filter(|channel| channel.cluster.is_some()) else { return };
        let mut turn = Turn::new(self, cluster, channel, wakes, now);
        act(&mut turn);
        turn.end();
        shard.settle(key);
    }

    /// Lets every channel that `list` names have a turn, a few under each lock.
    fn visit(
        &self,
        now: Instant,
        list: impl Fn(&Shard) -> Vec<Arc<ChannelKey>>,
        act: impl Fn(&mut Turn<'_, '_>),
    ) {
        for shard in self.directory.shards() {
            let keys = list(&shard);
            drop(shard);
            for keys in keys.chunks(VISITED_MAX) {
                let Some(first) = keys.first() else { continue };
                let mut wakes = self.wakes();
                let mut shard = self.directory.lock(first);
                for key in keys {
                    self.have_turn(&mut shard, key, now, &mut wakes, &act);
                }
            }
        }
    }

    fn visit_all(&self, act: impl Fn(&mut Turn<'_, '_>)) {
        self.visit(now(), Shard::keys, act);
    }

    /// Time has passed for the channels to which that matters.
    pub(in crate::delivery) fn tick_channels(&self, now: Instant) {
        self.visit(now, Shard::restless, |turn| turn.call(ClusterChannel::tick));
    }

    /// The channels of which the store may hold something that is this node's.
    fn stored_channels(&self) -> Vec<Subject> {
        let mut stored = Vec::new();
        for shard in self.directory.shards() {
            let may_be = |channel: &&Channel| {
                channel.cluster.as_ref().is_some_and(|clustered| clustered.machine.may_be_stored())
            };
            let keys = shard.channels().filter(may_be).map(|channel| Arc::clone(&channel.key));
            stored.extend(keys.map(Subject::Channel));
        }
        stored
    }
}

impl Hearing for Delivery {
    fn event(&self, key: &Arc<ChannelKey>, event: HeardEvent) {
        let HeardEvent { frame, exclude, keep } = event;
        let mut wakes = self.wakes();
        let mut shard = self.directory.lock(key);
        let Some(channel) = shard.get_mut(key) else { return };
        // Not refused for want of room: the adapter asks for that before it reads on.
        self.put_all(channel, &frame, Urgency::Leave, &mut wakes, || Item::Event {
            channel: Arc::clone(&channel.key),
            frame: frame.clone(),
            exclude,
        });
        if let (Some(data_bytes), Some(clustered)) = (keep, channel.cluster.as_deref_mut()) {
            clustered.machine.heard_kept_event();
            clustered.cache.iter().for_each(|cache| cache.keep(&key.name, &frame, data_bytes, now()));
        }
    }

    fn kept(&self, key: &Arc<ChannelKey>, frame: &Frame, data_bytes: usize, is_newest: bool) {
        let mut shard = self.directory.lock(key);
        let Some(clustered) = shard.get_mut(key).and_then(|channel| channel.cluster.as_deref_mut()) else {
            return;
        };
        clustered.machine.heard_kept_event();
        if is_newest {
            // An answer may have put an older one in its place since.
            clustered.cache.iter().for_each(|cache| cache.keep(&key.name, frame, data_bytes, now()));
        }
    }

    fn notice(&self, subject: &Subject, life: NodeId, sequence: u64, notice: Notice) {
        match subject {
            Subject::Channel(key) => self.on_channel(key, now(), |turn| {
                turn.hear(|machine, cx| machine.heard(life, sequence, notice, cx));
            }),
            Subject::User(key) => self.hear_user(key, life, sequence, notice, now()),
        }
    }

    fn acknowledged(&self, subject: &Subject, ticket: u64) {
        match subject {
            Subject::Channel(key) => self.on_channel(key, now(), |turn| {
                turn.call(|machine, cx| machine.acknowledged(ticket, cx));
            }),
            Subject::User(key) => self.user_acknowledged(key, ticket, now()),
        }
    }

    fn answered(&self, subject: &Subject, ticket: u64, answer: Answer, kept: Option<KeptFrame>) {
        match subject {
            Subject::Channel(key) => self.on_channel(key, now(), |turn| {
                if let Some(clustered) = turn.clustered().filter(|found| !found.machine.is_keep_due()) {
                    clustered.kept = kept;
                }
                turn.hear(|machine, cx| machine.answered(ticket, answer, cx));
            }),
            Subject::User(key) => self.user_answered(key, ticket, answer, now()),
        }
    }

    fn done(&self, subject: &Subject, sequence: u64) {
        match subject {
            Subject::Channel(key) => self.on_channel(key, now(), |turn| {
                turn.call(|machine, cx| machine.done(sequence, cx));
            }),
            Subject::User(key) => self.user_done(key, sequence, now()),
        }
    }

    fn refused(&self, subject: &Subject, life: NodeId, sequence: u64, is_over: bool) {
        match subject {
            Subject::Channel(key) => self.on_channel(key, now(), |turn| {
                // What an earlier life wanted is in what this one has put in the place of its share.
                if turn.clustered().is_some_and(|clustered| clustered.life == life) {
                    turn.call(|machine, cx| machine.refused(sequence, is_over, cx));
                }
            }),
            Subject::User(key) => self.user_refused(key, life, sequence, is_over, now()),
        }
    }

    fn lost(&self) {
        self.visit_all(|turn| turn.call(ClusterChannel::lost));
        self.users_lost(now());
    }

    fn back(&self) {
        self.visit_all(|turn| turn.call(ClusterChannel::back));
        self.users_back(now());
    }

    fn renew(&self, life: NodeId) {
        self.visit_all(|turn| {
            let Some(clustered) = turn.clustered() else { return };
            if std::mem::replace(&mut clustered.life, life) != life {
                turn.call(|machine, cx| machine.renew(life, cx));
            }
        });
        self.renew_users(life, now());
    }

    fn tick(&self) {
        self.tick_channels(now());
        self.tick_users(now());
    }

    fn ended(&self, life: NodeId) {
        self.visit_all(|turn| turn.call(|machine, cx| machine.ended(life, cx)));
        self.end_life_of_users(life, now());
    }

    fn terminate(&self, user: &UserKey, present: bool) {
        self.terminate(user, present);
    }

    fn relay_failed(&self, sender: SocketId, channel: &ChannelKey) {
        let (worker, _) = ConnectionRef::of(sender);
        let mut wakes = self.wakes();
        if let Some(inbox) = self.inboxes.get(worker)
            && inbox.reserve(None, Urgency::Leave)
        {
            inbox.put(Item::RelayFailed { connection: sender, channel: channel.name.clone() });
            wakes.add(worker);
        }
    }

    fn note(&self, app: AppIndex, event: &Encoded) {
        self.webhooks.note(app, event, now());
    }

    fn has_told(&self, app: AppIndex) {
        self.webhooks.has_told(app, now());
    }

    fn has_noted(&self) -> bool {
        self.webhooks.has_noted()
    }

    fn deliver_here(&self, broadcasts: &[Broadcast]) -> bool {
        self.trigger(broadcasts).is_ok()
    }

    fn has_room(&self) -> bool {
        self.inboxes.have_room()
    }

    fn has_left(&self) -> bool {
        self.users_have_left() && self.stored_channels().is_empty()
    }

    fn subjects(&self) -> Vec<Subject> {
        let mut stored = self.stored_channels();
        self.add_users(&mut stored);
        stored
    }
}
