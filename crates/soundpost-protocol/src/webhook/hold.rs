//! What is kept back for a moment because it may be taken back: a channel that has become empty, a user who has left.
//!
//! Source: Pusher docs, "Webhooks", "Webhook request delay": up to 3 s between a client's leaving and `channel_vacated` or
//! `member_removed`; who is back within that time has not left, and neither event is sent. So the reload of a page tells
//! nobody anything.
//!
//! Knows neither Redis nor clocks. Between nodes the same rule holds with one act of the store in the place of
//! [`Holds::came`]: whoever takes the held departure away has undone it.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use super::event::Event;
use crate::{channel::ChannelName, presence::UserId};

/// How long a departure is held.
pub const HOLD: Duration = Duration::from_secs(3);
/// How many [`Holds::poll`] gives back at once: a crowd that goes together must not hold up whoever asks.
pub const GONE_MAX: usize = 1000;

/// Who can come and go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A channel: with its first subscriber, with its last.
    Channel(ChannelName),
    /// A user of a presence channel: with the first connection, with the last.
    Member(ChannelName, UserId),
}

impl Subject {
    /// Where.
    pub const fn channel(&self) -> &ChannelName {
        match self {
            Self::Channel(channel) | Self::Member(channel, _) => channel,
        }
    }

    /// `channel_occupied` or `member_added`.
    pub const fn arrival(&self) -> Event<'_> {
        match self {
            Self::Channel(_) => Event::ChannelOccupied,
            Self::Member(_, user_id) => Event::MemberAdded(user_id),
        }
    }

    /// `channel_vacated` or `member_removed`.
    pub const fn departure(&self) -> Event<'_> {
        match self {
            Self::Channel(_) => Event::ChannelVacated,
            Self::Member(_, user_id) => Event::MemberRemoved(user_id),
        }
    }
}

/// What becomes of an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// To be told.
    News,
    /// It undoes a departure that nobody was told of: neither is told.
    Return,
}

/// The departures that are held. `K`: a [`Subject`], with whose it is where one keeps them for many apps.
#[derive(Debug)]
pub struct Holds<K> {
    held: HashMap<K, Place, foldhash::quality::FixedState>,
    /// By when they are due, and in the order in which they were told.
    due: BTreeMap<Place, K>,
    count_max: NonZeroUsize,
    told: u64,
}

type Place = (Instant, u64);

impl<K: Clone + Eq + Hash> Holds<K> {
    /// None yet, and never more than `count_max`: beyond it the oldest are told before their time. `seed`: random, since
    /// clients choose the names that are hashed.
    pub fn new(count_max: NonZeroUsize, seed: u64) -> Self {
        let hasher = foldhash::quality::FixedState::with_seed(seed);
        Self { held: HashMap::with_hasher(hasher), due: BTreeMap::new(), count_max, told: 0 }
    }

    /// Has come.
    #[must_use = "an arrival that is news is to be told"]
    pub fn came(&mut self, subject: &K) -> Arrival {
        match self.held.remove(subject) {
            Some(place) => {
                self.due.remove(&place);
                Arrival::Return
            }
            None => Arrival::News,
        }
    }

    /// Has gone. Who has gone already is held from the first time on.
    pub fn left(&mut self, subject: K, now: Instant) {
        if self.held.contains_key(&subject) {
            return;
        }
        self.told += 1;
        let place = (now + HOLD, self.told);
        self.held.insert(subject.clone(), place);
        self.due.insert(place, subject);
    }

    /// Those who are gone for good, in the order in which they went, onto `gone`, but no more than [`GONE_MAX`]. When to look
    /// again, which is at once if there are more; to be called after each [`Self::left`], too.
    pub fn poll(&mut self, now: Instant, gone: &mut Vec<K>) -> Option<Instant> {
        let mut room = GONE_MAX;
        while let Some(entry) = self.due.first_entry() {
            let due = entry.key().0;
            if due > now && self.held.len() <= self.count_max.get() {
                return Some(due);
            }
            if room == 0 {
                return Some(now);
            }
            room -= 1;
            let subject = entry.remove();
            self.held.remove(&subject);
            gone.push(subject);
        }
        if self.held.capacity() > 1024 {
            self.held.shrink_to(1024);
        }
        None
    }

    /// All who are held, as if their time were over: the server ends, and nobody comes back to it.
    pub fn flush(&mut self, gone: &mut Vec<K>) {
        self.held.clear();
        gone.extend(std::mem::take(&mut self.due).into_values());
    }

