//! What is sent to one target when: order, portions, retries, and what is given up.
//!
//! **Order.** The events of one channel are sent in the order in which they came, within bodies and across them. A request
//! that is not settled, under way or waiting for its next attempt, blocks the channels of its events: what else waits of
//! these follows when the request is settled. Other channels go on beside it, so a body that the receiver cannot take
//! holds up its own channels alone. A body is made once and sent again as it is.
//!
//! **Bounds.** What waits is bounded in events and bytes; when it is more, the oldest goes, whatever its channel. What is
//! in requests is bounded by their number and [`BODY_BYTES_MAX`]. Where more waits elsewhere, of which this queue has the oldest
//! part, the owner says how much: [`Queue::make_room`].
//!
//! **Given up** is a request that fails [`RETRY_FOR`] after its first attempt, and an event that has waited so long while
//! the target only failed: a target that comes back after an hour is sent what has happened in the last minutes, not in
//! the hour. A target that is slow, but answers, loses nothing by that.
//!
//! The receiver gets each event at most once, except that it gets one again whose attempt had no answer, or one of those
//! that ask for another attempt.
//!
//! Knows no clock: who calls says what time it is. Does not send: [`Queue::poll`] says what to send and when to ask again.

mod lanes;
mod retry;

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

pub use retry::{ATTEMPT_TIMEOUT, Outcome, RETRY_FOR, Verdict};

use super::{
    event::{self, Encoded},
    signature,
    target::Batching,
};
use lanes::{Lanes, Waiting};

/// Bytes of the events in one body; a larger event goes alone.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// How much of one target's a queue keeps and sends at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Events that wait.
    pub events_max: NonZeroUsize,
    /// Bytes of their JSON.
    pub bytes_max: NonZeroUsize,
    /// Requests under way.
    pub requests_max: NonZeroUsize,
    /// Requests that wait for their next attempt, beside those under way. When there are so many, nothing new is sent.
    pub retrying_max: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        const fn number(number: usize) -> NonZeroUsize {
            NonZeroUsize::MIN.saturating_add(number - 1)
        }
        Self {
            events_max: number(10_000),
            bytes_max: number(16 * 1024 * 1024),
            requests_max: number(4),
            retrying_max: 32,
        }
    }
}

/// Names a request of one queue, over all its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// A body to be sent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// To be named in [`Queue::finished`].
    pub request: RequestId,
    /// From 1 on; above it, this body was sent before.
    pub number: u32,
    /// The bytes to sign and send.
    pub body: Bytes,
    /// Value of [`signature::EVENT_IDS`].
    pub event_ids: Arc<str>,
    /// Events in the body.
    pub events: usize,
}

/// What waits elsewhere, newer than all that is in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// Events.
    pub events: usize,
    /// Bytes of their JSON.
    pub bytes: usize,
}

/// What has become of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// The receiver has it.
    Delivered,
    /// The receiver will never take it: the status of its answer.
    Refused(u16),
    /// The target has failed for [`RETRY_FOR`].
    Expired,
    /// Too much waited, and it was the oldest.
    Overflow,
    /// It alone is more than may wait.
    TooLarge,
    /// The queue was given up with it.
    Abandoned,
}

impl Fate {
    /// The word in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Refused(_) => "refused",
            Self::Expired => "expired",
            Self::Overflow => "overflow",
            Self::TooLarge => "too_large",
            Self::Abandoned => "abandoned",
        }
    }
}

/// An event that the queue is through with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled<T> {
    /// What it was pushed with.
    pub token: T,
    /// What has become of it.
    pub fate: Fate,
    /// When it was pushed.
    pub since: Instant,
}

/// What one target is still to be sent. `T`: what the owner needs to know an event again, such as its place in a
/// stream; each goes back in a [`Settled`] exactly once.
#[derive(Debug)]
pub struct Queue<T> {
    batching: Batching,
    limits: QueueLimits,
    lanes: Lanes<T>,
    requests: BTreeMap<RequestId, Request<T>>,
    under_way: usize,
    begun: u64,
    /// Since when nothing but failures came back.
    failing_since: Option<Instant>,
    is_flushing: bool,
}

#[derive(Debug)]
struct Request<T> {
    events: Vec<Waiting<T>>,
    body: Bytes,
    event_ids: Arc<str>,
    begun_at: Instant,
    attempts: u32,
    /// `None`: an attempt is under way.
    retry_at: Option<Instant>,
}

