//! The users of this node: which connections are theirs, and who watches them.
//!
//! A user is online while a connection is signed in as that user, and for a while after the last has gone, so that a
//! page that is reloaded is not seen to leave.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    time::{Duration, Instant},
};

use foldhash::quality::RandomState;
use parking_lot::{Mutex, MutexGuard};
use soundpost_protocol::{presence::UserId, server_frame, socket_id::SocketId, user::User, websocket::Frame};

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

#[derive(Debug, Default)]
struct Entry {
    signed_in: Vec<SocketId>,
    /// Connections that are on presence channels as this user, once for each channel.
    present: Vec<SocketId>,
    watchers: Vec<SocketId>,
    /// The last connection has signed out; offline from then on if none comes.
    offline_at: Option<PutOff>,
}

impl Entry {
    const fn is_online(&self) -> bool {
        !self.signed_in.is_empty() || self.offline_at.is_some()
    }

    const fn is_empty(&self) -> bool {
        self.present.is_empty() && self.watchers.is_empty() && !self.is_online()
    }
}

type Shard = HashMap<UserKey, Entry, RandomState>;

/// All users this node has anything to do with.
#[derive(Debug)]
pub struct Users {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

impl Default for Users {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::default() }
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
        let entry = shard.entry(key.clone()).or_default();
        let result = change(entry);
        if entry.is_empty() {
            shard.remove(key);
            if shard.capacity() > 4 * shard.len() + 64 {
                let twice = 2 * shard.len();
                shard.shrink_to(twice);
            }
        }
        result
    }
}

/// Removes one `wanted`, whatever the order.
fn remove_one(list: &mut Vec<SocketId>, wanted: SocketId) {
    if let Some(at) = list.iter().position(|found| *found == wanted) {
        list.swap_remove(at);
        if list.is_empty() {
            *list = Vec::new();
        }
    }
}

impl Delivery {
    /// Notes who a connection is signed in as, and whom it now watches instead of `before`. Gives back what to tell the
    /// client about those it watches; those who watch the user are told if it was not online.
    pub fn sign_in(
        &self,
        app: AppIndex,
        socket_id: SocketId,
        user: &User,
        before: Option<&User>,
        wakes: &mut Wakes<'_>,
    ) -> Option<Frame> {
        let key = |id: &UserId| UserKey { app, id: id.clone() };
        if before.is_none() {
            self.users.change(&key(&user.id), |entry| {
                let was_online = entry.is_online();
                if let Some(put_off) = entry.offline_at.take() {
                    self.ticker.call_off(put_off);
                }
                entry.signed_in.push(socket_id);
                if !was_online {
                    let online = server_frame::watchlist_events(std::slice::from_ref(&user.id), &[]);
                    self.tell_all(&entry.watchers, &online, wakes);
                }
            });
        }
        self.unwatch(app, socket_id, before);
        let (mut online, mut offline) = (Vec::new(), Vec::new());
        for watched in &user.watchlist {
            let is_online = self.users.change(&key(watched), |entry| {
                entry.watchers.push(socket_id);
                entry.is_online()
            });
            if is_online { &mut online } else { &mut offline }.push(watched.clone());
        }
        (!user.watchlist.is_empty()).then(|| server_frame::watchlist_events(&online, &offline))
    }

    /// Forgets a connection that was signed in and has ended.
    pub fn sign_out(&self, app: AppIndex, socket_id: SocketId, user: &User) {
        self.unwatch(app, socket_id, Some(user));
        let key = UserKey { app, id: user.id.clone() };
        self.users.change(&key, |entry| {
            remove_one(&mut entry.signed_in, socket_id);
            if entry.signed_in.is_empty() {
                let due = Due::Offline(key.clone());
                entry.offline_at = Some(self.ticker.put_off(Instant::now() + OFFLINE_HOLD, due));
            }
        });
    }

    /// Tells those who watch a user that it is offline, if it has not come back.
    pub(super) fn go_offline(&self, key: &UserKey, now: Instant, wakes: &mut Wakes<'_>) {
        self.users.change(key, |entry| {
            if entry.offline_at.is_some_and(|put_off| put_off.time <= now) {
                entry.offline_at = None;
                let offline = server_frame::watchlist_events(&[], std::slice::from_ref(&key.id));
                self.tell_all(&entry.watchers, &offline, wakes);
            }
        });
    }

    fn unwatch(&self, app: AppIndex, socket_id: SocketId, user: Option<&User>) {
        for watched in user.iter().flat_map(|user| &user.watchlist) {
            let key = UserKey { app, id: watched.clone() };
            self.users.change(&key, |entry| remove_one(&mut entry.watchers, socket_id));
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

    /// Ends every connection that is signed in as this user or, with `present`, on a presence channel as this user.
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

    fn tell_all(&self, connections: &[SocketId], frame: &Frame, wakes: &mut Wakes<'_>) {
        for connection in connections {
            let (worker, _) = ConnectionRef::of(*connection);
            if let Some(inbox) = self.inboxes.get(worker)
                && inbox.reserve(Some(frame), Urgency::Leave)
            {
                inbox.put(Item::Tell { connection: *connection, frame: frame.clone() });
                wakes.add(worker);
            }
        }
    }
}
