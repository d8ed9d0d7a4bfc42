//! The subscribers of a worker's channels, without locks.
//!
//! A subscriber knows its place in the channel's list through its connection, so leaving costs the same in a channel
//! of ten and of a million. While a batch is being delivered a leave only leaves a gap, so that no cursor skips anyone.

use std::{collections::HashMap, sync::Arc};

use foldhash::quality::RandomState;

use super::ConnectionRef;
use crate::apps::ChannelKey;

/// One connection on one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// Who; [`ConnectionRef::NONE`] for a gap.
    pub connection: ConnectionRef,
    /// The version of the roster it was given: notices of this and older versions it knows already.
    pub roster_version: u64,
}

/// Names a channel on one worker for as long as it has subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LocalChannel(u32);

/// Where a connection stands in a channel's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The channel.
    pub channel: LocalChannel,
    /// The index in its list.
    pub position: u32,
}

#[derive(Debug)]
struct Entry {
    key: Arc<ChannelKey>,
    subscribers: Vec<Subscriber>,
}

/// A subscriber that was moved to a place that became free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moved {
    /// Who.
    pub connection: ConnectionRef,
    /// Where to, in the channel it was in.
    pub to: Place,
}

/// The subscribers of all channels on one worker.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    channels: HashMap<Arc<ChannelKey>, LocalChannel, RandomState>,
    entries: Vec<Option<Entry>>,
    free: Vec<LocalChannel>,
    /// A batch is being delivered.
    delivering: bool,
    gaps: Vec<Place>,
}

impl Subscribers {
    /// The channel, if it has subscribers here.
    pub(super) fn find(&self, key: &ChannelKey) -> Option<LocalChannel> {
        self.channels.get(key).copied()
    }

    /// The subscribers of a channel, gaps included.
    pub(super) fn of(&self, channel: LocalChannel) -> &[Subscriber] {
        let entry = self.entries.get(channel.0 as usize).and_then(Option::as_ref);
        entry.map(|entry| entry.subscribers.as_slice()).unwrap_or_default()
    }

    /// Adds a subscriber at the end of its channel's list.
    pub(super) fn enter(&mut self, key: &Arc<ChannelKey>, subscriber: Subscriber) -> Place {
        let channel = match self.channels.get(key) {
            Some(channel) => *channel,
            None => self.create(key),
        };
        let mut position = 0;
        if let Some(Some(entry)) = self.entries.get_mut(channel.0 as usize) {
            position = u32::try_from(entry.subscribers.len()).unwrap_or(u32::MAX);
            entry.subscribers.push(subscriber);
        }
        Place { channel, position }
    }