impl<T> Queue<T> {
    /// One in which nothing waits.
    pub const fn new(batching: Batching, limits: QueueLimits) -> Self {
        Self {
            batching,
            limits,
            lanes: Lanes::new(),
            requests: BTreeMap::new(),
            under_way: 0,
            begun: 0,
            failing_since: None,
            is_flushing: false,
        }
    }

    /// Puts an event behind all others. `settled` hears of what must go for it: mostly nothing.
    pub fn push(&mut self, event: Encoded, token: T, now: Instant, settled: &mut Vec<Settled<T>>) {
        let waiting = Waiting { event, token, since: now };
        if waiting.event.json.len() > self.limits.bytes_max.get() {
            return settle(settled, [waiting], Fate::TooLarge);
        }
        self.lanes.push(waiting);
        while self.lanes.len() > self.limits.events_max.get()
            || self.lanes.bytes() > self.limits.bytes_max.get()
        {
            settle(settled, self.lanes.pop_oldest(), Fate::Overflow);
        }
    }

    /// Drops the oldest of what waits until all that is not settled, here and `behind`, requests too, is no more than the limits;
    /// or until nothing waits here: a request stays.
    pub fn make_room(&mut self, behind: Behind, settled: &mut Vec<Settled<T>>) {
        let QueueLimits { events_max, bytes_max, .. } = self.limits;
        let sent = || self.requests.values().flat_map(|request| &request.events);
        let events = behind.events + sent().count();
        let bytes = behind.bytes + sent().map(|waiting| waiting.event.json.len()).sum::<usize>();
        while events + self.lanes.len() > events_max.get() || bytes + self.lanes.bytes() > bytes_max.get() {
            let Some(oldest) = self.lanes.pop_oldest() else { return };
            settle(settled, [oldest], Fate::Overflow);
        }
    }

    /// What is to be sent now; each attempt must be answered by [`Self::finished`]. `unix_ms`: now as Unix time, for new
    /// bodies. To be called after each push and each answer, and at the time it gives back: nothing is due before.
    pub fn poll(
        &mut self,
        now: Instant,
        unix_ms: u64,
        attempts: &mut Vec<Attempt>,
        settled: &mut Vec<Settled<T>>,
    ) -> Option<Instant> {
        self.expire(now, settled);
        self.retry(now, attempts);
        while self.has_room() && self.batch_due().is_some_and(|due| due <= now) {
            self.begin(now, unix_ms, attempts);
        }
        self.next_look()
    }

    /// An attempt has come to its end. Then [`Self::poll`]. What is not under way is not minded.
    pub fn finished(
        &mut self,
        request: RequestId,
        outcome: Outcome,
        now: Instant,
        settled: &mut Vec<Settled<T>>,
    ) {
        let Some(sent) = self.requests.get_mut(&request).filter(|sent| sent.retry_at.is_none()) else {
            return;
        };
        self.under_way -= 1;
        let fate = match (outcome.verdict(), outcome) {
            (Verdict::Delivered, _) => Fate::Delivered,
            (Verdict::Refused, Outcome::Status(status)) => Fate::Refused(status),
            (Verdict::Refused, Outcome::Unanswered) | (Verdict::Retry, _) => {
                self.failing_since.get_or_insert(now);
                sent.retry_at = retry::next_attempt(sent.begun_at, sent.attempts, now);
                if sent.retry_at.is_some() {
                    return;
                }
                Fate::Expired
            }
        };
        if fate != Fate::Expired {
            self.failing_since = None;
        }
        let events = self.requests.remove(&request).map(|sent| sent.events).unwrap_or_default();
        for waiting in &events {
            self.lanes.release(&waiting.event.channel);
        }
        settle(settled, events, fate);
    }

    /// From here on nothing waits for others to fill a body: the server drains.
    pub const fn flush(&mut self) {
        self.is_flushing = true;
    }

    /// From here on bodies are made in these portions; those that are made stay as they are.
    pub const fn set_batching(&mut self, batching: Batching) {
        self.batching = batching;
    }

    /// Gives up all there is, requests under way too.
    pub fn abandon(&mut self, settled: &mut Vec<Settled<T>>) {
        for (_, request) in std::mem::take(&mut self.requests) {
            settle(settled, request.events, Fate::Abandoned);
        }
        while let Some(waiting) = self.lanes.pop_oldest() {
            settle(settled, [waiting], Fate::Abandoned);
        }
        self.lanes = Lanes::new();
        self.under_way = 0;
        // What is pushed from here on was never sent, and the target may have come back meanwhile.
        self.failing_since = None;
    }

