//! What the adapter of a node of several says about users. All calls come from its thread.

use std::time::Instant;

use soundpost_protocol::{
    cluster::{
        channel::{Answer, ClusterChannel, Context},
        message::Notice,
    },
    presence::NodeId,
};

use super::{Entry, Occasion};
use crate::{adapter::Subject, apps::UserKey, delivery::Delivery};

impl Delivery {
    /// Something about who is signed in as the user has come.
    pub(in crate::delivery) fn hear_user(
        &self,
        key: &UserKey,
        life: NodeId,
        sequence: u64,
        notice: Notice,
        now: Instant,
    ) {
        self.drive_user(key, now, |machine, cx| machine.heard(life, sequence, notice, cx));
    }

    /// The user's topic is heard from here on.
    pub(in crate::delivery) fn user_acknowledged(&self, key: &UserKey, ticket: u64, now: Instant) {
        self.drive_user(key, now, |machine, cx| machine.acknowledged(ticket, cx));
    }

    /// The shares of the user were replaced or read.
    pub(in crate::delivery) fn user_answered(
        &self,
        key: &UserKey,
        ticket: u64,
        answer: Answer,
        now: Instant,
    ) {
        self.drive_user(key, now, |machine, cx| machine.answered(ticket, answer, cx));
    }

    /// A change was made.
    pub(in crate::delivery) fn user_done(&self, key: &UserKey, sequence: u64, now: Instant) {
        self.drive_user(key, now, |machine, cx| machine.done(sequence, cx));
    }

    /// A change of this life was not made.
    pub(in crate::delivery) fn user_refused(
        &self,
        key: &UserKey,
        life: NodeId,
        sequence: u64,
        is_over: bool,
        now: Instant,
    ) {
        let mut wakes = self.wakes();
        let on = &mut Occasion { key, now, wakes: &mut wakes };
        self.users.change(key, |entry| {
            // What an earlier life was refused, this one has asked anew.
            if entry.clustered.as_ref().is_some_and(|clustered| clustered.life == life) {
                self.drive(entry, on, |machine, cx| machine.refused(sequence, is_over, cx));
            }
        });
    }

    /// The store is away.
    pub(in crate::delivery) fn users_lost(&self, now: Instant) {
        self.drive_users(now, ClusterChannel::lost);
    }

    /// The store is there again.
    pub(in crate::delivery) fn users_back(&self, now: Instant) {
        self.drive_users(now, ClusterChannel::back);
    }

    /// The node has another life.
    pub(in crate::delivery) fn renew_users(&self, life: NodeId, now: Instant) {
        self.change_clustered(now, |entry, on| {
            // A user who has come since the node has it began with it.
            if let Some(clustered) = entry.clustered.as_mut().filter(|clustered| clustered.life != life) {
                clustered.life = life;
                self.drive(entry, on, |machine, cx| machine.renew(life, cx));
            }
        });
    }

    /// The shares of this life are gone.
    pub(in crate::delivery) fn end_life_of_users(&self, life: NodeId, now: Instant) {
        self.change_clustered(now, |entry, on| {
            let is_shown = entry
                .clustered
                .as_ref()
                .is_some_and(|known| known.machine.lives().any(|shown| shown == life));
            if is_shown {
                self.drive(entry, on, |machine, cx| machine.ended(life, cx));
            }
        });
    }

    /// Time has passed. Looks only at users of whom something may come of that.
    pub(in crate::delivery) fn tick_users(&self, now: Instant) {
        let mut wakes = self.wakes();
        for shard in &self.users.shards {
            let restless = std::mem::take(&mut shard.lock().restless);
            for key in &restless {
                let on = &mut Occasion { key, now, wakes: &mut wakes };
                self.users.change(key, |entry| {
                    if let Some(clustered) = &mut entry.clustered {
                        clustered.is_listed = false;
                        self.ask_again(entry, on);
                        self.drive(entry, on, ClusterChannel::tick);
                    }
                });
            }
        }
    }

    /// Whether the store holds nothing of this node's users any more.
    pub(in crate::delivery) fn users_have_left(&self) -> bool {
        let is_stored = |entry: &Entry| {
            entry.clustered.as_ref().is_some_and(|clustered| clustered.machine.may_be_stored())
        };
        !self.users.shards.iter().any(|shard| shard.lock().entries.values().any(is_stored))
    }

    /// Adds every user of whom this node may have a share in the store.
    pub(in crate::delivery) fn add_users(&self, subjects: &mut Vec<Subject>) {
        for shard in &self.users.shards {
            for (key, entry) in &shard.lock().entries {
                if entry.clustered.as_ref().is_some_and(|clustered| clustered.machine.may_be_stored()) {
                    subjects.push(Subject::User(key.clone()));
                }
            }
        }
    }

    fn drive_user(
        &self,
        key: &UserKey,
        now: Instant,
        change: impl FnOnce(&mut ClusterChannel, &mut Context<'_>),
    ) {
        let mut wakes = self.wakes();
        let on = &mut Occasion { key, now, wakes: &mut wakes };
        self.users.change(key, |entry| self.drive(entry, on, change));
    }

    fn drive_users(&self, now: Instant, change: fn(&mut ClusterChannel, &mut Context<'_>)) {
        self.change_clustered(now, |entry, on| self.drive(entry, on, change));
    }

    /// Lets `change` work on every user the cluster knows, one after the other, so that no worker waits for all of them.
    /// Who comes meanwhile finds what holds from now on in the [`Cluster`](crate::adapter::Cluster).
    fn change_clustered(&self, now: Instant, mut change: impl FnMut(&mut Entry, &mut Occasion<'_, '_>)) {
        for shard in &self.users.shards {
            let keys: Vec<UserKey> = {
                let shard = shard.lock();
                let known = shard.entries.iter().filter(|(_, entry)| entry.clustered.is_some());
                known.map(|(key, _)| key.clone()).collect()
            };
            let mut wakes = self.wakes();
            for key in &keys {
                let on = &mut Occasion { key, now, wakes: &mut wakes };
                self.users.change(key, |entry| change(entry, on));
            }
        }
    }
}