    /// Keeps only these: of the others nobody will say any more that they are back.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&K) -> bool) {
        self.due.retain(|_, subject| {
            let keeps = is_kept(subject);
            if !keeps {
                self.held.remove(subject);
            }
            keeps
        });
    }

    /// Departures that are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Limits;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn holds<K: Clone + Eq + Hash>(count_max: usize) -> Holds<K> {
        Holds::new(NonZeroUsize::new(count_max).unwrap(), 7)
    }

    fn polled<K: Clone + Eq + Hash>(holds: &mut Holds<K>, now: Instant) -> (Vec<K>, Option<Instant>) {
        let mut gone = vec![];
        let next = holds.poll(now, &mut gone);
        (gone, next)
    }

    #[test]
    fn a_departure_is_told_three_seconds_later_unless_undone() {
        let (start, mut holds) = (Instant::now(), holds(10));
        assert_eq!(holds.came(&'a'), Arrival::News);
        holds.left('a', start);
        holds.left('b', start + SECOND);
        holds.left('a', start + 2 * SECOND);
        assert_eq!(polled(&mut holds, start + 2 * SECOND), (vec![], Some(start + HOLD)));
        assert_eq!(holds.came(&'b'), Arrival::Return);
        assert_eq!(holds.came(&'b'), Arrival::News, "one return undoes one departure");
        assert_eq!(polled(&mut holds, start + HOLD), (vec!['a'], None));
        assert_eq!(holds.came(&'a'), Arrival::News);
        assert!(holds.is_empty());
    }

    #[test]
    fn what_is_not_kept_is_not_told_and_comes_anew() {
        let (start, mut holds) = (Instant::now(), holds(10));
        for subject in ['a', 'b', 'c'] {
            holds.left(subject, start);
        }
        holds.retain(|subject| *subject == 'b');
        assert_eq!(holds.len(), 1);
        assert_eq!(holds.came(&'a'), Arrival::News);
        holds.left('a', start + SECOND);
        assert_eq!(polled(&mut holds, start + HOLD), (vec!['b'], Some(start + SECOND + HOLD)));
    }

    #[test]
    fn those_who_go_together_are_told_in_their_order() {
        let (start, mut holds) = (Instant::now(), holds(10));
        for subject in ['c', 'a', 'b'] {
            holds.left(subject, start);
        }
        assert_eq!(polled(&mut holds, start + HOLD).0, ['c', 'a', 'b']);
    }

    #[test]
    fn too_many_are_told_before_their_time_and_none_is_lost() {
        let (start, mut holds) = (Instant::now(), holds(2));
        for subject in ['a', 'b', 'c'] {
            holds.left(subject, start);
        }
        assert_eq!(polled(&mut holds, start), (vec!['a'], Some(start + HOLD)));
        let mut gone = vec![];
        holds.flush(&mut gone);
        assert_eq!((gone, holds.len()), (vec!['b', 'c'], 0));
        assert_eq!(holds.came(&'b'), Arrival::News);
    }

    #[test]
    fn a_crowd_is_told_in_portions_and_may_come_back_between_them() {
        let (start, mut holds) = (Instant::now(), holds(10_000));
        let count = GONE_MAX + 2;
        (0..count).for_each(|n| holds.left(n, start));
        let now = start + HOLD;
        assert_eq!(polled(&mut holds, now), ((0..GONE_MAX).collect(), Some(now)));
        assert_eq!(holds.came(&GONE_MAX), Arrival::Return);
        assert_eq!(polled(&mut holds, now), (vec![count - 1], None));
    }

    /// 500 members of a presence channel reload their pages: all leave, the channel is empty, all come back.
    #[test]
    fn a_reload_storm_says_nothing() {
        let channel = ChannelName::parse("presence-room", &Limits::default()).unwrap();
        let members = (0..500)
            .map(|n| Subject::Member(channel.clone(), UserId::from_text(&n.to_string())))
            .collect::<Vec<_>>();
        let room = Subject::Channel(channel);
        let (start, mut holds) = (Instant::now(), holds(10_000));
        let at = |n: usize| start + Duration::from_millis(n as u64 * 2);
        for (n, member) in members.iter().enumerate() {
            holds.left(member.clone(), at(n));
            assert_eq!(polled(&mut holds, at(n)).0, []);
        }
        holds.left(room.clone(), at(500));
        assert_eq!(holds.came(&room), Arrival::Return);
        for (n, member) in members.iter().enumerate() {
            assert_eq!(polled(&mut holds, at(1000 + n)).0, []);
            assert_eq!(holds.came(member), Arrival::Return);
        }
        assert_eq!(polled(&mut holds, start + 60 * SECOND), (vec![], None));
    }

    #[test]
    fn a_subject_knows_what_is_said_of_it() {
        use crate::webhook::event::EventKind::*;
        let channel = ChannelName::parse("presence-c", &Limits::default()).unwrap();
        let member = Subject::Member(channel.clone(), UserId::from_text("42"));
        let room = Subject::Channel(channel.clone());
        for (subject, arrival, departure) in
            [(&room, ChannelOccupied, ChannelVacated), (&member, MemberAdded, MemberRemoved)]
        {
            assert_eq!((subject.arrival().kind(), subject.departure().kind()), (arrival, departure));
            assert_eq!(subject.channel(), &channel);
        }
    }

    proptest! {
        /// Whoever listens hears of each an arrival, then a departure, and so on; a departure 3 s after it, and only of
        /// those who did not come back; in the end what is true.
        #[test]
        fn what_is_told_is_true_three_seconds_later(
            steps in prop::collection::vec((0..4_usize, 0..2500_u64), 0..120),
        ) {
            let (start, mut holds) = (Instant::now(), holds(1000));
            let (mut there, mut told) = ([false; 4], [false; 4]);
            let mut since = [start; 4];
            let mut now = start;
            let hear = |holds: &mut _, now, there: &[bool; 4], told: &mut [bool; 4], since: &[Instant; 4]| {
                let (gone, next) = polled::<usize>(holds, now);
                for subject in gone {
                    assert!(told[subject] && !there[subject]);
                    assert!(now >= since[subject] + HOLD);
                    told[subject] = false;
                }
                assert!(next.is_none_or(|next| next > now));
                for subject in 0..4 {
                    // Nothing is late, either.
                    assert!(there[subject] || !told[subject] || now < since[subject] + HOLD);
                }
            };
            for (subject, pause) in steps {
                now += Duration::from_millis(pause);
                hear(&mut holds, now, &there, &mut told, &since);
                there[subject] = !there[subject];
                since[subject] = now;
                if !there[subject] {
                    holds.left(subject, now);
                } else if holds.came(&subject) == Arrival::News {
                    assert!(!told[subject]);
                    told[subject] = true;
                } else {
                    assert!(told[subject]);
                }
                hear(&mut holds, now, &there, &mut told, &since);
            }
            hear(&mut holds, now + HOLD, &there, &mut told, &since);
            assert_eq!(told, there);
            assert!(holds.is_empty());
        }
    }
}