    /// Whether all events are settled.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.lanes.len() == 0
    }

    /// Events that are not settled, those in requests too.
    pub fn depth(&self) -> usize {
        self.lanes.len() + self.requests.values().map(|request| request.events.len()).sum::<usize>()
    }

    /// Since when the target has done nothing but fail.
    pub const fn failing_since(&self) -> Option<Instant> {
        self.failing_since
    }

    /// What has waited for too long while the target failed. Those in requests have their own end.
    fn expire(&mut self, now: Instant, settled: &mut Vec<Settled<T>>) {
        while self.expiry().is_some_and(|expiry| expiry <= now) {
            settle(settled, self.lanes.pop_oldest(), Fate::Expired);
        }
    }

    /// When the oldest will have waited for too long.
    fn expiry(&self) -> Option<Instant> {
        Some(self.lanes.oldest()?.since.max(self.failing_since?) + RETRY_FOR)
    }

    /// Sends again what is due, the longest due first.
    fn retry(&mut self, now: Instant, attempts: &mut Vec<Attempt>) {
        let mut due: Vec<_> = self
            .requests
            .iter()
            .filter_map(|(id, request)| Some((request.retry_at.filter(|at| *at <= now)?, *id)))
            .collect();
        due.sort_unstable();
        let room = self.limits.requests_max.get().saturating_sub(self.under_way);
        for (_, id) in due.into_iter().take(room) {
            if let Some(request) = self.requests.get_mut(&id) {
                self.under_way += 1;
                attempts.push(request.attempt(id));
            }
        }
    }

    /// Whether another request may begin.
    fn has_room(&self) -> bool {
        let requests_max = self.limits.requests_max.get();
        self.under_way < requests_max && self.requests.len() < requests_max + self.limits.retrying_max
    }

    /// When the next body is made, if there is room: it is full, or its first event has waited long enough.
    fn batch_due(&self) -> Option<Instant> {
        let first = self.lanes.next()?.since;
        let is_full = self.lanes.ready_events() >= self.batching.events_max();
        let wait = if is_full || self.is_flushing { Duration::ZERO } else { self.batching.wait() };
        Some(first + wait)
    }

    /// Makes a body of what is ready and sends it for the first time.
    fn begin(&mut self, now: Instant, unix_ms: u64, attempts: &mut Vec<Attempt>) {
        let (mut events, mut bytes) = (Vec::new(), 0);
        while events.len() < self.batching.events_max()
            && let Some(next) = self.lanes.next()
            && (events.is_empty() || bytes + next.event.json.len() <= BODY_BYTES_MAX)
            && let Some(next) = self.lanes.pop_next()
        {
            bytes += next.event.json.len();
            events.push(next);
        }
        for waiting in &events {
            self.lanes.block(&waiting.event.channel);
        }
        let encoded = events.iter().map(|waiting| &waiting.event);
        let body = event::body(unix_ms, encoded.clone());
        let event_ids = signature::event_ids(encoded).into();
        let mut request = Request { events, body, event_ids, begun_at: now, attempts: 0, retry_at: None };
        self.begun += 1;
        self.under_way += 1;
        attempts.push(request.attempt(RequestId(self.begun)));
        self.requests.insert(RequestId(self.begun), request);
    }

    fn next_look(&self) -> Option<Instant> {
        let has_slot = self.under_way < self.limits.requests_max.get();
        let retry = self.requests.values().filter_map(|request| request.retry_at).filter(|_| has_slot).min();
        let batch = self.batch_due().filter(|_| self.has_room());
        [retry, batch, self.expiry()].into_iter().flatten().min()
    }
}

impl<T> Request<T> {
    fn attempt(&mut self, id: RequestId) -> Attempt {
        self.attempts += 1;
        self.retry_at = None;
        Attempt {
            request: id,
            number: self.attempts,
            body: self.body.clone(),
            event_ids: self.event_ids.clone(),
            events: self.events.len(),
        }
    }
}

fn settle<T>(settled: &mut Vec<Settled<T>>, events: impl IntoIterator<Item = Waiting<T>>, fate: Fate) {
    settled.extend(events.into_iter().map(|waiting| Settled {
        token: waiting.token,
        fate,
        since: waiting.since,
    }));
}

#[cfg(test)]
mod tests;