    fn create(&mut self, key: &Arc<ChannelKey>) -> LocalChannel {
        let entry = Some(Entry { key: Arc::clone(key), subscribers: Vec::with_capacity(1) });
        let channel = match self.free.pop() {
            Some(channel) => channel,
            None => {
                self.entries.push(None);
                LocalChannel(u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX))
            }
        };
        if let Some(place) = self.entries.get_mut(channel.0 as usize) {
            *place = entry;
        }
        self.channels.insert(Arc::clone(key), channel);
        channel
    }

    /// Notes that a subscriber was given a newer roster.
    pub(super) fn renew(&mut self, place: Place, roster_version: u64) {
        if let Some(Some(entry)) = self.entries.get_mut(place.channel.0 as usize)
            && let Some(subscriber) = entry.subscribers.get_mut(place.position as usize)
        {
            subscriber.roster_version = roster_version;
        }
    }

    /// Takes a subscriber out. If another was moved to its place, that one's connection has to be told.
    pub(super) fn leave(&mut self, place: Place) -> Option<Moved> {
        if !self.delivering {
            return self.close_gap(place);
        }
        if let Some(Some(entry)) = self.entries.get_mut(place.channel.0 as usize)
            && let Some(subscriber) = entry.subscribers.get_mut(place.position as usize)
        {
            subscriber.connection = ConnectionRef::NONE;
            self.gaps.push(place);
        }
        None
    }

    /// From now on places stay as they are.
    pub(super) const fn begin_delivery(&mut self) {
        self.delivering = true;
    }

    /// Closes the gaps that leaves have left meanwhile; those who were moved have to be told.
    pub(super) fn end_delivery(&mut self, mut moved: impl FnMut(Moved)) {
        self.delivering = false;
        let mut gaps = std::mem::take(&mut self.gaps);
        // From the end, so that what moves into a gap is never a gap itself.
        gaps.sort_unstable_by_key(|gap| std::cmp::Reverse(gap.position));
        for gap in gaps.drain(..) {
            if let Some(subscriber) = self.close_gap(gap) {
                moved(subscriber);
            }
        }
        gaps.shrink_to(1024);
        self.gaps = gaps;
    }

    fn close_gap(&mut self, place: Place) -> Option<Moved> {
        let slot = self.entries.get_mut(place.channel.0 as usize)?;
        let entry = slot.as_mut()?;
        let position = place.position as usize;
        if position >= entry.subscribers.len() {
            return None;
        }
        entry.subscribers.swap_remove(position);
        let moved =
            entry.subscribers.get(position).map(|moved| Moved { connection: moved.connection, to: place });
        if entry.subscribers.is_empty() {
            self.channels.remove(&entry.key);
            *slot = None;
            self.free.push(place.channel);
            self.shrink();
        } else if entry.subscribers.capacity() > 4 * entry.subscribers.len() + 8 {
            entry.subscribers.shrink_to(2 * entry.subscribers.len());
        }
        moved
    }

    fn shrink(&mut self) {
        if self.channels.capacity() > 4 * self.channels.len() + 64 {
            self.channels.shrink_to(2 * self.channels.len());
        }
        if self.channels.is_empty() {
            self.entries = Vec::new();
            self.free = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use soundpost_protocol::{
        app::{App, AppId, AppKey, AppSecret, Limits},
        channel::ChannelName,
    };

    use super::*;
    use crate::apps::Apps;

    fn key(name: &str) -> Arc<ChannelKey> {
        let app = App::new(AppId::parse("a").unwrap(), AppKey::parse("k").unwrap(), AppSecret::new("s"));
        let app = Apps::new(vec![app], 1).by_id("a").unwrap().index;
        Arc::new(ChannelKey { app, name: ChannelName::parse(name, &Limits::default()).unwrap() })
    }

    proptest! {
        /// Whatever joins and leaves, inside and between deliveries, the lists hold exactly who is there, and
        /// everybody's place is known.
        #[test]
        fn places_stay_true(actions in proptest::collection::vec((0_u8..4, 0_u32..3, 0_usize..50), 0..200)) {
            let keys = [key("a"), key("b"), key("c")];
            let mut lists = Subscribers::default();
            let mut places: Vec<(ConnectionRef, Place)> = Vec::new();
            let mut next = 0;
            let told = |places: &mut Vec<(ConnectionRef, Place)>, moved: Moved| {
                let is_moved = |(connection, place): &&mut (ConnectionRef, Place)| {
                    *connection == moved.connection && place.channel == moved.to.channel
                };
                places.iter_mut().find(is_moved).unwrap().1 = moved.to;
            };
            for (action, channel, which) in actions {
                match action {
                    0 | 1 => {
                        let connection = ConnectionRef::new(next, 1);
                        next += 1;
                        let subscriber = Subscriber { connection, roster_version: 0 };
                        places.push((connection, lists.enter(&keys[channel as usize], subscriber)));
                    }
                    2 if !places.is_empty() => {
                        let (_, place) = places.swap_remove(which % places.len());
                        if let Some(moved) = lists.leave(place) {
                            told(&mut places, moved);
                        }
                    }
                    _ if which % 2 == 0 => lists.begin_delivery(),
                    _ => lists.end_delivery(|moved| told(&mut places, moved)),
                }
                for (connection, place) in &places {
                    let found = lists.of(place.channel)[place.position as usize];
                    prop_assert_eq!(found.connection, *connection);
                }
            }
            lists.end_delivery(|moved| told(&mut places, moved));
            let held: usize = keys.iter().filter_map(|key| lists.find(key)).map(|c| lists.of(c).len()).sum();
            prop_assert_eq!(held, places.len());
        }
    }
}
