//! What channels and users owe at a later time: the last count of a busy channel, a member who may yet come back, a
//! user who may only be reloading a page.
//!
//! Holds the list and nothing else; whoever runs the node asks for what is due and carries it out.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use parking_lot::Mutex;
use soundpost_protocol::{presence::UserId, socket_id::SocketId};
use tokio::sync::Notify;

use super::Delivery;
use crate::apps::{ChannelKey, UserKey};

/// Something that was put off.
#[derive(Clone, Debug)]
pub enum Due {
    /// Tell the channel's subscribers how many they are.
    Count(Arc<ChannelKey>),
    /// The member has left for good, unless it came back.
    Removed(Arc<ChannelKey>, UserId),
    /// The user is offline, unless it came back.
    Offline(UserKey),
    /// Tell the connection of those it watches, whether or not the cluster has said all.
    Overview(SocketId),
}

/// Something that was put off, by which it can be called off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PutOff {
    pub(super) time: Instant,
    number: u64,
}

/// What was put off, by time. A channel, a member, a user and a connection have at most one entry each of a kind: who
/// puts something off again calls the one before off.
#[derive(Debug, Default)]
pub struct Ticker {
    list: Mutex<List>,
    sooner: Notify,
}

#[derive(Debug, Default)]
struct List {
    by_time: BTreeMap<PutOff, Due>,
    added: u64,
}

impl Ticker {
    /// Puts `due` off until `time`.
    pub(super) fn put_off(&self, time: Instant, due: Due) -> PutOff {
        let mut list = self.list.lock();
        list.added += 1;
        let key = PutOff { time, number: list.added };
        let is_first = list.by_time.first_key_value().is_none_or(|(first, _)| key < *first);
        list.by_time.insert(key, due);
        drop(list);
        if is_first {
            self.sooner.notify_one();
        }
        key
    }

    /// Calls something off; nothing happens if it was due already.
    pub(super) fn call_off(&self, put_off: PutOff) {
        self.list.lock().by_time.remove(&put_off);
    }

    /// When the next is due, if anything was put off.
    pub fn next(&self) -> Option<Instant> {
        self.list.lock().by_time.first_key_value().map(|(put_off, _)| put_off.time)
    }

    /// When the last is due.
    fn last(&self) -> Option<Instant> {
        self.list.lock().by_time.last_key_value().map(|(put_off, _)| put_off.time)
    }

    /// Takes what is due by `now`.
    pub fn take(&self, now: Instant) -> Vec<Due> {
        let list = &mut *self.list.lock();
        let later = list.by_time.split_off(&PutOff { time: now, number: u64::MAX });
        std::mem::replace(&mut list.by_time, later).into_values().collect()
    }

    /// Waits until something is due sooner than anything was before. Cancel safe.
    pub async fn sooner(&self) {
        self.sooner.notified().await;
    }
}

impl Delivery {
    /// Carries out what was put off.
    pub fn come_due(&self, due: &Due, now: Instant) {
        let mut wakes = self.wakes();
        match due {
            Due::Count(key) => self.count_due(key, now, &mut wakes),
            Due::Removed(key, user_id) => self.removal_due(key, user_id, now, &mut wakes),
            Due::Offline(key) => self.go_offline(key, now, &mut wakes),
            Due::Overview(connection) => self.overview_due(*connection, now, &mut wakes),
        }
    }

    /// Carries out at once whatever was put off, on a node that is alone: it ends, and nobody comes back to it.
    pub fn end_holds(&self) {
        let Some(last) = self.ticker.last().filter(|_| self.cluster.is_none()) else { return };
        for due in self.ticker.take(last) {
            self.come_due(&due, last);
        }
    }
}
