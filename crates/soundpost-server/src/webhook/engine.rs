//! The task of the main thread that turns happenings into events and sees to it that each webhook has its target.
//!
//! On a node that is alone, [`Alone`] decides what is told. Where nodes meet at Redis, the scripts there decide, and the
//! events are kept in streams: that is the other [`Source`].

mod alone;
mod source;
mod targets;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    task::{JoinSet, yield_now},
    time::sleep_until,
};
use tracing::{info, warn};

pub(super) use self::targets::panicked;
pub use self::{
    alone::Alone,
    source::{Source, TargetKey},
    targets::Targets,
};
use super::{Inbox, Meters, metrics::Dropped};
use crate::{
    apps::{AppIndex, Apps},
    config::RedisSettings,
    seldom::Seldom,
};

/// A node that ends waits at most so long for what its webhooks are still to be sent, after its clients are gone.
pub const FAREWELL: Duration = Duration::from_secs(5);

/// How often the end of something is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// Happenings that are taken up at once. Then others on the main thread get their turn, who accept connections and send.
pub(super) const TURN_MAX: usize = 1000;

/// The engine of a node, running.
#[derive(Debug)]
pub struct Engine {
    task: JoinSet<()>,
    phase: watch::Sender<Phase>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// Until then there is time to send what is left.
    Ending(Instant),
}

impl Engine {
    /// Starts it, on the runtime this is called on. `nodes`: the Redis that the nodes meet at, if they do.
    pub fn start(
        apps: Arc<Apps>,
        inbox: Arc<Inbox>,
        meters: Arc<Meters>,
        source: Source,
        nodes: Option<RedisSettings>,
    ) -> Self {
        let (phase, phases) = watch::channel(Phase::Running);
        let replaced = apps.replacements();
        let targets = Targets::new(apps, meters, nodes);
        let run = Run {
            inbox,
            targets,
            source,
            replaced,
            phases,
            taken_at: Instant::now(),
            happenings: VecDeque::new(),
            refused: Refused::default(),
        };
        let mut task = JoinSet::new();
        task.spawn(run.run());
        Self { task, phase }
    }

    /// Comes back when it is over, which it is only after [`Self::finish`], or by a fault. Cancel safe.
    pub async fn over(&mut self) {
        self.task.join_next().await;
    }

    /// Nothing happens any more: what is held is told, batches are sent as they are, and what `FAREWELL` does not
    /// suffice for is given up. Where this is dropped, it goes on without anybody who waits.
    pub async fn finish(&mut self) {
        self.phase.send_replace(Phase::Ending(Instant::now() + FAREWELL));
        self.over().await;
    }

    /// Gives everything up at once.
    pub async fn stop(&mut self) {
        self.phase.send_replace(Phase::Ending(Instant::now()));
        self.over().await;
    }
}

struct Run {
    inbox: Arc<Inbox>,
    targets: Targets,
    source: Source,
    replaced: watch::Receiver<()>,
    phases: watch::Receiver<Phase>,
    /// When the happenings were taken.
    taken_at: Instant,
    /// Those that are not taken up yet.
    happenings: VecDeque<super::Happening>,
    refused: Refused,
}

impl Run {
    async fn run(mut self) {
        self.targets.follow(&mut self.source);
        while *self.phases.borrow_and_update() == Phase::Running {
            let next = self.work();
            // So that targets get their turn however much happens.
            yield_now().await;
            tokio::select! {
                () = self.inbox.filled() => {}
                // Its events would wait for ever; whoever waits for the engine says so.
                () = self.targets.broken() => return,
                () = self.source.broken() => return,
                changed = self.replaced.changed() => match changed {
                    Ok(()) => self.targets.follow(&mut self.source),
                    Err(_) => return,
                },
                changed = self.phases.changed() => if changed.is_err() { return },
                () = until(next) => {}
            }
        }
        self.end().await;
    }

    /// Takes up a turn's worth of what has happened; when to look again, if nothing happens.
    fn work(&mut self) -> Option<Instant> {
        // Before what has happened is looked at: it may be for a webhook that is new.
        if self.replaced.has_changed().unwrap_or(false) {
            self.replaced.mark_unchanged();
            self.targets.follow(&mut self.source);
        }
        let is_rest = !self.happenings.is_empty();
        if !is_rest {
            self.taken_at = Instant::now();
            self.inbox.take(&mut self.happenings);
        }
        let next = self.source.take(&mut self.happenings, self.taken_at, &self.inbox, &mut self.targets);
        self.targets.hand_over();
        self.refused.look(self.inbox.take_refused(), &self.targets);
        // Beside a rest the inbox was not looked at, and its word that something came may be used up.
        if is_rest { Some(self.taken_at) } else { next }
    }

    async fn end(&mut self) {
        // First what was taken before and is left, then what is in the inbox.
        for _ in 0..2 {
            self.work();
            while !self.happenings.is_empty() {
                yield_now().await;
                self.work();
            }
        }
        let Phase::Ending(last) = *self.phases.borrow_and_update() else { return };
        self.source.flush(&self.inbox, &mut self.targets, last);
        self.targets.hand_over();
        self.targets.flush();
        tokio::select! {
            () = self.source.flushed(last) => {}
            changed = self.phases.changed() => if changed.is_err() { return },
        }
        let waiting = self.targets.depth();
        if waiting > 0 {
            info!(waiting, "webhooks: sending what is left; ask once more to give it up");
        }
        while self.targets.depth() > 0 {
            let Phase::Ending(last) = *self.phases.borrow_and_update() else { return };
            if Instant::now() >= last {
                break;
            }
            tokio::select! {
                changed = self.phases.changed() => if changed.is_err() { return },
                () = sleep_until((Instant::now() + LOOK).into()) => {}
            }
        }
        let given_up = self.targets.stop().await;
        // What is kept elsewhere, another node sends.
        if given_up > 0 && !self.source.keeps() {
            warn!(
                given_up,
                "webhooks: events given up because the node ends; their receivers were too slow, or away"
            );
        }
    }
}

/// Happenings that found no room in the inbox, of each app those that no line of the log has named yet.
#[derive(Debug, Default)]
struct Refused(HashMap<AppIndex, (u64, Seldom)>);

impl Refused {
    /// So many more were refused.
    fn look(&mut self, refused: impl IntoIterator<Item = (AppIndex, u64)>, targets: &Targets) {
        for (app, lost) in refused {
            // Of one that was removed nobody wants to know any more.
            let Some(app_id) = targets.id(app) else { continue };
            targets.metrics(app).dropped(Dropped::Inbox).add(lost);
            self.0.retain(|app, _| targets.id(*app).is_some());
            let (untold, line) = self.0.entry(app).or_default();
            *untold += lost;
            if line.is_due() {
                let lost = std::mem::take(untold);
                warn!(
                    app = app_id.as_str(),
                    lost,
                    "webhooks: happenings lost, because more happens than this node can take up; is its CPU full?"
                );
            }
        }
    }
}

async fn until(next: Option<Instant>) {
    match next {
        Some(next) => sleep_until(next.into()).await,
        None => std::future::pending().await,
    }
}
