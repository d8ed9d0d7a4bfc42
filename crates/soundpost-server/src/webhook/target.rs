//! The sending of one webhook: a task that keeps its [`Queue`] and carries out what that says.
//!
//! Whoever has events pushes them through a [`TargetHandle`], which never waits; what the queue is through with goes back
//! by the [`Heard`] that was given at the start.

mod place;
mod troubles;

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use soundpost_protocol::webhook::{
    event::Encoded,
    queue::{Attempt, Behind, Fate, Outcome, Queue, QueueLimits, RequestId, Settled, Verdict},
    target::Batching,
};
use tokio::{
    sync::Notify,
    task::{self, JoinError, JoinSet},
    time::sleep_until,
};

pub use self::place::Place;
use self::troubles::Troubles;
use super::{
    carrier::{Carrier, Problem},
    metrics::{Dropped, WebhookMetrics},
};

/// An event for one webhook.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// What to tell.
    pub event: Encoded,
    /// Where it is kept, if it is kept anywhere else.
    pub place: Option<Place>,
    /// When it happened.
    pub since: Instant,
}

/// Hears of every event that was pushed, exactly once, when the queue is through with it; of those at its end that it was
/// given up. Called by the target's task, and must not block.
pub type Heard = Box<dyn FnMut(Vec<Settled<Option<Place>>>) + Send>;

/// What a target begins with.
pub struct Beginning {
    /// Whose it is and where it goes, for the log.
    pub name: TargetName,
    /// How it is told.
    pub carrier: Carrier,
    /// In what portions.
    pub batching: Batching,
    /// How much of it waits and is sent at once.
    pub limits: QueueLimits,
    /// Where it is counted.
    pub metrics: Arc<WebhookMetrics>,
    /// Who hears what has become of the events.
    pub heard: Heard,
}

impl fmt::Debug for Beginning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beginning").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What the log says of a target: nothing that could hold a secret.
#[derive(Clone, Debug)]
pub struct TargetName {
    /// The app's id.
    pub app: String,
    /// The webhook's.
    pub webhook: String,
    /// The host of its URL, or what else says where it goes.
    pub host: String,
}

/// The way to a target's task. What is cloned is the way, not the task.
#[derive(Clone, Debug)]
pub struct TargetHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    metrics: Arc<WebhookMetrics>,
}

#[derive(Debug)]
struct State {
    queue: Queue<Option<Place>>,
    carrier: Arc<Carrier>,
    /// What pushes have settled, until the task hands it back.
    settled: Vec<Settled<Option<Place>>>,
    /// What was lost elsewhere and the log has not heard of.
    lost: u64,
    phase: Phase,
    /// Until when attempts may be begun.
    permit: Permit,
    /// What the metrics know.
    depth: usize,
}

/// Until when a target may begin attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// As long as it runs.
    Always,
    /// Until then: another may send from then on.
    Until(Instant),
    /// Not now: another sends.
    Never,
}

