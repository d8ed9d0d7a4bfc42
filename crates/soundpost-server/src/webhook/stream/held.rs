//! What this node has read of a stream and not settled, and what it reads next.

use std::collections::BTreeMap;

use soundpost_protocol::webhook::queue::{Fate, Settled};

use crate::{
    adapter::redis::streams::{Entry, From, READ_ENTRIES},
    webhook::target::Place,
};

/// What is held at once: as much as a stream and a target's queue have room for, so that a channel which cannot go on holds up
/// no other.
const ENTRIES_MAX: usize = 10_000 - READ_ENTRIES;
const BYTES_MAX: usize = 15 << 20;
/// Entries that are settled at once.
const SETTLE_MAX: usize = 1000;

/// What was read and is not settled. The holder of the lease has it; it means nothing without.
#[derive(Debug)]
pub(super) struct Held {
    /// With the bytes of their JSON; those too whose fate is known and not confirmed by the store.
    entries: BTreeMap<Place, usize>,
    bytes: usize,
    from: From,
    /// What has come to its end, in two kinds, see [`Settling::as_holder`].
    surely: Vec<Place>,
    perhaps: Vec<Place>,
}

/// Some entries that are to be taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settling {
    /// Each with the bytes of its JSON.
    pub(super) places: Vec<(Place, usize)>,
    /// This node has given them up, which counts only as long as it is the holder: another may just have begun. Others the
    /// receiver has taken or refused, which is true whoever holds the lease now.
    pub(super) as_holder: bool,
}

impl Default for Held {
    fn default() -> Self {
        let from = From::Pending(Place::FIRST);
        Self { entries: BTreeMap::new(), bytes: 0, from, surely: Vec::new(), perhaps: Vec::new() }
    }
}

impl Held {
    /// From where to read, if there is room.
    pub(super) fn reads(&self) -> Option<From> {
        (self.entries.len() <= ENTRIES_MAX && self.bytes <= BYTES_MAX).then_some(self.from)
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
        self.perhaps.push(place);
    }

    /// These have come to their end.
    pub(super) fn settle(&mut self, settled: impl IntoIterator<Item = Settled<Option<Place>>>) {
        for Settled { token, fate, .. } in settled {
            let Some(place) = token.filter(|place| self.entries.contains_key(place)) else { continue };
            match fate {
                Fate::Delivered | Fate::Refused(_) => self.surely.push(place),
                Fate::Expired | Fate::Overflow | Fate::TooLarge => self.perhaps.push(place),
                // It stays in the stream, for whoever sends next.
                Fate::Abandoned => self.forget(place),
            }
        }
    }

    /// What is to be taken out next; it stays until that [is confirmed](Self::settled).
    pub(super) fn settling(&self) -> impl Iterator<Item = Settling> {
        let kinds = [(&self.surely, false), (&self.perhaps, true)];
        kinds.into_iter().filter(|(places, _)| !places.is_empty()).map(|(places, as_holder)| {
            let places = places.iter().take(SETTLE_MAX);
            let bytes = |place: &Place| self.entries.get(place).copied().unwrap_or(0);
            Settling { places: places.map(|place| (*place, bytes(place))).collect(), as_holder }
        })
    }

    /// Whether anything is to be taken out.
    pub(super) fn has_settled(&self) -> bool {
        !self.surely.is_empty() || !self.perhaps.is_empty()
    }

    /// These were taken out. Must be said before [`Self::lose`], where both are to be said.
    pub(super) fn settled(&mut self, settling: &Settling) {
        let list = if settling.as_holder { &mut self.perhaps } else { &mut self.surely };
        list.drain(..settling.places.len().min(list.len()));
        settling.places.iter().for_each(|(place, _)| self.forget(*place));
    }

    fn forget(&mut self, place: Place) {
        self.bytes -= self.entries.remove(&place).unwrap_or(0);
    }

    /// Another sends now. What receivers have taken is still to be taken out.
    pub(super) fn lose(&mut self) {
        self.perhaps.clear();
        self.from = From::Pending(Place::FIRST);
        let kept = std::mem::take(&mut self.entries);
        self.bytes = 0;
        for place in &self.surely {
            if let Some(bytes) = kept.get(place) {
                self.bytes += bytes;
                self.entries.insert(*place, *bytes);
            }
        }
    }

    /// How many are held.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
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

    fn taken_out(sequence: u64, as_holder: bool) -> Settling {
        Settling { places: vec![(place(sequence), 10)], as_holder }
    }

    #[test]
    fn what_has_come_to_its_end_stays_until_that_is_confirmed() {
        let mut held = Held::default();
        read(&mut held, &[1, 2, 3, 4, 5]);
        held.settle([settled(1, Fate::Delivered), settled(2, Fate::Expired), settled(3, Fate::Abandoned)]);
        let first = settling(&held);
        assert_eq!(first, [taken_out(1, false), taken_out(2, true)]);
        held.settle([settled(4, Fate::Refused(404))]);
        held.look_again();
        // Of those whose end is not confirmed none is sent again.
        assert_eq!(read(&mut held, &[1, 2, 3, 4, 5]), [3]);
        first.iter().for_each(|settling| held.settled(settling));
        assert_eq!(settling(&held), [taken_out(4, false)]);
        assert_eq!((held.len(), held.bytes), (3, 30));
        held.settled(&taken_out(4, false));
        assert!(!held.has_settled());
    }

    #[test]
    fn who_has_lost_the_lease_takes_out_what_was_delivered_and_nothing_else() {
        let mut held = Held::default();
        read(&mut held, &[1, 2, 3]);
        held.settle([settled(1, Fate::Delivered), settled(2, Fate::Expired)]);
        held.lose();
        assert_eq!(settling(&held), [taken_out(1, false)]);
        held.settle([settled(9, Fate::Delivered)]);
        held.settled(&taken_out(1, false));
        assert_eq!((held.len(), held.bytes), (0, 0));
        assert_eq!(held.reads(), Some(From::Pending(Place::FIRST)));
    }

    #[test]
    fn no_more_is_read_than_there_is_room_for() {
        let mut held = Held::default();
        read(&mut held, &(1..=9_904).collect::<Vec<_>>());
        assert!(held.reads().is_some());
        read(&mut held, &[10_000]);
        assert_eq!(held.reads(), None);
        held.settle([settled(1, Fate::Delivered)]);
        held.settled(&taken_out(1, false));
        assert!(held.reads().is_some());
        held.take(held.from, vec![Entry { bytes: 15 << 20, ..entries(&[20_000]).remove(0) }]);
        assert_eq!(held.reads(), None);
    }
}
