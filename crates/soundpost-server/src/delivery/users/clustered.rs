//! A user as the cluster knows it: what this node's connections want of the user's machine, and what comes of it.

use std::sync::Arc;

use soundpost_protocol::{
    cluster::{
        channel::{ClusterChannel, Context, Effect},
        share::{Entry as Member, Transition},
    },
    presence::{self, NodeId, Roster, UserId},
    socket_id::SocketId,
};

use super::{Entry, Occasion, SigningIn, change_of, overview::OVERVIEW_WAIT, remove_one};
use crate::{
    adapter::{Ask, Cluster, Subject},
    apps::UserKey,
    delivery::{Delivery, Due, Wakes},
};

/// What the cluster knows of a user. While it is there, every connection of this node that is signed in as the user is
/// a member of the machine, and every one that watches the user an observer, but for those that were refused.
#[derive(Debug)]
pub(super) struct Clustered {
    pub(super) machine: ClusterChannel,
    /// The life of this node that the machine speaks for.
    pub(super) life: NodeId,
    /// Connections that want to watch and do not know yet what there is to see.
    pub(super) waiting: Vec<SocketId>,
    /// Connections for which the cluster was too busy: they ask again at the next tick.
    pub(super) refused: Vec<SocketId>,
    /// The user is in the list of those who wait for time to pass.
    pub(super) is_listed: bool,
}

impl Clustered {
    fn new(life: NodeId) -> Self {
        let machine = ClusterChannel::watched_user(life);
        Self { machine, life, waiting: Vec::new(), refused: Vec::new(), is_listed: false }
    }

    /// A connection watches no longer.
    pub(super) fn unobserve(&mut self, socket_id: SocketId, was_watching: bool) {
        if was_watching || remove_one(&mut self.waiting, socket_id) {
            self.machine.unobserve(socket_id);
        } else {
            remove_one(&mut self.refused, socket_id);
        }
    }

    fn is_restless(&self) -> bool {
        !self.refused.is_empty() || !self.machine.is_at_rest()
    }
}

impl Entry {
    /// After a change: forgets a machine that nobody needs; true if the user is to be listed among the restless.
    pub(super) fn settle(&mut self) -> bool {
        let Some(clustered) = &mut self.clustered else { return false };
        let is_wanted = !self.signed_in.is_empty()
            || !self.watchers.is_empty()
            || !clustered.waiting.is_empty()
            || !clustered.refused.is_empty();
        if !is_wanted && clustered.machine.is_idle() {
            self.clustered = None;
            return false;
        }
        let is_news = !clustered.is_listed && clustered.is_restless();
        clustered.is_listed |= is_news;
        is_news
    }
}

fn member(socket_id: SocketId, user_id: &UserId) -> Member {
    // Nobody is shown how a user describes itself here, nor since when.
    let member = Arc::new(presence::Member { user_id: user_id.clone(), user_info: None });
    Member { socket_id, joined_at: 0, member }
}

impl Delivery {
    /// A connection is signed in as the user, for all nodes.
    pub(super) fn join_user(&self, entry: &mut Entry, socket_id: SocketId, on: &mut Occasion<'_, '_>) {
        self.begin_user(entry, on);
        entry.signed_in.push(socket_id);
        self.join_machine(entry, socket_id, on);
    }

    fn join_machine(&self, entry: &mut Entry, socket_id: SocketId, on: &mut Occasion<'_, '_>) {
        let member = member(socket_id, &on.key.id);
        self.drive(entry, on, |machine, cx| machine.join(socket_id, Some(member), cx));
    }

    /// It is not any more.
    pub(super) fn leave_user(&self, entry: &mut Entry, socket_id: SocketId, on: &mut Occasion<'_, '_>) {
        let was_refused =
            entry.clustered.as_mut().is_some_and(|clustered| remove_one(&mut clustered.refused, socket_id));
        if !was_refused {
            let user_id = &on.key.id;
            self.drive(entry, on, |machine, cx| machine.leave(socket_id, Some(user_id), cx));
        }
    }

