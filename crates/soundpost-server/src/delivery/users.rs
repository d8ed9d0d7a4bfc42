//! The users of this node: which connections are theirs, and who watches them.
//!
//! A user is online while a connection is signed in as that user, and for a while after the last has gone, so that a
//! page that is reloaded is not seen to leave. On a node of several that is a connection on any node: who signs in is
//! a member, and who watches an observer, of the user's [machine](soundpost_protocol::cluster::channel). The machine
//! says at once who has come and gone; that a user has gone is then held back here, by each node for those who watch
//! on it, whatever the reason: a page, a node, or the way to it.

mod clustered;
mod hearing;
mod overview;

use std::{
    collections::HashMap,
    hash::BuildHasher,
    time::{Duration, Instant},
};

#[cfg(test)]
// The histories of the tests are the same for the same seed.
use foldhash::quality::FixedState as RandomState;
#[cfg(not(test))]
use foldhash::quality::RandomState;
use parking_lot::{Mutex, MutexGuard};
use soundpost_protocol::{presence::UserId, server_frame, socket_id::SocketId, user::User, websocket::Frame};

use self::{clustered::Clustered, overview::Overviews};
use super::{
    ConnectionRef, Delivery, Item, Wakes,
    inbox::Urgency,
    ticker::{Due, PutOff},
};
use crate::apps::{AppIndex, UserKey};

/// Locks the users are spread over.
const SHARDS: usize = 16;

/// Nobody is told that a user is offline before this has passed.
const OFFLINE_HOLD: Duration = Duration::from_secs(3);

/// A connection that signs in, or again.
#[derive(Clone, Copy, Debug)]
pub struct SigningIn<'a> {
    /// Whose.
    pub app: AppIndex,
    /// Which.
    pub socket_id: SocketId,
    /// Who, and whom that user watches.
    pub user: &'a User,
    /// The same user with the list of before, if it was signed in.
    pub before: Option<&'a User>,
    /// Users of the app may be watched.
    pub is_watchable: bool,
    /// When.
    pub now: Instant,
}

/// Of whom something is done, when, and who is to be woken for it.
struct Occasion<'a, 'b> {
    key: &'a UserKey,
    now: Instant,
    wakes: &'a mut Wakes<'b>,
}

#[derive(Debug, Default)]
struct Entry {
    signed_in: Vec<SocketId>,
    /// Connections that are on presence channels as this user, once for each channel.
    present: Vec<SocketId>,
    /// Connections that hear of the user's coming and going.
    watchers: Vec<SocketId>,
    /// The last connection has signed out; offline from then on if none comes.
    offline_at: Option<PutOff>,
    /// What the cluster knows of the user.
    clustered: Option<Box<Clustered>>,
}

impl Entry {
    /// As far as this node alone can say.
    const fn is_online(&self) -> bool {
        !self.signed_in.is_empty() || self.offline_at.is_some()
    }

    const fn is_empty(&self) -> bool {
        self.present.is_empty() && self.watchers.is_empty() && !self.is_online() && self.clustered.is_none()
    }
}

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<UserKey, Entry, RandomState>,
    /// Users whose machines wait for time to pass. Some of them may not do so any more.
    restless: Vec<UserKey>,
}

impl Shard {
    fn remove(&mut self, key: &UserKey) {
        let entries = &mut self.entries;
        entries.remove(key);
        if entries.capacity() > 4 * entries.len() + 64 {
            let twice = 2 * entries.len();
            entries.shrink_to(twice);
        }
    }
}

/// All users this node has anything to do with.
#[derive(Debug)]
pub struct Users {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    overviews: Overviews,
}

impl Default for Users {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::default(), overviews: Overviews::default() }
    }
}

