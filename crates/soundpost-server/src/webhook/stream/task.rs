//! The task of one stream on one node.
//!
//! It goes in rounds: all that is to be said to Redis at this moment is said at once, the answers are carried out, then it waits.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::time::{sleep_until, timeout_at};
use tracing::warn;

use super::{
    Shared,
    backlog::Batch,
    held::{Held, Settling},
    lease::{Ask, Lease, Turn},
};
use crate::{
    adapter::redis::{
        streams::{Call, Entries, From, Holding, Stream},
        wire::resp::Reply,
    },
    seldom::Seldom,
    webhook::{
        engine::TargetKey,
        metrics::Dropped,
        target::{Incoming, Permit, Place, TargetHandle},
    },
};

/// How often it is looked whether others have added anything.
const POLL: Duration = Duration::from_millis(100);
/// Between two rounds, so that what comes one by one is said together.
const GAP: Duration = Duration::from_millis(5);
/// After a round to which Redis did not answer.
const AWAY: Duration = Duration::from_millis(100);
/// After one that Redis refused a part of.
const REFUSED: Duration = Duration::from_secs(1);
/// How often the end of what is under way is looked for.
const ENDING: Duration = Duration::from_millis(20);

/// One of the things that are said in a round.
#[derive(Debug)]
enum Part {
    Look,
    Hold,
    Settle(Settling),
    Add(Batch),
    Read(From),
}

/// The task of one stream.
#[derive(Debug)]
pub(super) struct Task {
    stream: Stream,
    shared: Arc<Shared>,
    target: TargetHandle,
    lease: Lease,
    held: Held,
    /// When to read again.
    read_at: Instant,
    /// Nothing is said before.
    not_before: Instant,
    /// Entries in the stream that were not read yet, as the metrics know it.
    beyond: usize,
    /// How many events the stream had lost when this node, as the holder, asked last.
    lost: Option<u64>,
    unreadable_line: Seldom,
}

impl Task {
    pub(super) fn new(stream: Stream, shared: Arc<Shared>, target: TargetHandle, lease: Lease) -> Self {
        let now = Instant::now();
        let (held, unreadable_line) = (Held::default(), Seldom::default());
        Self {
            stream,
            shared,
            target,
            lease,
            held,
            read_at: now,
            not_before: now,
            beyond: 0,
            lost: None,
            unreadable_line,
        }
    }

    /// Runs until it is told to end.
    pub(super) async fn run(mut self) {
        loop {
            self.take_settled();
            let until = *self.shared.ending.lock();
            if let Some(until) = until {
                self.target.close();
                if self.is_done() || Instant::now() >= until {
                    return self.let_go(until).await;
                }
            }
            let now = Instant::now();
            let parts = if now < self.not_before { Vec::new() } else { self.parts(now, until.is_some()) };
            if !parts.is_empty() {
                self.round(parts, now).await;
                continue;
            }
            let next = self.next(now, until.is_some());
            tokio::select! {
                () = self.shared.changed.notified() => {}
                () = sleep_until(next.into()) => {}
            }
        }
    }

    fn take_settled(&mut self) {
        let settled = std::mem::take(&mut *self.shared.settled.lock());
        self.held.settle(settled);
    }

    /// Whether nothing is left to be said or sent before the end.
    fn is_done(&self) -> bool {
        self.target.is_over()
            && self.shared.settled.lock().is_empty()
            && !self.held.has_settled()
            && self.shared.backlog.lock().len() == 0
    }

    /// What is to be said now, in this order: what is added is read in the same round.
    fn parts(&mut self, now: Instant, is_ending: bool) -> Vec<Part> {
        let mut parts: Vec<_> = self.held.settling().map(Part::Settle).collect();
        match self.lease.ask(now) {
            Some(_) if is_ending && !self.lease.is_own() => {}
            Some(Ask::Look) => parts.push(Part::Look),
            Some(Ask::Hold) => parts.push(Part::Hold),
            None => {}
        }
        if self.shared.has_new.swap(false, Relaxed) {
            self.read_at = now;
        }
        let batch = self.shared.backlog.lock().next();
        let is_adding = batch.is_some();
        parts.extend(batch.map(Part::Add));
        let reads = self.lease.is_own() && !is_ending && (is_adding || self.read_at <= now);
        parts.extend(self.held.reads().filter(|_| reads).map(Part::Read));
        parts
    }

    /// When something is to be said, if nothing happens.
    fn next(&self, now: Instant, is_ending: bool) -> Instant {
        if now < self.not_before {
            return self.not_before;
        }
        let mut next = self.lease.next();
        if is_ending {
            next = now + ENDING;
        } else if self.lease.is_own() && self.held.reads().is_some() {
            next = next.min(self.read_at);
        }
        next
    }

