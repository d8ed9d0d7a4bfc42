//! What this node has read of a stream and not settled, and what it reads next.

use std::collections::BTreeMap;

use soundpost_protocol::webhook::queue::{Behind, Fate, Settled};

use crate::{
    adapter::redis::streams::{BYTES_MAX, EVENTS_MAX, Entry, From, Why},
    webhook::target::Place,
};

/// Entries that are settled at once.
const SETTLE_MAX: usize = 1000;

/// What was read and is not settled. The holder of the lease has it; it means nothing without.
#[derive(Debug)]
pub(super) struct Held {
    /// With the bytes of their JSON; those too whose fate is known and not confirmed by the store.
    entries: BTreeMap<Place, usize>,
    bytes: usize,
    from: From,
    /// What has come to its end.
    ended: Vec<Place>,
    given_up: Vec<Place>,
    pushed_out: Vec<Place>,
}

/// Some entries that are to be taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settling {
    /// Each with the bytes of its JSON.
    pub(super) places: Vec<(Place, usize)>,
    pub(super) why: Why,
}

impl Default for Held {
    fn default() -> Self {
        let from = From::Pending(Place::FIRST);
        let (ended, given_up, pushed_out) = (Vec::new(), Vec::new(), Vec::new());
        Self { entries: BTreeMap::new(), bytes: 0, from, ended, given_up, pushed_out }
    }
}

impl Held {
    /// From where to read, if there is room: always but while something is to be taken out first. A channel that cannot go
    /// on holds up no other.
    pub(super) fn reads(&self) -> Option<From> {
        (self.entries.len() <= EVENTS_MAX && self.bytes <= BYTES_MAX).then_some(self.from)
    }

    /// What of a stream with so many entries and bytes is not held.
    pub(super) fn behind(&self, depth: usize, bytes: usize) -> Behind {
        Behind { events: depth.saturating_sub(self.entries.len()), bytes: bytes.saturating_sub(self.bytes) }
    }

    /// Another may have read meanwhile, or an answer was lost with what stood in it: what was read and is not settled is looked
    /// through again.
    pub(super) const fn look_again(&mut self) {
        self.from = From::Pending(Place::FIRST);
    }

    /// Takes what a read from there has brought, and gives back what is new.
    pub(super) fn take(&mut self, from: From, list: Vec<Entry>) -> Vec<Entry> {
        // It was decided meanwhile to begin again.
        if from != self.from {
            return Vec::new();
        }
        if matches!(from, From::Pending(_)) {
            self.from = list.last().map_or(From::New, |last| From::Pending(last.place));
        }
        let mut new = Vec::with_capacity(list.len());
        for entry in list {
            if self.entries.insert(entry.place, entry.bytes).is_none() {
                self.bytes += entry.bytes;
                new.push(entry);
            }
        }
        new
    }

    /// An entry that nobody can read has come to its end.
    pub(super) fn give_up(&mut self, place: Place) {
        self.given_up.push(place);
    }

    /// These have come to their end.
    pub(super) fn settle(&mut self, settled: impl IntoIterator<Item = Settled<Option<Place>>>) {
        for Settled { token, fate, .. } in settled {
            let Some(place) = token.filter(|place| self.entries.contains_key(place)) else { continue };
            match fate {
                Fate::Delivered | Fate::Refused(_) => self.ended.push(place),
                Fate::Expired | Fate::TooLarge => self.given_up.push(place),
                Fate::Overflow => self.pushed_out.push(place),
                // It stays in the stream, for whoever sends next.
                Fate::Abandoned => self.forget(place),
            }
        }
    }

    /// What is to be taken out next; it stays until that [is confirmed](Self::settled).
    pub(super) fn settling(&self) -> impl Iterator<Item = Settling> {
        let kinds =
            [(&self.ended, Why::Ended), (&self.given_up, Why::GivenUp), (&self.pushed_out, Why::PushedOut)];
        kinds.into_iter().filter(|(places, _)| !places.is_empty()).map(|(places, why)| {
            let places = places.iter().take(SETTLE_MAX);
            let bytes = |place: &Place| self.entries.get(place).copied().unwrap_or(0);
            Settling { places: places.map(|place| (*place, bytes(place))).collect(), why }
        })
    }

    /// Whether anything is to be taken out.
    pub(super) fn has_settled(&self) -> bool {
        self.settling().next().is_some()
    }

    /// These were taken out. Must be said before [`Self::lose`], where both are to be said.
    pub(super) fn settled(&mut self, settling: &Settling) {
        let list = match settling.why {
            Why::Ended => &mut self.ended,
            Why::GivenUp => &mut self.given_up,
            Why::PushedOut => &mut self.pushed_out,
        };
        list.drain(..settling.places.len().min(list.len()));
        settling.places.iter().for_each(|(place, _)| self.forget(*place));
    }

    fn forget(&mut self, place: Place) {
        self.bytes -= self.entries.remove(&place).unwrap_or(0);
    }