impl Users {
    #[expect(clippy::indexing_slicing, reason = "the index is a remainder of the number of shards")]
    fn lock(&self, key: &UserKey) -> MutexGuard<'_, Shard> {
        let shard = usize::try_from(self.hasher.hash_one(&key.id) >> 32).unwrap_or(0) % SHARDS;
        self.shards[shard].lock()
    }

    /// Lets `change` work on a user, who is forgotten afterwards if there is nothing to remember.
    fn change<T>(&self, key: &UserKey, change: impl FnOnce(&mut Entry) -> T) -> T {
        let mut shard = self.lock(key);
        let shard = &mut *shard;
        let entry = shard.entries.entry(key.clone()).or_default();
        let result = change(entry);
        if entry.settle() {
            shard.restless.push(key.clone());
        }
        if entry.is_empty() {
            shard.remove(key);
        }
        result
    }
}

/// Removes one `wanted`, whatever the order; whether it was there.
fn remove_one(list: &mut Vec<SocketId>, wanted: SocketId) -> bool {
    let Some(at) = list.iter().position(|found| *found == wanted) else { return false };
    list.swap_remove(at);
    if list.is_empty() {
        *list = Vec::new();
    }
    true
}

impl Delivery {
    /// Notes who a connection is signed in as, and whom it now watches instead of before. Gives back what to tell the
    /// client about those it watches; those who watch the user are told if it was not online.
    ///
    /// On a node of several nothing is given back: the client is told by way of its inbox, as soon as the cluster has
    /// said who is online, or what is known by then after two seconds.
    pub fn sign_in(&self, signing: &SigningIn<'_>, wakes: &mut Wakes<'_>) -> Option<Frame> {
        let SigningIn { app, socket_id, user, before, is_watchable, now } = *signing;
        if before.is_none() {
            let key = UserKey { app, id: user.id.clone() };
            let on = &mut Occasion { key: &key, now, wakes };
            self.users.change(&key, |entry| {
                if self.is_clustered() && (is_watchable || entry.clustered.is_some()) {
                    self.join_user(entry, socket_id, on);
                } else {
                    self.come(entry, socket_id, on);
                }
            });
        }
        self.unwatch(app, socket_id, before);
        if user.watchlist.is_empty() {
            return None;
        }
        if self.is_clustered() {
            self.watch_users(signing, wakes);
            return None;
        }
        let (mut online, mut offline) = (Vec::new(), Vec::new());
        for watched in &user.watchlist {
            let is_online = self.users.change(&UserKey { app, id: watched.clone() }, |entry| {
                entry.watchers.push(socket_id);
                entry.is_online()
            });
            if is_online { &mut online } else { &mut offline }.push(watched.clone());
        }
        Some(server_frame::watchlist_events(&online, &offline))
    }

    fn come(&self, entry: &mut Entry, socket_id: SocketId, on: &mut Occasion<'_, '_>) {
        let was_signed_in = !entry.signed_in.is_empty();
        entry.signed_in.push(socket_id);
        if !was_signed_in {
            self.user_came(entry, on);
        }
    }

    /// Forgets a connection that was signed in and has ended.
    pub fn sign_out(&self, app: AppIndex, socket_id: SocketId, user: &User, now: Instant) {
        let mut wakes = self.wakes();
        self.unwatch(app, socket_id, Some(user));
        let key = UserKey { app, id: user.id.clone() };
        let on = &mut Occasion { key: &key, now, wakes: &mut wakes };
        self.users.change(&key, |entry| {
            remove_one(&mut entry.signed_in, socket_id);
            if entry.clustered.is_some() {
                self.leave_user(entry, socket_id, on);
            } else if entry.signed_in.is_empty() {
                self.user_went(entry, on);
            }
        });
    }

    /// The first connection of a user has come.
    fn user_came(&self, entry: &mut Entry, on: &mut Occasion<'_, '_>) {
        match entry.offline_at.take() {
            // Who comes back in time was never gone.
            Some(put_off) => self.ticker.call_off(put_off),
            None => self.tell_watchers(&entry.watchers, true, on),
        }
    }