    /// Says it all, and carries out the answers.
    async fn round(&mut self, parts: Vec<Part>, now: Instant) {
        let calls = parts.iter().map(|part| self.call(part)).collect();
        let Ok(replies) = self.stream.say(calls).await else {
            // What was read may be lost with the answer.
            self.held.look_again();
            self.not_before = Instant::now() + AWAY;
            return;
        };
        self.not_before = now + GAP;
        for (part, reply) in parts.into_iter().zip(replies) {
            self.answered(part, &reply, now);
        }
    }

    fn call(&self, part: &Part) -> Call {
        match part {
            Part::Look => self.stream.is_held(),
            Part::Hold => self.stream.hold(),
            Part::Settle(settling) => self.stream.settle(&settling.places, settling.why),
            Part::Add(batch) => self.stream.add(batch.events.iter().map(|event| &**event)),
            Part::Read(from) => self.stream.read(*from, self.lost),
        }
    }

    fn answered(&mut self, part: Part, reply: &Reply, asked_at: Instant) {
        if matches!(reply, Reply::Error(_)) {
            self.not_before = Instant::now() + REFUSED;
            if matches!(part, Part::Read(_)) {
                self.held.look_again();
            }
            return;
        }
        match part {
            Part::Look => self.lease.looked(*reply != Reply::Integer(0), asked_at),
            Part::Hold => self.held(reply, asked_at),
            Part::Settle(settling) => self.held.settled(&settling),
            Part::Add(batch) => {
                self.shared.backlog.lock().added(&batch);
                if batch.is_full() {
                    self.not_before = asked_at;
                }
            }
            Part::Read(from) => match self.stream.entries(reply) {
                Some(entries) => self.read(from, entries, asked_at),
                None => self.lease.doubt(asked_at),
            },
        }
    }

    fn held(&mut self, reply: &Reply, asked_at: Instant) {
        let Some(holding) = Holding::of(reply) else { return };
        match self.lease.held(holding, asked_at) {
            Turn::None => {}
            Turn::GoesOn => self.held.look_again(),
            // What is in memory, another has sent or sends.
            Turn::Begins | Turn::Ends => {
                // But what has come to its end by now has.
                self.take_settled();
                self.target.forget();
                self.held.lose();
                self.lost = None;
                self.count(0);
            }
        }
        self.read_at = asked_at;
        self.target.permit(self.lease.sends_until().map_or(Permit::Never, Permit::Until));
    }

    fn read(&mut self, from: From, entries: Entries, asked_at: Instant) {
        let Entries { list, depth, bytes, lost, told } = entries;
        self.lost(lost, told);
        let is_some = !list.is_empty();
        let now = Instant::now();
        let mut incoming = Vec::with_capacity(list.len());
        for entry in self.held.take(from, list) {
            let place = entry.place;
            let Some(event) = entry.event else {
                self.unreadable(place);
                continue;
            };
            let since = now.checked_sub(entry.age).unwrap_or(now);
            incoming.push(Incoming { event, place: Some(place), since });
        }
        let behind = self.held.behind(depth, bytes);
        if !incoming.is_empty() || behind.events > 0 {
            self.target.push_before(incoming, behind);
        }
        self.count(behind.events);
        let goes_on = from != From::New || (is_some && behind.events > 0);
        self.read_at = if goes_on { asked_at } else { asked_at + POLL };
        if goes_on {
            self.not_before = asked_at;
        }
    }

    /// The stream has lost so many events ever, and so many of them were counted when this node asked.
    fn lost(&mut self, lost: u64, told: u64) {
        // Where Redis has forgotten all, it counts from the beginning.
        let known = self.lost.filter(|known| *known <= lost).unwrap_or(told);
        self.lost = Some(lost);
        if lost > known {
            self.target.lost(lost - known);
        }
    }

    /// An entry of another version of this program, or of somebody else.
    fn unreadable(&mut self, place: Place) {
        self.held.give_up(place);
        self.target.metrics().dropped(Dropped::Abandoned).add(1);
        if self.unreadable_line.is_due() {
            let TargetKey { app_id, webhook, .. } = &self.shared.key;
            warn!(
                app = app_id.as_str(), %webhook, %place,
                "webhook: an event in redis that this version cannot read is dropped"
            );
        }
    }

    /// Tells the metrics how many wait in the stream beside those that the target has.
    fn count(&mut self, beyond: usize) {
        self.target.metrics().depth.moved(self.beyond, beyond);
        self.beyond = beyond;
    }

    /// The last words.
    async fn let_go(mut self, until: Instant) {
        self.count(0);
        if self.lease.is_own() {
            let mut calls: Vec<_> = self
                .held
                .settling()
                .map(|settling| self.stream.settle(&settling.places, settling.why))
                .collect();
            calls.push(self.stream.let_go(self.lost));
            // Should Redis not hear it, the lease runs out.
            let end = until.max(Instant::now() + super::LAST_WORDS / 2);
            drop(timeout_at(end.into(), self.stream.say(calls)).await);
            self.lease.let_go();
        }
    }
}
