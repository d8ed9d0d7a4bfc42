//! What webhooks are told of the channels of this node.
//!
//! A node that is alone notes all of it in its [`webhook::Inbox`], under the channel's lock, so that what happens on one
//! channel stands there in its true order: a channel comes before its first member, and goes after its last. Where there
//! are several nodes nobody here knows who is the first or the last of all: Redis does, and decides; only a cache miss,
//! for which a connection alone is the reason, is noted here, too. Client events are noted where they are
//! [triggered](Delivery::trigger), unless Redis tells of them when it publishes them.
//!
//! A member who is held may yet come back and has not left, so its channel is still occupied. The HTTP API of a node that
//! is alone does not name such a channel any more; webhooks are told a moment later, but never of a channel that goes
//! before its members.

use std::time::Instant;

use soundpost_protocol::{
    app::App,
    channel::ChannelName,
    presence::UserId,
    webhook::{
        event::{Event, EventKind},
        hold::Subject,
    },
};

use super::{Delivery, directory::Channel};
#[cfg(doc)]
use crate::webhook;

/// Kinds of events that the webhooks of an app want to be told of one channel, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hears(u8);

impl Hears {
    /// Nobody wants to be told anything.
    pub const NOTHING: Self = Self(0);

    /// Everything is wanted.
    #[cfg(test)]
    pub(super) const EVERYTHING: Self = Self(u8::MAX);

    /// What the webhooks of `app` want.
    pub fn of(app: &App, channel: &ChannelName) -> Self {
        if app.webhooks.is_empty() {
            return Self::NOTHING;
        }
        let counts = |kind: &EventKind| *kind != EventKind::SubscriptionCount || app.subscription_count;
        let kinds = EventKind::ALL.into_iter().filter(counts).filter(|kind| app.tells(*kind, channel));
        Self(kinds.fold(0, |bits, kind| bits | Self::bit(kind)))
    }

    const fn bit(kind: EventKind) -> u8 {
        1 << kind as u8
    }

    const fn wants(self, kind: EventKind) -> bool {
        self.0 & Self::bit(kind) != 0
    }

    /// Whether it matters that the channel comes or goes. Who wants one of both needs the other, which may take it back.
    pub(super) const fn channel(self) -> bool {
        self.wants(EventKind::ChannelOccupied) || self.wants(EventKind::ChannelVacated)
    }

    /// The same for its members.
    pub(super) const fn members(self) -> bool {
        self.wants(EventKind::MemberAdded) || self.wants(EventKind::MemberRemoved)
    }

    pub(super) const fn counts(self) -> bool {
        self.wants(EventKind::SubscriptionCount)
    }

    pub(super) const fn cache_misses(self) -> bool {
        self.wants(EventKind::CacheMiss)
    }

    /// What either wants. Connections hear of new settings one after the other; what any of them knew to be wanted of a
    /// channel is noted as long as the channel is there, and who tells it asks each webhook again.
    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Delivery {
    /// A connection was let in on a channel of a node that is alone. `was_vacated`: nobody was there before; `newcomer`:
    /// the user who was not there before.
    pub(super) fn note_arrival(&self, channel: &Channel, was_vacated: bool, newcomer: Option<UserId>) {
        let (hears, key) = (channel.told.hears, &channel.key);
        if was_vacated && hears.channel() {
            self.webhooks.came(key.app, Subject::Channel(key.name.clone()), Instant::now());
        }
        if let Some(user_id) = newcomer.filter(|_| hears.members()) {
            self.webhooks.came(key.app, Subject::Member(key.name.clone(), user_id), Instant::now());
        }
    }

    /// The last connection of a user has left a channel of a node that is alone.
    pub(super) fn note_member_left(&self, channel: &Channel, user_id: &UserId) {
        let key = &channel.key;
        if channel.told.hears.members() {
            let subject = Subject::Member(key.name.clone(), user_id.clone());
            self.webhooks.left(key.app, subject, Instant::now());
        }
    }

    /// Somebody has left a channel of a node that is alone: it may have been the last.
    pub(super) fn note_departure(&self, channel: &Channel) {
        let key = &channel.key;
        if channel.told.hears.channel() && channel.is_vacated() {
            self.webhooks.left(key.app, Subject::Channel(key.name.clone()), Instant::now());
        }
    }

    /// So many are on the channel now. Nothing is noted twice.
    pub(super) fn note_count(&self, channel: &mut Channel, count: u32) {
        let (told, key) = (&mut channel.told, &channel.key);
        if self.cluster.is_none() && told.hears.counts() && told.noted != count {
            told.noted = count;
            self.webhooks.event(key.app, &Event::SubscriptionCount(count.into()), &key.name, Instant::now());
        }
    }

    /// A connection that was let in on a cache channel found nothing kept there.
    pub(super) fn note_cache_miss(&self, channel: &Channel) {
        let key = &channel.key;
        if channel.told.hears.cache_misses() {
            self.webhooks.event(key.app, &Event::CacheMiss, &key.name, Instant::now());
        }
    }
}