    /// The last connection of a user has gone, perhaps to come back.
    fn user_went(&self, entry: &mut Entry, on: &Occasion<'_, '_>) {
        let put_off = self.ticker.put_off(on.now + OFFLINE_HOLD, Due::Offline(on.key.clone()));
        if let Some(before) = entry.offline_at.replace(put_off) {
            self.ticker.call_off(before);
        }
    }

    /// Tells those who watch a user that it is offline, if it has not come back.
    pub(super) fn go_offline(&self, key: &UserKey, now: Instant, wakes: &mut Wakes<'_>) {
        let on = &mut Occasion { key, now, wakes };
        self.users.change(key, |entry| {
            if entry.offline_at.is_some_and(|put_off| put_off.time <= now) {
                entry.offline_at = None;
                self.tell_watchers(&entry.watchers, false, on);
            }
        });
    }

    fn unwatch(&self, app: AppIndex, socket_id: SocketId, user: Option<&User>) {
        let Some(user) = user.filter(|user| !user.watchlist.is_empty()) else { return };
        if let Some(put_off) = self.users.overviews.end(socket_id) {
            self.ticker.call_off(put_off);
        }
        for watched in &user.watchlist {
            let key = UserKey { app, id: watched.clone() };
            self.users.change(&key, |entry| {
                let was_watching = remove_one(&mut entry.watchers, socket_id);
                if let Some(clustered) = &mut entry.clustered {
                    clustered.unobserve(socket_id, was_watching);
                }
            });
        }
    }

    /// Notes that a connection is on a presence channel as this user, or no longer.
    pub(super) fn note_presence(&self, key: &UserKey, socket_id: SocketId, is_present: bool) {
        self.users.change(key, |entry| {
            if is_present {
                entry.present.push(socket_id);
            } else {
                remove_one(&mut entry.present, socket_id);
            }
        });
    }

    /// Ends every connection of this node that is signed in as this user or, with `present`, on a presence channel as
    /// this user.
    pub fn terminate(&self, key: &UserKey, present: bool) {
        let mut connections = self.users.change(key, |entry| {
            let on_channels = entry.present.iter().filter(|_| present);
            entry.signed_in.iter().chain(on_channels).copied().collect::<Vec<_>>()
        });
        connections.sort_unstable();
        connections.dedup();
        let mut wakes = self.wakes();
        for connection in connections {
            let (worker, _) = ConnectionRef::of(connection);
            if let Some(inbox) = self.inboxes.get(worker)
                && inbox.reserve(None, Urgency::Leave)
            {
                inbox.put(Item::Terminate { connection });
                wakes.add(worker);
            }
        }
    }

    /// Tells those who watch a user what has become of it. Who has not been told of anybody yet hears it with the rest.
    fn tell_watchers(&self, watchers: &[SocketId], is_online: bool, on: &mut Occasion<'_, '_>) {
        let mut frame = None;
        for watcher in watchers {
            if self.is_clustered() && self.note_overview(*watcher, is_online, on) {
                continue;
            }
            let frame = frame.get_or_insert_with(|| change_of(&on.key.id, is_online));
            self.tell(*watcher, frame, on.wakes);
        }
    }

    fn tell(&self, connection: SocketId, frame: &Frame, wakes: &mut Wakes<'_>) {
        let (worker, _) = ConnectionRef::of(connection);
        if let Some(inbox) = self.inboxes.get(worker)
            && inbox.reserve(Some(frame), Urgency::Leave)
        {
            inbox.put(Item::Tell { connection, frame: frame.clone() });
            wakes.add(worker);
        }
    }
}

fn change_of(user_id: &UserId, is_online: bool) -> Frame {
    let user_id = std::slice::from_ref(user_id);
    let (online, offline) = if is_online { (user_id, &[][..]) } else { (&[][..], user_id) };
    server_frame::watchlist_events(online, offline)
}

#[cfg(test)]
mod tests;