    /// A connection watches those on its list from now on. It is told of them all at once, when all are known.
    pub(super) fn watch_users(&self, signing: &SigningIn<'_>, wakes: &mut Wakes<'_>) {
        let SigningIn { app, socket_id, user, now, .. } = *signing;
        let due = self.ticker.put_off(now + OVERVIEW_WAIT, Due::Overview(socket_id));
        self.users.overviews.begin(socket_id, &user.watchlist, due);
        for watched in &user.watchlist {
            let key = UserKey { app, id: watched.clone() };
            let on = &mut Occasion { key: &key, now, wakes };
            self.users.change(&key, |entry| {
                self.begin_user(entry, on);
                self.observe(entry, socket_id, on);
            });
        }
    }

    fn observe(&self, entry: &mut Entry, socket_id: SocketId, on: &mut Occasion<'_, '_>) {
        if let Some(clustered) = &mut entry.clustered {
            clustered.waiting.push(socket_id);
            self.drive(entry, on, |machine, cx| machine.observe(socket_id, cx));
        }
    }

    /// Gives the user a machine, if it has none.
    fn begin_user(&self, entry: &mut Entry, on: &mut Occasion<'_, '_>) {
        let Some(cluster) = self.cluster.as_deref().filter(|_| entry.clustered.is_none()) else { return };
        entry.clustered = Some(Box::new(Clustered::new(cluster.life())));
        if cluster.is_away() {
            self.drive(entry, on, ClusterChannel::lost);
        }
        // Those that signed in while users of the app could not be watched.
        for socket_id in entry.signed_in.clone() {
            self.join_machine(entry, socket_id, on);
        }
    }

    /// Lets `change` work on the user's machine, if it has one, and carries out what comes of it.
    pub(super) fn drive(
        &self,
        entry: &mut Entry,
        on: &mut Occasion<'_, '_>,
        change: impl FnOnce(&mut ClusterChannel, &mut Context<'_>),
    ) {
        let (Some(cluster), Some(clustered)) = (&self.cluster, &mut entry.clustered) else { return };
        let mut effects = Vec::new();
        let cx = &mut Context { now: on.now, sequence: cluster.sequence(), effects: &mut effects };
        change(&mut clustered.machine, cx);
        for effect in effects {
            self.carry_out(cluster, entry, effect, on);
        }
    }

    fn carry_out(&self, cluster: &Cluster, entry: &mut Entry, effect: Effect, on: &mut Occasion<'_, '_>) {
        let Some(clustered) = &mut entry.clustered else { return };
        match effect {
            Effect::Subscribe { .. }
            | Effect::Unsubscribe
            | Effect::Change { .. }
            | Effect::Replace { .. }
            | Effect::Read { .. } => {
                let subject = Subject::User(on.key.clone());
                cluster.ask(Ask { subject, life: clustered.life, effect, is_silent: false });
            }
            Effect::Enter { socket_id, roster, .. } => self.enter_watcher(entry, socket_id, &roster, on),
            Effect::Refuse { socket_id, .. } => {
                remove_one(&mut clustered.waiting, socket_id);
                clustered.refused.push(socket_id);
            }
            Effect::Tell(Transition::Added(_)) => self.user_came(entry, on),
            Effect::Tell(Transition::Removed(_)) => self.user_went(entry, on),
            Effect::Renew(life) => cluster.renounce(life),
            // No webhook tells of users, and no count or kept event belongs to one.
            Effect::Count(_) | Effect::Keep => {}
        }
    }

    /// A connection that waited to watch hears of the user from now on. One that signs in has nothing to be told.
    fn enter_watcher(
        &self,
        entry: &mut Entry,
        socket_id: SocketId,
        roster: &Roster,
        on: &mut Occasion<'_, '_>,
    ) {
        let Some(clustered) = &mut entry.clustered else { return };
        if !remove_one(&mut clustered.waiting, socket_id) {
            return;
        }
        entry.watchers.push(socket_id);
        let is_online = roster.contains(&on.key.id) || entry.offline_at.is_some();
        // Who was told before this was known takes the user for offline.
        if !self.note_overview(socket_id, is_online, on) && is_online {
            self.tell(socket_id, &change_of(&on.key.id, true), on.wakes);
        }
    }

    /// Brings those to the machine again for whom the cluster was too busy.
    pub(super) fn ask_again(&self, entry: &mut Entry, on: &mut Occasion<'_, '_>) {
        let Some(clustered) = &mut entry.clustered else { return };
        for socket_id in std::mem::take(&mut clustered.refused) {
            if entry.signed_in.contains(&socket_id) {
                self.join_machine(entry, socket_id, on);
            } else {
                self.observe(entry, socket_id, on);
            }
        }
    }
}