impl Permit {
    fn holds(self, now: Instant) -> bool {
        match self {
            Self::Always => true,
            Self::Until(until) => now < until,
            Self::Never => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    /// Nothing is begun any more; what is under way comes to its end.
    Closing,
    /// Over at once.
    Stopped,
}

impl TargetHandle {
    /// Begins a target as a task of `tasks`.
    pub fn start(beginning: Beginning, tasks: &mut JoinSet<()>) -> Self {
        let Beginning { name, carrier, batching, limits, metrics, heard } = beginning;
        let state = Mutex::new(State {
            queue: Queue::new(batching, limits),
            carrier: Arc::new(carrier),
            settled: Vec::new(),
            lost: 0,
            phase: Phase::Running,
            permit: Permit::Always,
            depth: 0,
        });
        let shared = Arc::new(Shared { state, changed: Notify::new(), metrics });
        let task = Task {
            shared: Arc::clone(&shared),
            heard,
            troubles: Troubles::new(name),
            attempts: JoinSet::new(),
            requests: HashMap::new(),
        };
        tasks.spawn(task.run());
        Self(shared)
    }

    /// Puts events behind all others; those of one channel must come in their order. Does not wait: what is more than may
    /// wait pushes the oldest out. When the target has ended, nobody hears of them any more.
    pub fn push(&self, events: Vec<Incoming>) {
        self.push_with(events, None);
    }

    /// The same for events that are the oldest of more: so much waits elsewhere behind them. All of it together is held to the
    /// limits; what is pushed out for it is for those to count who take it out of where it is kept.
    pub fn push_before(&self, events: Vec<Incoming>, behind: Behind) {
        self.push_with(events, Some(behind));
    }

    fn push_with(&self, events: Vec<Incoming>, behind: Option<Behind>) {
        self.0.change(|state| {
            if state.phase == Phase::Stopped {
                let lost = events.iter().filter(|event| event.place.is_none()).count();
                self.0.metrics.dropped(Dropped::Abandoned).add(lost as u64);
                return;
            }
            for Incoming { event, place, since } in events {
                state.queue.push(event, place, since, &mut state.settled);
            }
            if let Some(behind) = behind {
                state.queue.make_room(behind, &mut state.settled);
            }
        });
    }

    /// So many events were pushed out where they are kept.
    pub fn lost(&self, events: u64) {
        self.0.metrics.dropped(Dropped::Overflow).add(events);
        self.0.change(|state| state.lost += events);
    }

    /// From here on no event waits for others to fill a body.
    pub fn flush(&self) {
        self.0.change(|state| state.queue.flush());
    }

    /// From here on it is told like this; attempts under way end as they began.
    pub fn set(&self, carrier: Carrier, batching: Batching) {
        self.0.change(|state| {
            state.carrier = Arc::new(carrier);
            state.queue.set_batching(batching);
        });
    }

    /// From here on attempts may be begun until then; at first [`Permit::Always`]. What is under way is not touched by that.
    pub fn permit(&self, permit: Permit) {
        self.0.change(|state| state.permit = permit);
    }

    /// Forgets all there is, requests under way too, without a word to [`Heard`]: it is another's to send.
    pub fn forget(&self) {
        self.0.change(|state| {
            state.queue.abandon(&mut state.settled);
            state.settled.clear();
        });
    }

    /// Whether its task has ended, or is about to with nothing under way.
    pub fn is_over(&self) -> bool {
        self.0.state.lock().phase == Phase::Stopped
    }

    /// Where it is counted.
    pub fn metrics(&self) -> &WebhookMetrics {
        &self.0.metrics
    }

    /// Events that are not settled.
    pub fn depth(&self) -> usize {
        self.0.state.lock().depth
    }

    /// Begins nothing any more; when what is under way has ended, all else is given up and the task ends.
    pub fn close(&self) {
        self.0.change(|state| state.phase = state.phase.max(Phase::Closing));
    }

    /// Gives up all there is, requests under way too, and ends the task.
    pub fn stop(&self) {
        self.0.change(|state| state.phase = Phase::Stopped);
    }
}

impl Shared {
    /// Changes the state and wakes the task.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        self.count(&mut state);
        drop(state);
        self.changed.notify_one();
    }

    /// Tells the metrics how much there is.
    fn count(&self, state: &mut State) {
        let depth = state.queue.depth();
        self.metrics.depth.moved(state.depth, depth);
        state.depth = depth;
    }
}

type Ended = Result<(task::Id, Result<Outcome, Problem>), JoinError>;

struct Task {
    shared: Arc<Shared>,
    heard: Heard,
    troubles: Troubles,
    /// Those under way.
    attempts: JoinSet<Result<Outcome, Problem>>,
    /// Whose they are.
    requests: HashMap<task::Id, RequestId>,
}

/// What is to be done next.
struct Step {
    attempts: Vec<Attempt>,
    carrier: Arc<Carrier>,
    settled: Vec<Settled<Option<Place>>>,
    lost: u64,
    next: Option<Instant>,
    is_over: bool,
}

impl Task {
    async fn run(mut self) {
        loop {
            let step = self.step();
            self.settle(step.settled);
            self.troubles.lost(step.lost);
            if step.is_over {
                self.troubles.say_rest();
                return;
            }
            for attempt in step.attempts {
                self.begin(attempt, &step.carrier);
            }
            let log_at = self.troubles.say(Instant::now());
            let next = [step.next, log_at].into_iter().flatten().min();
            tokio::select! {
                Some(ended) = self.attempts.join_next_with_id() => self.ended(ended),
                () = self.shared.changed.notified() => {}
                () = until(next) => {}
            }
            while let Some(ended) = self.attempts.try_join_next_with_id() {
                self.ended(ended);
            }
        }
    }

