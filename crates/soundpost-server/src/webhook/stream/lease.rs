//! Which node sends a webhook: what this node knows of the lease, and when it asks again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::adapter::redis::streams::{Holding, LEASE};

/// How often the lease is renewed.
const RENEWAL: Duration = Duration::from_secs(2);
/// An attempt is begun only if the lease holds for so long from then on: most attempts are over by then.
const MARGIN: Duration = Duration::from_secs(2);
/// How often a node looks whether a lease of another is free.
const LOOK: Duration = Duration::from_millis(300);
/// Who finds one free gives others so long for each lease that it has, and at most the other: so webhooks spread over the nodes.
const STEP: Duration = Duration::from_millis(80);
const STEP_MAX: Duration = Duration::from_millis(320);

/// What is to be said about the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Look whether anybody has it.
    Look,
    /// Take it, or renew it.
    Hold,
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing.
    None,
    /// It is this node's turn, and what it had read before means nothing: another has sent since.
    Begins,
    /// It is this node's turn, and nobody else has sent since it last was.
    GoesOn,
    /// It is another's turn.
    Ends,
}

/// How many leases a node has. Clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Load(Arc<AtomicUsize>);

/// What a node knows of one lease.
#[derive(Debug)]
pub(super) struct Lease {
    state: State,
    load: Load,
    /// Differs from node to node and webhook to webhook.
    offset: Duration,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Another's, as far as is known. It is looked at then.
    Other(Instant),
    /// Nobody's, a moment ago. It is taken then.
    Free(Instant),
    /// This node's: it was asked for then, and is renewed then.
    Own(Instant, Instant),
}

impl Lease {
    /// One of which nothing is known. `spread`: any number, another on each node and for each webhook.
    pub(super) fn new(load: Load, spread: u64, now: Instant) -> Self {
        let offset = Duration::from_millis(spread % 100);
        Self { state: State::Other(now), load, offset }
    }

    /// What is to be asked now.
    pub(super) fn ask(&self, now: Instant) -> Option<Ask> {
        match self.state {
            State::Other(at) => (at <= now).then_some(Ask::Look),
            State::Free(at) | State::Own(_, at) => (at <= now).then_some(Ask::Hold),
        }
    }

    /// When something is to be asked again.
    pub(super) const fn next(&self) -> Instant {
        match self.state {
            State::Other(at) | State::Free(at) | State::Own(_, at) => at,
        }
    }

    /// The answer to [`Ask::Look`].
    pub(super) fn looked(&mut self, is_held: bool, now: Instant) {
        if matches!(self.state, State::Own(..)) {
            return;
        }
        let leases = u32::try_from(self.load.0.load(Relaxed)).unwrap_or(u32::MAX);
        let wait = self.offset + STEP.saturating_mul(leases).min(STEP_MAX);
        self.state = if is_held { State::Other(now + LOOK) } else { State::Free(now + wait) };
    }

    /// The answer to [`Ask::Hold`], which was asked at that time.
    pub(super) fn held(&mut self, holding: Holding, asked_at: Instant) -> Turn {
        let is_own = matches!(self.state, State::Own(..));
        if holding == Holding::Other {
            self.state = State::Other(asked_at + LOOK);
            if is_own {
                self.load.0.fetch_sub(1, Relaxed);
                return Turn::Ends;
            }
            return Turn::None;
        }
        self.state = State::Own(asked_at, asked_at + RENEWAL);
        if !is_own {
            self.load.0.fetch_add(1, Relaxed);
        }
        match (holding, is_own) {
            (Holding::After, _) => Turn::Begins,
            (_, true) => Turn::None,
            (_, false) => Turn::GoesOn,
        }
    }

    /// Somebody has it who is not this node, or it is gone: asked for again at once.
    pub(super) fn doubt(&mut self, now: Instant) {
        if let State::Own(_, renewal) = &mut self.state {
            *renewal = now;
        }
    }

    /// It is given up and not taken again.
    pub(super) fn let_go(&mut self) {
        if self.is_own() {
            self.load.0.fetch_sub(1, Relaxed);
        }
        // Nobody asks any more.
        self.state = State::Other(Instant::now() + LEASE);
    }

    /// Whether it is this node's turn, as far as it knows.
    pub(super) const fn is_own(&self) -> bool {
        matches!(self.state, State::Own(..))
    }

    /// Until when attempts may be begun; `None`: not at all.
    pub(super) fn sends_until(&self) -> Option<Instant> {
        match self.state {
            State::Own(asked_at, _) => Some(asked_at + (LEASE - MARGIN)),
            State::Other(_) | State::Free(_) => None,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.is_own() {
            self.load.0.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_free_lease_is_taken_and_renewed() {
        let (start, load) = (Instant::now(), Load::default());
        let mut lease = Lease::new(load.clone(), 250, start);
        assert_eq!((lease.ask(start), lease.sends_until()), (Some(Ask::Look), None));
        lease.looked(true, start);
        assert_eq!((lease.ask(start), lease.next()), (None, start + LOOK));
        lease.looked(false, start + LOOK);
        let at = start + LOOK + Duration::from_millis(50);
        assert_eq!((lease.next(), lease.ask(at)), (at, Some(Ask::Hold)));
        assert_eq!(lease.held(Holding::After, at), Turn::Begins);
        assert_eq!(lease.sends_until(), Some(at + seconds(4.0)));
        assert_eq!((lease.ask(at + seconds(1.9)), lease.ask(at + seconds(2.0))), (None, Some(Ask::Hold)));
        assert_eq!(lease.held(Holding::Own, at + seconds(2.0)), Turn::None);
        assert_eq!(lease.sends_until(), Some(at + seconds(6.0)));
        lease.doubt(at + seconds(2.1));
        assert_eq!(lease.ask(at + seconds(2.1)), Some(Ask::Hold));
        assert_eq!(lease.held(Holding::Other, at + seconds(2.1)), Turn::Ends);
        assert_eq!((lease.sends_until(), lease.ask(at + seconds(2.4))), (None, Some(Ask::Look)));
        assert_eq!(load.0.load(Relaxed), 0);
    }

    #[test]
    fn who_was_paused_goes_on_only_if_nobody_else_had_it() {
        let start = Instant::now();
        for (holding, turn) in
            [(Holding::Own, Turn::None), (Holding::After, Turn::Begins), (Holding::Other, Turn::Ends)]
        {
            let mut lease = Lease::new(Load::default(), 0, start);
            assert_eq!(lease.held(Holding::Own, start), Turn::GoesOn);
            let later = start + seconds(60.0);
            assert!(lease.sends_until().unwrap() < later, "paused: nothing is begun");
            assert_eq!(lease.ask(later), Some(Ask::Hold));
            assert_eq!(lease.held(holding, later), turn);
        }
    }

    #[test]
    fn who_has_many_lets_others_go_first() {
        let (start, load) = (Instant::now(), Load::default());
        let wait = || {
            let mut lease = Lease::new(load.clone(), 7, start);
            lease.looked(false, start);
            lease.next() - start
        };
        let mut leases = Vec::new();
        for expected in [7, 87, 167, 247, 327, 327] {
            assert_eq!(wait(), Duration::from_millis(expected));
            let mut lease = Lease::new(load.clone(), 0, start);
            lease.held(Holding::Own, start);
            leases.push(lease);
        }
        leases.pop().unwrap().let_go();
        drop(leases);
        assert_eq!(wait(), Duration::from_millis(7));
    }
}
