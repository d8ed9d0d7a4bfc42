//! The one path from an accepted event to the inboxes of all workers that have subscribers: the HTTP API and client
//! events both end here, and what they exclude goes along to where the recipients are known.

use std::{sync::Arc, time::Instant};

use super::{Delivery, Item, Wakes, inbox::Urgency};
use crate::adapter::{Broadcast, Refused};

impl Delivery {
    /// Hands each event to every subscriber of its channel on this node but the excluded one, in one order for all of
    /// them. The workers are woken when all events are in their inboxes. What webhooks are told of an event is noted with
    /// it, under the channel's lock: nobody has heard it yet, so nobody can have answered.
    ///
    /// Errors: [`Refused::Full`], at the first event for which some worker has no room; nobody gets that one, nor any
    /// after it.
    pub fn trigger(&self, broadcasts: &[Broadcast]) -> Result<(), Refused> {
        let mut wakes = self.wakes();
        broadcasts.iter().try_for_each(|broadcast| self.trigger_one(broadcast, &mut wakes))
    }

    fn trigger_one(&self, broadcast: &Broadcast, wakes: &mut Wakes<'_>) -> Result<(), Refused> {
        let Broadcast { key, frame, exclude, keep, told } = broadcast;
        let mut shard = self.directory.lock(key);
        let accepted = match shard.get_mut(key) {
            Some(channel) => self.put_all(channel, frame, Urgency::Event, wakes, || Item::Event {
                channel: Arc::clone(&channel.key),
                frame: frame.clone(),
                exclude: *exclude,
            }),
            None => true,
        };
        if !accepted {
            return Err(Refused::Full);
        }
        if let Some(told) = told {
            self.webhooks.note(key.app, told, Instant::now());
        }
        if let Some(keep) = keep {
            keep.cache.keep(&key.name, frame, keep.data_bytes, Instant::now());
        }
        Ok(())
    }
}
