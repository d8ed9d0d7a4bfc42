//! What this node has to add to a stream: events that it has noted itself.

use std::collections::VecDeque;

use crate::webhook::Noted;

/// Events that wait to be added, and bytes of their JSON. Beyond it the oldest go.
const EVENTS_MAX: usize = 10_000;
const BYTES_MAX: usize = 16 << 20;
/// Events that are added at once, and bytes of their JSON; a larger event goes alone.
const BATCH_EVENTS_MAX: usize = 200;
const BATCH_BYTES_MAX: usize = 256 << 10;

/// Events in their order, until the store has confirmed that it has them.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    events: VecDeque<Noted>,
    bytes: usize,
    /// So many of the first were in a batch: the store may have them, so it is not for this node to drop them.
    tried: usize,
}

/// The first so many events.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) events: Vec<Noted>,
}

impl Batch {
    /// Whether more waits probably.
    pub(super) const fn is_full(&self) -> bool {
        self.events.len() == BATCH_EVENTS_MAX
    }
}

impl Backlog {
    /// Puts events behind the others, and gives back how many old ones had to go.
    pub(super) fn push(&mut self, events: impl IntoIterator<Item = Noted>) -> u64 {
        for event in events {
            self.bytes += event.json.len();
            self.events.push_back(event);
        }
        let mut lost = 0;
        while (self.events.len() > EVENTS_MAX || self.bytes > BYTES_MAX) && self.remove(self.tried) {
            lost += 1;
        }
        lost
    }

    fn remove(&mut self, at: usize) -> bool {
        let event = self.events.remove(at);
        self.bytes -= event.as_ref().map_or(0, |event| event.json.len());
        event.is_some()
    }

    /// What is to be added next; it stays until it [is added](Self::added).
    pub(super) fn next(&mut self) -> Option<Batch> {
        let mut bytes = 0;
        let fits = |event: &&Noted| {
            let is_first = bytes == 0;
            bytes += event.json.len();
            is_first || bytes <= BATCH_BYTES_MAX
        };
        let events: Vec<_> = self.events.iter().take(BATCH_EVENTS_MAX).take_while(fits).cloned().collect();
        self.tried = self.tried.max(events.len());
        (!events.is_empty()).then_some(Batch { events })
    }

    /// The store has these.
    pub(super) fn added(&mut self, batch: &Batch) {
        for _ in &batch.events {
            self.remove(0);
        }
        // Those that an earlier batch had besides come next, and may be there as well.
        self.tried = self.tried.saturating_sub(batch.events.len());
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
        let batch = backlog.next().unwrap();
        backlog.added(&batch);
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
    fn the_oldest_go_but_not_those_that_the_store_may_have() {
        let mut backlog = Backlog::default();
        backlog.push((1..=10_000).map(|number| event(number, 1)));
        let batch = backlog.next().unwrap();
        assert_eq!(backlog.push((10_001..=10_050).map(|number| event(number, 1))), 50);
        // No answer: whether they are there is not known.
        assert_eq!(numbers(&backlog.next().unwrap()), numbers(&batch));
        assert_eq!(backlog.push([event(10_051, 1)]), 1);
        backlog.added(&batch);
        assert_eq!((backlog.len(), numbers(&backlog.next().unwrap())[0]), (9_800, 252));
        // Everything else.
        assert_eq!(backlog.push((0..10_000).map(|number| event(20_000 + number, 1))), 9_800);
        assert_eq!(numbers(&backlog.next().unwrap()), (252..=451).collect::<Vec<_>>());
        assert_eq!((backlog.len(), backlog.bytes), (10_000, 10_000));
        let large = [event(1, 9 << 20), event(2, 8 << 20)];
        let mut backlog = Backlog::default();
        assert_eq!(backlog.push(large), 1);
        backlog.next();
        assert_eq!(backlog.push([event(3, 9 << 20)]), 1, "what is tried stays, so the new one goes");
        assert_eq!(numbers(&backlog.next().unwrap()), [2]);
    }
}
