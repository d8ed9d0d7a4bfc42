//! Events that wait, each channel's in a lane of its own: a lane is busy while a request with events of it is not settled.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Instant,
};

use crate::{channel::ChannelName, webhook::event::Encoded};

/// An event that waits, or is sent.
#[derive(Clone, Debug)]
pub(super) struct Waiting<T> {
    pub(super) event: Encoded,
    pub(super) token: T,
    /// When it came.
    pub(super) since: Instant,
}

/// All that wait, by when they came. Everything but pushing costs the logarithm of what there is.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    /// By number, and so by age.
    waiting: BTreeMap<u64, Waiting<T>>,
    /// Those with events, and those that are busy.
    lanes: BTreeMap<ChannelName, Lane>,
    /// The first number of each lane that is not busy.
    ready: BTreeSet<u64>,
    /// Events in lanes that are not busy.
    ready_events: usize,
    bytes: usize,
    pushed: u64,
}

#[derive(Debug, Default)]
struct Lane {
    numbers: VecDeque<u64>,
    is_busy: bool,
}

impl<T> Lanes<T> {
    pub(super) const fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            lanes: BTreeMap::new(),
            ready: BTreeSet::new(),
            ready_events: 0,
            bytes: 0,
            pushed: 0,
        }
    }

    /// Events, those in busy lanes too.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes of their JSON.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Events that could be sent now.
    pub(super) const fn ready_events(&self) -> usize {
        self.ready_events
    }

    pub(super) fn push(&mut self, waiting: Waiting<T>) {
        self.pushed += 1;
        let number = self.pushed;
        let lane = self.lanes.entry(waiting.event.channel.clone()).or_default();
        if !lane.is_busy {
            self.ready_events += 1;
            if lane.numbers.is_empty() {
                self.ready.insert(number);
            }
        }
        lane.numbers.push_back(number);
        self.bytes += waiting.event.json.len();
        self.waiting.insert(number, waiting);
    }

    /// The oldest, whether it could be sent or not.
    pub(super) fn oldest(&self) -> Option<&Waiting<T>> {
        self.waiting.first_key_value().map(|(_, waiting)| waiting)
    }

    /// Takes the oldest away; it is the first of its lane.
    pub(super) fn pop_oldest(&mut self) -> Option<Waiting<T>> {
        let number = *self.waiting.first_key_value()?.0;
        self.pop(number)
    }

    /// The oldest that could be sent.
    pub(super) fn next(&self) -> Option<&Waiting<T>> {
        self.waiting.get(self.ready.first()?)
    }

    /// Takes the oldest that could be sent. The next of its lane can follow it into the same request; [`Self::block`] the
    /// lane when the request has all it gets.
    pub(super) fn pop_next(&mut self) -> Option<Waiting<T>> {
        let number = *self.ready.first()?;
        self.pop(number)
    }

    /// Of a number that is the first in its lane.
    fn pop(&mut self, number: u64) -> Option<Waiting<T>> {
        let popped = self.waiting.remove(&number)?;
        self.bytes -= popped.event.json.len();
        let lane = self.lanes.get_mut(&popped.event.channel)?;
        lane.numbers.pop_front();
        if !lane.is_busy {
            self.ready_events -= 1;
            self.ready.remove(&number);
            self.ready.extend(lane.numbers.front());
            if lane.numbers.is_empty() {
                self.lanes.remove(&popped.event.channel);
            }
        }
        Some(popped)
    }

    /// Nothing of this channel can be sent from here on. A second time is nothing.
    pub(super) fn block(&mut self, channel: &ChannelName) {
        let lane = self.lanes.entry(channel.clone()).or_default();
        if !lane.is_busy {
            lane.is_busy = true;
            self.ready_events -= lane.numbers.len();
            if let Some(first) = lane.numbers.front() {
                self.ready.remove(first);
            }
        }
    }

    /// What waits of this channel can be sent. A second time is nothing.
    pub(super) fn release(&mut self, channel: &ChannelName) {
        let Some(lane) = self.lanes.get_mut(channel).filter(|lane| lane.is_busy) else { return };
        lane.is_busy = false;
        self.ready_events += lane.numbers.len();
        self.ready.extend(lane.numbers.front());
        if lane.numbers.is_empty() {
            self.lanes.remove(channel);
        }
    }

    /// Whether nothing is kept for channels with no event.
    #[cfg(test)]
    pub(super) fn is_clean(&self) -> bool {
        self.waiting.is_empty()
            && self.lanes.is_empty()
            && self.ready.is_empty()
            && self.ready_events == 0
            && self.bytes == 0
    }
}
