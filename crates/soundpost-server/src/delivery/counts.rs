//! `subscription_count`: telling the subscribers of a channel how many they are, on each change while they are few and
//! every few seconds while they are many; the last value always comes.
//!
//! Source: Pusher docs, "Subscription Count Events".

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use soundpost_protocol::{channel::ChannelKind, server_frame};

use super::{Delivery, Due, Hears, Item, Wakes, directory::Channel, inbox::Urgency};
use crate::apps::ChannelKey;

/// Up to so many subscribers every change is told at once.
const PROMPT_MAX: u32 = 100;
/// Above that, at most once in this time.
const INTERVAL: Duration = Duration::from_secs(5);

/// When a channel's count was told last, and what webhooks want of the channel.
#[derive(Debug, Default)]
pub(super) struct Told {
    at: Option<Instant>,
    /// It will be told again.
    is_put_off: bool,
    /// What webhooks want to be told of the channel.
    pub(super) hears: Hears,
    /// The count that was noted for webhooks last.
    pub(super) noted: u32,
}

impl Delivery {
    /// Tells the count of a channel that has just become `count`, now or later.
    pub(super) fn tell_count(&self, channel: &mut Channel, count: u32, wakes: &mut Wakes<'_>) {
        let kind = channel.key.name.kind();
        if kind.is_presence() || kind == ChannelKind::ServerToUser {
            return;
        }
        let now = Instant::now();
        let next = channel.told.at.map_or(now, |at| at + INTERVAL);
        if count > PROMPT_MAX && next > now {
            if !channel.told.is_put_off {
                self.put_count_off(channel, next);
            }
        } else {
            self.tell_count_now(channel, count, now, wakes);
        }
    }

    fn tell_count_now(&self, channel: &mut Channel, count: u32, now: Instant, wakes: &mut Wakes<'_>) {
        self.note_count(channel, count);
        let frame = server_frame::subscription_count(&channel.key.name, count);
        let told = self.put_all(channel, &frame, Urgency::Join, wakes, || Item::Event {
            channel: Arc::clone(&channel.key),
            frame: frame.clone(),
            exclude: None,
        });
        channel.told.at = Some(now);
        channel.told.is_put_off = false;
        if !told {
            self.put_count_off(channel, now + INTERVAL);
        }
    }

    fn put_count_off(&self, channel: &mut Channel, time: Instant) {
        channel.told.is_put_off = true;
        self.ticker.put_off(time, Due::Count(Arc::clone(&channel.key)));
    }

    pub(super) fn count_due(&self, key: &ChannelKey, now: Instant, wakes: &mut Wakes<'_>) {
        let mut shard = self.directory.lock(key);
        if let Some(channel) = shard.get_mut(key).filter(|channel| channel.told.is_put_off) {
            let count = channel.count();
            self.tell_count_now(channel, count, now, wakes);
        }
    }
}
