//! Log lines that strangers can cause, held back.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};

/// The same line is logged at most so often, seconds: a misconfigured page has as many visitors as it has.
const INTERVAL_SECONDS: u64 = 60;

/// When a line was last logged, seconds since 1970; 0 if never.
#[derive(Debug, Default)]
pub struct Seldom(AtomicU64);

impl Seldom {
    /// Whether the line may be logged now, which is noted. Of several who ask at once only one may.
    pub fn is_due(&self) -> bool {
        self.is_due_at(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }

    fn is_due_at(&self, now: u64) -> bool {
        let before = self.0.load(Relaxed);
        now.saturating_sub(before) >= INTERVAL_SECONDS
            && self.0.compare_exchange(before, now, Relaxed, Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_once_a_minute() {
        let line = Seldom::default();
        for (second, is_due) in [(1000, true), (1000, false), (1059, false), (1060, true), (900, false)] {
            assert_eq!(line.is_due_at(second), is_due, "{second}");
        }
    }
}
