//! What the adapter counts. All of it may be read at any time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::metrics::histogram::Histogram;

pub use crate::metrics::Total;

/// Bounds of the publish latency, seconds.
const LATENCY_BOUNDS: [f64; 14] =
    [0.0001, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

impl Level {
    /// For the adapter.
    pub fn set(&self, n: usize) {
        self.0.store(n as u64, Relaxed);
    }

    /// What it was last.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How full a lane is.
#[derive(Debug, Default)]
pub struct Fill {
    /// What waits.
    pub items: Level,
    /// Its bytes.
    pub bytes: Level,
}

/// What the adapter counts.
#[derive(Debug)]
pub struct RedisMetrics {
    /// Publishes that Redis has confirmed, or that were delivered on this node while it was away.
    pub accepted: Total,
    /// Publishes refused because Redis was away, or said no, or a queue was full.
    pub refused: Total,
    /// Publishes that waited for so long that they were taken back: Redis has never seen them.
    pub withdrawn: Total,
    /// Publishes that Redis was given and did not confirm in time.
    pub unconfirmed: Total,
    /// Messages that came on topics.
    pub received: Total,
    /// Events that are missing in what came on topics.
    pub gaps: Total,
    /// Events that came twice and were dropped.
    pub duplicates: Total,
    /// Messages of a version or kind that this version does not know; dropped.
    pub unknown: Total,
    /// Messages that are none; dropped.
    pub malformed: Total,
    /// How often Redis was reached, the first time included.
    pub connects: Total,
    /// Scripts and commands that Redis refused.
    pub errors: Total,
    /// Lives that were found dead.
    pub deaths: Total,
    /// Lives that this node has taken after its first.
    pub renewals: Total,
    /// From taking an event to Redis' confirmation, seconds.
    pub publish_seconds: Histogram,
    /// Publishes that wait to be written; at most [`super::PUBLISHES_MAX`] and [`super::PUBLISH_BYTES_MAX`].
    pub publishes: Fill,
    /// What channels ask for and is not written yet; at most [`super::ASKS_MAX`].
    pub asks: Level,
    /// What was written and is not answered.
    pub in_flight: Fill,
    /// Milliseconds of the adapter's clock.
    leased_at: AtomicU64,
    started: std::time::Instant,
}

impl Default for RedisMetrics {
    fn default() -> Self {
        Self {
            accepted: Total::default(),
            refused: Total::default(),
            withdrawn: Total::default(),
            unconfirmed: Total::default(),
            received: Total::default(),
            gaps: Total::default(),
            duplicates: Total::default(),
            unknown: Total::default(),
            malformed: Total::default(),
            connects: Total::default(),
            errors: Total::default(),
            deaths: Total::default(),
            renewals: Total::default(),
            publish_seconds: Histogram::new(LATENCY_BOUNDS),
            publishes: Fill::default(),
            asks: Level::default(),
            in_flight: Fill::default(),
            leased_at: AtomicU64::new(0),
            started: std::time::Instant::now(),
        }
    }
}

impl RedisMetrics {
    /// Seconds since the lease was last renewed, or since the start if it never was.
    pub fn lease_age_seconds(&self) -> f64 {
        let now = self.started.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since the start")]
        let leased_at = self.leased_at.load(Relaxed) as f64 / 1000.0;
        (now - leased_at).max(0.0)
    }

    /// For the adapter: the lease that was asked for then is renewed.
    pub fn leased(&self, at: std::time::Instant) {
        let since = at.saturating_duration_since(self.started);
        self.leased_at.store(u64::try_from(since.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }
}
