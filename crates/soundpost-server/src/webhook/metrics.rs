//! What is counted of an app's webhooks. All of it may be read at any time, on any thread.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::metrics::histogram::Histogram;
use soundpost_protocol::webhook::queue::Fate;

use crate::apps::AppIndex;
pub use crate::metrics::Total;

/// Bounds of the delivery latency, seconds: from a receiver next door to the last attempt.
const LATENCY_BOUNDS: [f64; 15] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// A number that several targets have a part in.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

impl Level {
    /// One part is so much now, and was so much before.
    pub fn moved(&self, before: usize, now: usize) {
        // Wraps below zero in between, and back: the sum of all parts is what counts.
        self.0.fetch_add((now as u64).wrapping_sub(before as u64), Relaxed);
    }

    /// All parts together.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Why events were not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// [`Fate::Refused`].
    Refused,
    /// [`Fate::Expired`].
    Expired,
    /// [`Fate::Overflow`].
    Overflow,
    /// [`Fate::TooLarge`].
    TooLarge,
    /// [`Fate::Abandoned`]: the webhook was removed, or the node has ended, before it was sent.
    Abandoned,
    /// The inbox had no room for what has happened; it is not known how many webhooks would have been told.
    Inbox,
}

impl Dropped {
    /// Every reason with the word of its label, in the order of declaration.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Refused, Fate::Refused(0).word()),
        (Self::Expired, Fate::Expired.word()),
        (Self::Overflow, Fate::Overflow.word()),
        (Self::TooLarge, Fate::TooLarge.word()),
        (Self::Abandoned, Fate::Abandoned.word()),
        (Self::Inbox, "inbox"),
    ];

    /// `None`: it was delivered.
    pub const fn of(fate: Fate) -> Option<Self> {
        match fate {
            Fate::Delivered => None,
            Fate::Refused(_) => Some(Self::Refused),
            Fate::Expired => Some(Self::Expired),
            Fate::Overflow => Some(Self::Overflow),
            Fate::TooLarge => Some(Self::TooLarge),
            Fate::Abandoned => Some(Self::Abandoned),
        }
    }
}

/// What is counted of all webhooks of one app, on this node.
#[derive(Debug)]
pub struct WebhookMetrics {
    /// Attempts: requests that were sent, or jobs that were pushed, again ones too.
    pub sent: Total,
    /// Attempts that failed: no answer, or none of success.
    pub failed: Total,
    /// Attempts that were not the first of their body.
    pub retried: Total,
    /// Events that receivers have taken.
    pub delivered: Total,
    dropped: [Total; Dropped::ALL.len()],
    /// Events that are not settled.
    pub depth: Level,
    /// From when an event happened until its receiver has taken it, seconds.
    pub delivery_seconds: Histogram,
}

impl Default for WebhookMetrics {
    fn default() -> Self {
        Self {
            sent: Total::default(),
            failed: Total::default(),
            retried: Total::default(),
            delivered: Total::default(),
            dropped: Default::default(),
            depth: Level::default(),
            delivery_seconds: Histogram::new(LATENCY_BOUNDS),
        }
    }
}

impl WebhookMetrics {
    /// Events that were dropped for this reason.
    #[expect(clippy::indexing_slicing, reason = "one counter for each reason, in their order")]
    pub const fn dropped(&self, reason: Dropped) -> &Total {
        &self.dropped[reason as usize]
    }

    /// An event has come to its end, so long after it happened.
    pub fn settled(&self, fate: Fate, after: Duration) {
        match Dropped::of(fate) {
            Some(reason) => self.dropped(reason).add(1),
            None => {
                self.delivered.add(1);
                self.delivery_seconds.observe(after.as_secs_f64());
            }
        }
    }
}

/// The metrics of all apps that have had webhooks since they were there.
#[derive(Debug, Default)]
pub struct Meters(Mutex<BTreeMap<AppIndex, Arc<WebhookMetrics>>>);

impl Meters {
    /// The app's, made if there are none.
    pub fn of(&self, app: AppIndex) -> Arc<WebhookMetrics> {
        Arc::clone(self.0.lock().entry(app).or_default())
    }

    /// The app's, if it has or had webhooks.
    pub fn find(&self, app: AppIndex) -> Option<Arc<WebhookMetrics>> {
        self.0.lock().get(&app).cloned()
    }

    /// Forgets the apps that are not to be kept.
    pub fn retain(&self, keep: impl Fn(AppIndex) -> bool) {
        self.0.lock().retain(|app, _| keep(*app));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_by_their_fate() {
        let metrics = WebhookMetrics::default();
        for fate in [Fate::Delivered, Fate::Refused(404), Fate::Expired, Fate::Overflow, Fate::TooLarge] {
            metrics.settled(fate, Duration::from_millis(7));
        }
        metrics.settled(Fate::Refused(410), Duration::ZERO);
        assert_eq!(metrics.delivered.value(), 1);
        let dropped = Dropped::ALL.map(|(reason, word)| (word, metrics.dropped(reason).value()));
        let expected = [2, 1, 1, 1, 0, 0];
        let words = ["refused", "expired", "overflow", "too_large", "abandoned", "inbox"];
        assert_eq!(dropped, std::array::from_fn(|at| (words[at], expected[at])));
    }

    #[test]
    fn a_level_is_the_sum_of_its_parts() {
        let level = Level::default();
        for (before, now) in [(0, 5), (0, 3), (5, 1), (3, 0)] {
            level.moved(before, now);
        }
        assert_eq!(level.value(), 1);
    }
}
