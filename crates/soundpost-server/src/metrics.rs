//! Counters of workers, of which each has one writer and is summed when somebody asks, and of what no worker does.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use soundpost_protocol::{close::CloseReason, connection::Refused};

/// A number that only grows. One thread writes it, so adding needs no locked instruction.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `n`. Only for the one thread that owns the counter.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// What was counted; any thread may ask.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that only grows, and that any thread may add to.
#[derive(Debug, Default)]
pub struct Total(AtomicU64);

impl Total {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// What was counted.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How a trigger of the HTTP API ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriggerResult {
    /// 200.
    Accepted,
    /// A status of the 400s.
    Refused,
    /// 503: no room, or Redis away.
    Unavailable,
}

impl TriggerResult {
    /// Every result with the word of its label.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Accepted, "accepted"), (Self::Refused, "refused"), (Self::Unavailable, "unavailable")];
}

/// How a client event ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientEventResult {
    /// Handed on to the channel.
    Accepted,
    /// No room in a worker's inbox, or Redis away.
    Unavailable,
}

impl ClientEventResult {
    /// Every result with the word of its label.
    pub const ALL: [(Self, &'static str); 2] =
        [(Self::Accepted, "accepted"), (Self::Unavailable, "unavailable")];
}

/// How a reload of the settings ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadResult {
    /// Something has changed.
    Applied,
    /// Nothing has, or only what needs a new start.
    Unchanged,
    /// They cannot hold, and the ones before stay.
    Refused,
}

impl ReloadResult {
    /// Every result with the word of its label.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Applied, "applied"), (Self::Unchanged, "unchanged"), (Self::Refused, "refused")];
}

/// The reloads of a node. Only the task that carries them out adds to them.
#[derive(Debug)]
pub struct Reloads {
    by_result: [Count; ReloadResult::ALL.len()],
    is_good: AtomicBool,
    good_at: AtomicU64,
}

impl Reloads {
    /// None yet: the start has just read good settings. `now` is in seconds since 1970.
    pub fn new(now: u64) -> Self {
        Self { by_result: Default::default(), is_good: AtomicBool::new(true), good_at: AtomicU64::new(now) }
    }

    /// Counts one that has just ended.
    pub fn count(&self, result: ReloadResult, now: u64) {
        let is_good = result != ReloadResult::Refused;
        self.is_good.store(is_good, Relaxed);
        if is_good {
            self.good_at.store(now, Relaxed);
        }
        // Last: who sees it counted sees how it ended.
        self.of(result).add(1);
    }

    /// How many ended so.
    pub fn of(&self, result: ReloadResult) -> &Count {
        nth(&self.by_result, result as usize)
    }

    /// Whether the settings could hold when they were last read.
    pub fn is_good(&self) -> bool {
        self.is_good.load(Relaxed)
    }

    /// When settings were last read that could hold, in seconds since 1970.
    pub fn good_at(&self) -> u64 {
        self.good_at.load(Relaxed)
    }
}

/// One app's counters on one worker, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct AppCounters {
    /// Frames of events and notices handed to connections.
    pub deliveries: Count,
    /// Bytes of frames handed to connections.
    pub sent_bytes: Count,
    /// Messages and control frames received.
    pub received_messages: Count,
    triggers: [Count; TriggerResult::ALL.len()],
    client_events: [Count; ClientEventResult::ALL.len()],
    closed: [Count; CloseReason::ALL.len()],
    refused: [Count; CloseReason::ALL.len()],
    refused_messages: [Count; Refused::ALL.len()],
    /// Requests of the HTTP API above the app's rate.
    pub refused_requests: Count,
}

impl AppCounters {
    /// How many triggers ended so.
    pub fn triggers(&self, result: TriggerResult) -> &Count {
        nth(&self.triggers, result as usize)
    }

    /// How many client events ended so.
    pub fn client_events(&self, result: ClientEventResult) -> &Count {
        nth(&self.client_events, result as usize)
    }

    /// How many connections ended for this reason.
    pub fn closed(&self, reason: CloseReason) -> &Count {
        nth(&self.closed, reason as usize)
    }

    /// How many messages of clients were refused so.
    pub fn refused_messages(&self, refused: Refused) -> &Count {
        nth(&self.refused_messages, refused as usize)
    }

    /// How many connections were refused for this reason.
    pub fn refused(&self, reason: CloseReason) -> &Count {
        nth(&self.refused, reason as usize)
    }
}

#[expect(clippy::indexing_slicing, reason = "the index is an enum's, the array as long as the enum")]
const fn nth(counts: &[Count], at: usize) -> &Count {
    &counts[at]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        let counters = AppCounters::default();
        for (n, reason) in (1..).zip(CloseReason::ALL) {
            counters.closed(reason).add(n);
        }
        for (n, reason) in (1..).zip(CloseReason::ALL) {
            assert_eq!(counters.closed(reason).value(), n, "{reason:?}");
        }
        for (result, word) in TriggerResult::ALL {
            counters.triggers(result).add(1);
            assert_eq!(counters.triggers(result).value(), 1, "{word}");
        }
        for (result, word) in ClientEventResult::ALL {
            counters.client_events(result).add(1);
            assert_eq!(counters.client_events(result).value(), 1, "{word}");
        }
    }
}
