//! What this node has to add to a stream: events that it has noted itself.

use std::collections::VecDeque;

use soundpost_protocol::webhook::event::Encoded;

/// Events that wait to be added, and bytes of their JSON. Beyond it the oldest go.
const EVENTS_MAX: usize = 10_000;
const BYTES_MAX: usize = 16 << 20;
/// Events that are added at once, and bytes of their JSON; a larger event goes alone.
const BATCH_EVENTS_MAX: usize = 200;
const BATCH_BYTES_MAX: usize = 256 << 10;

/// Events in their order, until the store has confirmed that it has them.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    events: VecDeque<Encoded>,
    bytes: usize,
    /// How many have left at the front, ever.
    gone: u64,
}

/// The first so many events, and how many had gone before.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) events: Vec<Encoded>,
    behind: u64,
}

impl Batch {
    /// Whether more waits probably.
    pub(super) const fn is_full(&self) -> bool {
        self.events.len() == BATCH_EVENTS_MAX
    }
}

impl Backlog {
    /// Puts events behind the others, and gives back how many old ones had to go.
    pub(super) fn push(&mut self, events: impl IntoIterator<Item = Encoded>) -> u64 {
        for event in events {
            self.bytes += event.json.len();
            self.events.push_back(event);
        }
        let mut lost = 0;
        while self.events.len() > EVENTS_MAX || self.bytes > BYTES_MAX {
            self.pop();
            lost += 1;
        }
        lost
    }

    fn pop(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.bytes -= event.json.len();
            self.gone += 1;
        }
    }

    /// What is to be added next; it stays until it [is added](Self::added).
    pub(super) fn next(&self) -> Option<Batch> {
        let mut bytes = 0;
        let fits = |event: &&Encoded| {
            let is_first = bytes == 0;
            bytes += event.json.len();
            is_first || bytes <= BATCH_BYTES_MAX
        };
        let events: Vec<_> = self.events.iter().take(BATCH_EVENTS_MAX).take_while(fits).cloned().collect();
        (!events.is_empty()).then_some(Batch { events, behind: self.gone })
    }

    /// The store has these. Some of them may have had to go meanwhile.
    pub(super) fn added(&mut self, batch: &Batch) {
        let end = batch.behind + batch.events.len() as u64;
        while self.gone < end && !self.events.is_empty() {
            self.pop();
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::stream::tests::event;

    fn numbers(batch: &Batch) -> Vec<u64> {
        batch.events.iter().map(|event| event.id.number).collect()
    }

    #[test]
    fn what_is_not_confirmed_is_added_again_in_order() {
        let mut backlog = Backlog::default();
        assert!(backlog.next().is_none());
        assert_eq!(backlog.push((1..=250).map(|number| event(number, 10))), 0);
        let batch = backlog.next().unwrap();
        assert!(batch.is_full());
        assert_eq!(numbers(&batch), (1..=200).collect::<Vec<_>>());
        assert_eq!(numbers(&backlog.next().unwrap()), numbers(&batch));
        backlog.added(&batch);
        assert_eq!(numbers(&backlog.next().unwrap()), (201..=250).collect::<Vec<_>>());
        backlog.added(&backlog.next().unwrap());
        assert!(backlog.next().is_none());
        assert_eq!((backlog.len(), backlog.bytes), (0, 0));
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_but_never_empty() {
        let mut backlog = Backlog::default();
        backlog.push([event(1, 100 << 10), event(2, 100 << 10), event(3, 300 << 10), event(4, 1)]);
        for expected in [&[1, 2][..], &[3], &[4]] {
            let batch = backlog.next().unwrap();
            assert_eq!(numbers(&batch), expected);
            backlog.added(&batch);
        }
    }

    #[test]
    fn the_oldest_go_also_from_under_a_batch_on_its_way() {
        let mut backlog = Backlog::default();
        backlog.push((1..=10_000).map(|number| event(number, 1)));
        let batch = backlog.next().unwrap();
        assert_eq!(backlog.push((10_001..=10_050).map(|number| event(number, 1))), 50);
        backlog.added(&batch);
        assert_eq!(numbers(&backlog.next().unwrap())[0], 201);
        let batch = backlog.next().unwrap();
        // Everything that was on its way, and more.
        assert_eq!(backlog.push((0..400).map(|number| event(20_000 + number, 1))), 250);
        backlog.added(&batch);
        assert_eq!(numbers(&backlog.next().unwrap())[0], 451);
        let large = [event(1, 9 << 20), event(2, 8 << 20)];
        assert_eq!(Backlog::default().push(large), 1);
    }
}
