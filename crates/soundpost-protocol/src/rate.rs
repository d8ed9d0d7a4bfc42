//! How often something may happen: a bucket for client events, a window for Reverb's limit over all messages.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

/// Lets `per_second` events through each second, and as many at once after a pause.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// Events that may still happen now, in thousandths.
    level: u64,
    filled_at: Instant,
}

impl Bucket {
    /// A full one.
    pub const fn new(per_second: NonZeroU32, now: Instant) -> Self {
        Self { level: per_second.get() as u64 * 1000, filled_at: now }
    }

    /// Takes one event out; false if there is none.
    pub fn take(&mut self, per_second: NonZeroU32, now: Instant) -> bool {
        let per_second = u64::from(per_second.get());
        let passed = now.saturating_duration_since(self.filled_at).as_millis();
        // A thousandth of an event is gained each millisecond for each event a second.
        let gained = u64::try_from(passed).unwrap_or(u64::MAX).saturating_mul(per_second);
        if gained > 0 {
            self.filled_at = now;
        }
        self.level = self.level.saturating_add(gained).min(per_second * 1000);
        let enough = self.level >= 1000;
        if enough {
            self.level -= 1000;
        }
        enough
    }
}

/// Counts events in windows that follow one another. Source: Laravel's rate limiter, which Reverb uses.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    begun_at: Instant,
    count: u32,
}

impl Window {
    /// One in which nothing has happened.
    pub const fn new(now: Instant) -> Self {
        Self { begun_at: now, count: 0 }
    }

    /// Counts one event; false if `max` have happened already in this window of `length`.
    pub fn take(&mut self, max: NonZeroU32, length: Duration, now: Instant) -> bool {
        if now.saturating_duration_since(self.begun_at) >= length {
            *self = Self::new(now);
        }
        let free = self.count < max.get();
        self.count += u32::from(free);
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_a_burst_and_then_a_steady_rate() {
        let start = Instant::now();
        let ten = NonZeroU32::new(10).unwrap();
        let mut bucket = Bucket::new(ten, start);
        let taken = |bucket: &mut Bucket, ms: u64, tries: u32| {
            (0..tries).filter(|_| bucket.take(ten, start + Duration::from_millis(ms))).count()
        };
        assert_eq!(taken(&mut bucket, 0, 15), 10);
        assert_eq!(taken(&mut bucket, 50, 1), 0);
        assert_eq!(taken(&mut bucket, 100, 5), 1, "half an event is not lost");
        assert_eq!(taken(&mut bucket, 1_000_000, 15), 10);
    }

    #[test]
    fn a_window_starts_anew_when_it_is_over() {
        let start = Instant::now();
        let (max, length) = (NonZeroU32::new(2).unwrap(), Duration::from_secs(60));
        let mut window = Window::new(start);
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let taken: Vec<bool> =
            [0, 30, 59, 60, 60, 61].iter().map(|s| window.take(max, length, at(*s))).collect();
        assert_eq!(taken, [true, true, false, true, true, false]);
    }
}