    /// Asks the queue what to do now.
    fn step(&self) -> Step {
        let state = &mut *self.shared.state.lock();
        let (mut attempts, mut settled) = (Vec::new(), std::mem::take(&mut state.settled));
        let is_over = match state.phase {
            Phase::Running => false,
            Phase::Closing => self.attempts.is_empty(),
            Phase::Stopped => true,
        };
        let mut next = None;
        if is_over {
            state.phase = Phase::Stopped;
            state.queue.abandon(&mut settled);
        } else if state.phase == Phase::Running && state.permit.holds(Instant::now()) {
            next = state.queue.poll(Instant::now(), unix_ms(), &mut attempts, &mut settled);
        }
        self.shared.count(state);
        let lost = std::mem::take(&mut state.lost);
        Step { attempts, carrier: Arc::clone(&state.carrier), settled, lost, next, is_over }
    }

    fn begin(&mut self, attempt: Attempt, carrier: &Arc<Carrier>) {
        let metrics = &self.shared.metrics;
        metrics.sent.add(1);
        if attempt.number > 1 {
            metrics.retried.add(1);
        }
        let (request, carrier) = (attempt.request, Arc::clone(carrier));
        let task = self.attempts.spawn(async move { carrier.send(&attempt).await });
        self.requests.insert(task.id(), request);
    }

    /// Tells the queue what came of an attempt, also of one whose task has panicked: or its channels would wait for ever.
    fn ended(&mut self, ended: Ended) {
        let (task, answer) = match ended {
            Ok((task, answer)) => (task, answer),
            Err(error) => {
                (error.id(), Err(Problem::new("sending it failed; this is a fault of Soundpost's")))
            }
        };
        let Some(request) = self.requests.remove(&task) else { return };
        let outcome = answer.as_ref().map_or(Outcome::Unanswered, |outcome| *outcome);
        if outcome.verdict() != Verdict::Delivered {
            self.shared.metrics.failed.add(1);
            self.troubles.failed(&answer);
        }
        let mut settled = Vec::new();
        self.shared.state.lock().queue.finished(request, outcome, Instant::now(), &mut settled);
        self.settle(settled);
    }

    fn settle(&mut self, settled: Vec<Settled<Option<Place>>>) {
        if settled.is_empty() {
            return;
        }
        let now = Instant::now();
        // What is kept elsewhere is not lost with this queue, and what is too much there goes when it is taken out.
        let stays = |event: &Settled<Option<Place>>| {
            matches!(event.fate, Fate::Abandoned | Fate::Overflow) && event.token.is_some()
        };
        for event in settled.iter().filter(|event| !stays(event)) {
            self.shared.metrics.settled(event.fate, now.saturating_duration_since(event.since));
            self.troubles.settled(event.fate);
        }
        (self.heard)(settled);
    }
}

async fn until(next: Option<Instant>) {
    match next {
        Some(next) => sleep_until(next.into()).await,
        None => std::future::pending().await,
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
