//! The numbers of events, by which others see what they have missed.
//!
//! They are given when an event is written, not when it is taken: one that was taken back leaves no hole.

use std::{collections::HashMap, mem};

use foldhash::quality::RandomState;
use soundpost_protocol::{cluster::message::STAMP, presence::NodeId};

use super::outbox::Publish;

/// Topics whose numbers are remembered, in each of two generations.
const TOPICS_MAX: usize = 32_768;

/// How many events this life has published on each topic. A topic that was not used for long starts again at 1, which
/// others take for a new beginning.
#[derive(Debug)]
pub(super) struct Numbers {
    life: NodeId,
    young: HashMap<u64, u64, RandomState>,
    old: HashMap<u64, u64, RandomState>,
}

impl Numbers {
    /// Of a life that has published nothing.
    pub(super) fn new(life: NodeId) -> Self {
        Self { life, young: HashMap::default(), old: HashMap::default() }
    }

    fn next(&mut self, topic: u64) -> u64 {
        if let Some(last) = self.young.get_mut(&topic) {
            *last += 1;
            return *last;
        }
        let next = self.old.remove(&topic).unwrap_or(0) + 1;
        if self.young.len() >= TOPICS_MAX {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(topic, next);
        next
    }

    /// The last one given on a topic, as far as it is remembered.
    pub(super) fn last(&self, topic: u64) -> Option<u64> {
        self.young.get(&topic).or_else(|| self.old.get(&topic)).copied()
    }

    /// Writes life and number into the message.
    pub(super) fn stamp(&mut self, publish: &mut Publish) {
        let Some(message_at) = publish.message_at else { return };
        publish.sequence = self.next(publish.topic);
        let mut stamp = [0; 16];
        stamp[..8].copy_from_slice(&self.life.0.to_be_bytes());
        stamp[8..].copy_from_slice(&publish.sequence.to_be_bytes());
        let range = message_at + STAMP.start..message_at + STAMP.end;
        if let Some(place) = publish.command.get_mut(range) {
            place.copy_from_slice(&stamp);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{super::outbox::Done, *};

    fn publish(topic: u64) -> Publish {
        Publish {
            command: vec![0; 40],
            message_at: Some(2),
            slot: 0,
            topic,
            sequence: 0,
            taken_at: Instant::now(),
            broadcast: None,
            told: None,
            done: Done::Nobody,
        }
    }

    #[test]
    fn each_topic_counts_for_itself_and_the_message_says_so() {
        let mut numbers = Numbers::new(NodeId(7));
        let mut publishes = [publish(1), publish(2), publish(1)];
        publishes.iter_mut().for_each(|publish| numbers.stamp(publish));
        assert_eq!(publishes.each_ref().map(|publish| publish.sequence), [1, 1, 2]);
        assert_eq!((numbers.last(1), numbers.last(3)), (Some(2), None));
        assert_eq!(publishes[2].command[5..13], 7_u64.to_be_bytes());
        assert_eq!(publishes[2].command[13..21], 2_u64.to_be_bytes());
        let mut uncounted = Publish { message_at: None, ..publish(1) };
        numbers.stamp(&mut uncounted);
        assert_eq!((uncounted.sequence, uncounted.command), (0, vec![0; 40]));
    }

    #[test]
    fn a_topic_that_was_not_used_for_long_starts_again() {
        let mut numbers = Numbers::new(NodeId(7));
        assert_eq!((numbers.next(0), numbers.next(0)), (1, 2));
        for topic in 1..=TOPICS_MAX as u64 {
            numbers.next(topic);
        }
        assert_eq!(numbers.next(0), 3, "in the old generation");
        for topic in 1..=3 * TOPICS_MAX as u64 {
            numbers.next(topic);
        }
        assert_eq!(numbers.next(0), 1);
        assert!(numbers.young.len() + numbers.old.len() <= 2 * TOPICS_MAX + 1);
    }
}
