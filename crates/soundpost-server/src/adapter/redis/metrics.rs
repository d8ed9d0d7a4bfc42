//! What the adapter counts of itself, for `soundpost_redis_*`.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::metrics::Count;

/// A number that only grows, to which any thread may add.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

impl Tally {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// What was counted.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What became of an event that was to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// Redis has it.
    Confirmed,
    /// Delivered on this node alone, because Redis was away and the settings say so.
    Local,
    /// Refused: what waits for Redis had no room left.
    Full,
    /// Refused: Redis was away, or went before it was written.
    Away,
    /// Redis did not say in time whether it has it.
    Unconfirmed,
}

impl Published {
    /// Every outcome with the word of its label.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Confirmed, "confirmed"),
        (Self::Local, "local"),
        (Self::Full, "full"),
        (Self::Away, "away"),
        (Self::Unconfirmed, "unconfirmed"),
    ];
}

/// How long something took, in steps. One thread writes it.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Count; Self::MICROSECONDS.len() + 1],
    microseconds: Count,
}

impl Histogram {
    /// Where the steps end, microseconds. Redis on the same network answers within a few hundred; a second is too late.
    pub const MICROSECONDS: [u64; 12] =
        [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000];

    /// Counts one that took so long. Only for the one thread that owns the histogram.
    pub fn observe(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let at = Self::MICROSECONDS.partition_point(|end| *end < took);
        self.buckets.iter().skip(at).take(1).for_each(|bucket| bucket.add(1));
        self.microseconds.add(took);
    }

    /// How many fell into each step, with its end in seconds; the last has none.
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let ends = Self::MICROSECONDS.iter().map(|end| Duration::from_micros(*end).as_secs_f64());
        ends.chain([f64::MAX]).zip(self.buckets.iter().map(Count::value)).collect()
    }

    /// All of them together, seconds.
    pub fn seconds(&self) -> f64 {
        Duration::from_micros(self.microseconds.value()).as_secs_f64()
    }
}

/// What the adapter counts. Fields of type [`Count`] and the histogram are written by the adapter's thread alone.
#[derive(Debug)]
pub struct RedisMetrics {
    published: [Tally; Published::ALL.len()],
    /// From when an event was taken to the answer of Redis, of those that were confirmed.
    pub publish_time: Histogram,
    /// Messages heard on topics, of any kind, this node's own included.
    pub received: Count,
    /// Events that were missed, as the numbers of those heard show.
    pub gaps: Count,
    /// Events that came a second time and were dropped.
    pub duplicates: Count,
    /// Messages of a version or kind that this node does not know, from newer ones; dropped.
    pub unknown_messages: Count,
    /// Messages that were none; dropped.
    pub malformed_messages: Count,
    /// Times the connections were made, the first included.
    pub connects: Count,
    /// Attempts to make them that failed.
    pub failed_connects: Count,
    /// Scripts that Redis answered with an error.
    pub script_errors: Count,
    /// Lives with a lease, this node's own included; nodes that have just ended count until their lease has.
    pub lives: AtomicUsize,
    /// Commands that wait, or are on their way and not answered.
    pub queued: AtomicUsize,
    /// How many may.
    pub queued_max: AtomicUsize,
    /// Their bytes.
    pub queued_bytes: AtomicUsize,
    /// How many there may be.
    pub queued_bytes_max: AtomicUsize,
    start: Instant,
    /// Microseconds from the start to when the lease was last taken for renewed; 0: never.
    renewed: AtomicU64,
}

impl RedisMetrics {
    /// Nothing yet. The bounds of what waits: commands, and their bytes.
    pub fn new(queued_max: usize, queued_bytes_max: usize) -> Self {
        Self {
            published: Default::default(),
            publish_time: Histogram::default(),
            received: Count::default(),
            gaps: Count::default(),
            duplicates: Count::default(),
            unknown_messages: Count::default(),
            malformed_messages: Count::default(),
            connects: Count::default(),
            failed_connects: Count::default(),
            script_errors: Count::default(),
            lives: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            queued_max: AtomicUsize::new(queued_max),
            queued_bytes: AtomicUsize::new(0),
            queued_bytes_max: AtomicUsize::new(queued_bytes_max),
            start: Instant::now(),
            renewed: AtomicU64::new(0),
        }
    }

    /// How many events ended so. Each of a batch counts, and each channel of one.
    #[expect(clippy::indexing_slicing, reason = "the index is an enum's, the array as long as the enum")]
    pub const fn published(&self, outcome: Published) -> &Tally {
        &self.published[outcome as usize]
    }

    /// Redis has renewed the lease, which was asked for at `asked`.
    pub fn renewed(&self, asked: Instant) {
        let micros = asked.saturating_duration_since(self.start).as_micros();
        self.renewed.store(u64::try_from(micros).unwrap_or(u64::MAX).max(1), Relaxed);
    }

    /// How long ago the lease was renewed; `None`: never.
    pub fn lease_age(&self, now: Instant) -> Option<Duration> {
        let renewed = Some(self.renewed.load(Relaxed)).filter(|micros| *micros > 0)?;
        Some(now.saturating_duration_since(self.start).saturating_sub(Duration::from_micros(renewed)))
    }

    /// Whether the first attempt to reach Redis has not ended yet, either way.
    pub fn is_starting(&self) -> bool {
        self.connects.value() == 0 && self.failed_connects.value() == 0
    }

    /// How often the connections were made again.
    pub fn reconnects(&self) -> u64 {
        self.connects.value().saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_a_counter_of_its_own() {
        let metrics = RedisMetrics::new(1, 1);
        for (n, (outcome, _)) in (1..).zip(Published::ALL) {
            metrics.published(outcome).add(n);
        }
        for (n, (outcome, word)) in (1..).zip(Published::ALL) {
            assert_eq!(metrics.published(outcome).value(), n, "{word}");
        }
    }

    #[test]
    fn a_time_falls_into_the_step_that_it_does_not_exceed() {
        let histogram = Histogram::default();
        for micros in [0, 250, 251, 1_000_000, 1_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let filled: Vec<_> = histogram.buckets().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.000_25, 2), (0.000_5, 1), (1.0, 1), (f64::MAX, 1)]);
        assert!((histogram.seconds() - 2.000_502).abs() < 1e-9);
    }

    #[test]
    fn the_lease_has_an_age_once_it_was_renewed() {
        let metrics = RedisMetrics::new(1, 1);
        let start = metrics.start;
        assert_eq!(metrics.lease_age(start), None);
        metrics.renewed(start + Duration::from_secs(2));
        assert_eq!(metrics.lease_age(start + Duration::from_secs(5)), Some(Duration::from_secs(3)));
        assert_eq!(metrics.lease_age(start), Some(Duration::ZERO));
    }

    #[test]
    fn it_is_starting_until_an_attempt_has_ended() {
        let metrics = RedisMetrics::new(1, 1);
        assert!(metrics.is_starting());
        metrics.failed_connects.add(1);
        assert!(!metrics.is_starting());
        assert_eq!(metrics.reconnects(), 0);
        metrics.connects.add(2);
        assert_eq!(metrics.reconnects(), 1);
    }
}