    /// Another sends now. What receivers have taken is still to be taken out.
    pub(super) fn lose(&mut self) {
        self.given_up.clear();
        self.pushed_out.clear();
        self.from = From::Pending(Place::FIRST);
        let kept = std::mem::take(&mut self.entries);
        self.bytes = 0;
        for place in &self.ended {
            if let Some(bytes) = kept.get(place) {
                self.bytes += bytes;
                self.entries.insert(*place, *bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    const fn place(sequence: u64) -> Place {
        Place { milliseconds: 1, sequence }
    }

    fn entries(sequences: &[u64]) -> Vec<Entry> {
        let entry =
            |sequence: &u64| Entry { place: place(*sequence), bytes: 10, age: Duration::ZERO, event: None };
        sequences.iter().map(entry).collect()
    }

    fn places(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.place.sequence).collect()
    }

    fn settled(sequence: u64, fate: Fate) -> Settled<Option<Place>> {
        Settled { token: Some(place(sequence)), fate, since: Instant::now() }
    }

    fn read(held: &mut Held, sequences: &[u64]) -> Vec<u64> {
        let from = held.reads().unwrap();
        places(&held.take(from, entries(sequences)))
    }

    #[test]
    fn what_is_pending_comes_before_anything_new() {
        let mut held = Held::default();
        assert_eq!(held.reads(), Some(From::Pending(Place::FIRST)));
        assert_eq!(read(&mut held, &[1, 2]), [1, 2]);
        assert_eq!(held.reads(), Some(From::Pending(place(2))));
        assert_eq!(read(&mut held, &[]), [0; 0]);
        assert_eq!(held.reads(), Some(From::New));
        assert_eq!(read(&mut held, &[3]), [3]);
        assert_eq!(held.reads(), Some(From::New));
        // An answer was lost, with 4 in it.
        held.look_again();
        assert_eq!(places(&held.take(From::New, entries(&[5]))), [0; 0]);
        assert_eq!(read(&mut held, &[1, 2, 3, 4]), [4]);
    }

    fn settling(held: &Held) -> Vec<Settling> {
        held.settling().collect()
    }

    fn taken_out(sequence: u64, why: Why) -> Settling {
        Settling { places: vec![(place(sequence), 10)], why }
    }

    #[test]
    fn what_has_come_to_its_end_stays_until_that_is_confirmed() {
        let mut held = Held::default();
        read(&mut held, &[1, 2, 3, 4, 5]);
        held.settle([settled(1, Fate::Delivered), settled(2, Fate::Expired), settled(3, Fate::Abandoned)]);
        let first = settling(&held);
        assert_eq!(first, [taken_out(1, Why::Ended), taken_out(2, Why::GivenUp)]);
        held.settle([settled(4, Fate::Refused(404))]);
        held.look_again();
        // Of those whose end is not confirmed none is sent again.
        assert_eq!(read(&mut held, &[1, 2, 3, 4, 5]), [3]);
        first.iter().for_each(|settling| held.settled(settling));
        assert_eq!(settling(&held), [taken_out(4, Why::Ended)]);
        assert_eq!((held.entries.len(), held.bytes), (3, 30));
        held.settled(&taken_out(4, Why::Ended));
        assert!(!held.has_settled());
    }

    #[test]
    fn who_has_lost_the_lease_takes_out_what_was_delivered_and_nothing_else() {
        let mut held = Held::default();
        read(&mut held, &[1, 2, 3]);
        held.settle([settled(1, Fate::Delivered), settled(2, Fate::Expired)]);
        held.lose();
        assert_eq!(settling(&held), [taken_out(1, Why::Ended)]);
        held.settle([settled(9, Fate::Delivered)]);
        held.settled(&taken_out(1, Why::Ended));
        assert_eq!((held.entries.len(), held.bytes), (0, 0));
        assert_eq!(held.reads(), Some(From::Pending(Place::FIRST)));
    }

    #[test]
    fn what_was_pushed_out_is_counted_by_the_holder_alone() {
        let mut held = Held::default();
        read(&mut held, &[1, 2, 3]);
        held.settle([settled(1, Fate::Overflow), settled(2, Fate::Overflow)]);
        let settling = settling(&held).remove(0);
        assert_eq!((settling.places.len(), settling.why), (2, Why::PushedOut));
        assert_eq!(held.behind(5, 70), Behind { events: 2, bytes: 40 }, "until that is confirmed");
        let mut lost = held;
        lost.lose();
        assert!(!lost.has_settled(), "another sends it, or pushes it out");
    }

    #[test]
    fn nothing_is_read_while_more_than_a_whole_queue_is_held() {
        let mut held = Held::default();
        read(&mut held, &(1..=10_000).collect::<Vec<_>>());
        assert_eq!(read(&mut held, &[10_001]), [10_001]);
        assert_eq!(held.reads(), None);
        held.settle([settled(1, Fate::Overflow)]);
        held.settled(&taken_out(1, Why::PushedOut));
        assert!(held.reads().is_some());
        held.take(held.from, vec![Entry { bytes: BYTES_MAX, ..entries(&[20_000]).remove(0) }]);
        assert_eq!(held.reads(), None);
    }
}
