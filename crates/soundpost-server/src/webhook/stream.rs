//! Where nodes meet at Redis: each webhook has a stream there, into which all nodes put its events, and which one node at a
//! time sends on.
//!
//! [`Streams`] is what the engine has of it: a task for each webhook that this node knows. The task adds what this node has
//! noted itself, and as long as it holds the stream's lease, reads, hands over to the webhook's target, and takes out
//! what has come to its end.
//!
//! **At least once.** An entry is taken out when the receiver has taken it. Who takes the lease reads what another has read and
//! not settled before anything new. So what was under way when a node died is sent again, with the same id, and so is what a
//! node could not settle because Redis was away.
//!
//! **One at a time.** An attempt is begun only while the lease is known to hold for two seconds more, by the own clock. While
//! Redis is away the holder goes on for 4 s with what it has in memory. Then it waits; if nobody else had the lease when Redis
//! is back, it goes on where it was.

mod backlog;
mod held;
mod lease;
mod task;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use soundpost_protocol::{presence::NodeId, webhook::queue::Settled};
use tokio::{sync::Notify, task::JoinSet, time::timeout_at};
use tracing::warn;

use self::{
    backlog::Backlog,
    lease::{Lease, Load},
    task::Task,
};
use super::{
    Happening, Noted, WebhookMetrics, What,
    engine::{TURN_MAX, TargetKey, Targets, panicked},
    metrics::Dropped,
    target::{Heard, Permit, Place, TargetHandle},
};
use crate::{adapter::redis::Redis, seldom::Seldom};

/// After its time a stream has so long for what it must still say to Redis.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The streams of all webhooks that this node knows.
#[derive(Debug)]
pub struct Streams {
    redis: Redis,
    /// What this node calls itself as long as it runs.
    life: NodeId,
    load: Load,
    by_key: HashMap<TargetKey, Arc<Shared>>,
    tasks: JoinSet<()>,
}

/// What the task of a stream and everybody else share.
struct Shared {
    /// Whose stream it is, for the log.
    key: TargetKey,
    backlog: Mutex<Backlog>,
    /// What the target is through with.
    settled: Mutex<Vec<Settled<Option<Place>>>>,
    /// Until when the task has time to end; `None`: it is not to end.
    ending: Mutex<Option<Instant>>,
    /// The stream has something that this node has not read, as far as it knows.
    has_new: AtomicBool,
    changed: Notify,
    overflow_line: Seldom,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    fn new(key: TargetKey) -> Self {
        Self {
            key,
            backlog: Mutex::default(),
            settled: Mutex::default(),
            ending: Mutex::default(),
            has_new: AtomicBool::new(false),
            changed: Notify::new(),
            overflow_line: Seldom::default(),
        }
    }

    /// Puts events behind those that this node has still to add. Does not wait: when there are too many, the oldest go.
    fn add(&self, events: impl IntoIterator<Item = Noted>, metrics: &WebhookMetrics) {
        let lost = self.backlog.lock().push(events);
        if lost > 0 {
            metrics.dropped(Dropped::Overflow).add(lost);
            if self.overflow_line.is_due() {
                let TargetKey { app_id, webhook, .. } = &self.key;
                warn!(
                    app = app_id.as_str(), %webhook, lost,
                    "webhook: too many events of this node wait for redis; the oldest are dropped"
                );
            }
        }
        self.changed.notify_one();
    }

    /// The stream has something new: whoever sends it need not wait for the next look.
    fn look(&self) {
        self.has_new.store(true, Relaxed);
        self.changed.notify_one();
    }

    fn end(&self, until: Instant) {
        self.ending.lock().get_or_insert(until);
        self.changed.notify_one();
    }
}

impl Streams {
    /// Of no webhook yet.
    pub fn new(redis: Redis) -> Self {
        let life = redis.life();
        Self { redis, life, load: Load::default(), by_key: HashMap::new(), tasks: JoinSet::new() }
    }

    /// Who hears what becomes of the events of a target that is about to begin.
    pub(super) fn heard(&mut self, key: &TargetKey) -> Heard {
        let shared = Arc::new(Shared::new(key.clone()));
        // One of the same name ends.
        if let Some(before) = self.by_key.insert(key.clone(), Arc::clone(&shared)) {
            before.end(Instant::now());
        }
        Box::new(move |settled| {
            shared.settled.lock().extend(settled);
            shared.changed.notify_one();
        })
    }

    /// A target has begun: its stream is followed from now on.
    pub(super) fn begun(&mut self, key: &TargetKey, target: &TargetHandle) {
        let Some(shared) = self.by_key.get(key) else { return };
        target.permit(Permit::Never);
        let spread = (self.life.0 ^ key.webhook.0).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let stream = self.redis.stream(&key.app_id, key.webhook, self.life);
        let lease = Lease::new(self.load.clone(), spread, Instant::now());
        self.tasks.spawn(Task::new(stream, Arc::clone(shared), target.clone(), lease).run());
    }

    /// A webhook is gone: another node, which still knows it, may send what is left in Redis. What has not come there is
    /// given up: so many events.
    pub(super) fn gone(&mut self, key: &TargetKey, metrics: &WebhookMetrics) -> usize {
        let Some(shared) = self.by_key.remove(key) else { return 0 };
        shared.end(Instant::now());
        let lost = shared.backlog.lock().len();
        metrics.dropped(Dropped::Abandoned).add(lost as u64);
        lost
    }

    /// Comes back when the task of a stream has panicked, which none should. Cancel safe.
    pub(super) async fn broken(&mut self) {
        panicked(&mut self.tasks).await;
    }

    /// Adds a turn's worth of what has happened to the streams of the webhooks that want it.
    pub(super) fn take(&self, happenings: &mut VecDeque<Happening>, targets: &Targets) {
        let mut added: HashMap<TargetKey, Vec<Noted>> = HashMap::new();
        let mut told = HashSet::new();
        for happening in happenings.drain(..happenings.len().min(TURN_MAX)) {
            let event = match happening.what {
                // Who comes and goes is decided in Redis.
                What::Came(_) | What::Left(_) => continue,
                What::Told => {
                    told.insert(happening.app);
                    continue;
                }
                What::Event(event) => event,
            };
            for key in targets.wanting(happening.app, event.kind, &event.channel) {
                added.entry(key.clone()).or_default().push(event.clone());
            }
        }
        for (key, events) in added {
            if let Some(shared) = self.by_key.get(&key) {
                shared.add(events, &targets.metrics(key.app));
            }
        }
        if !told.is_empty() {
            let told = self.by_key.iter().filter(|(key, _)| told.contains(&key.app));
            told.for_each(|(_, shared)| shared.look());
        }
    }

    /// The node ends: nothing new is begun, what is under way may end until then. What is left stays in Redis.
    pub(super) fn finish(&self, until: Instant) {
        self.by_key.values().for_each(|shared| shared.end(until));
    }

    /// Comes back when all that [`Self::finish`] asks for is done, and not long after its time.
    pub(super) async fn finished(&mut self, until: Instant) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout_at((until + LAST_WORDS).into(), all).await.is_err() {
            warn!(
                "webhooks: redis does not answer; what this node had to send is sent by another in a few seconds"
            );
        }
        let waiting: usize = self.by_key.values().map(|shared| shared.backlog.lock().len()).sum();
        if waiting > 0 {
            warn!(waiting, "webhooks: events given up because the node ends and redis is away");
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use soundpost_protocol::{
        app::Limits,
        channel::ChannelName,
        webhook::event::{Encoded, EventId, EventKind},
    };

    use super::*;

    /// A cache miss of so many bytes.
    pub(super) fn event(number: u64, bytes: usize) -> Noted {
        Noted::from(Encoded {
            id: EventId { life: NodeId(1), number },
            kind: EventKind::CacheMiss,
            channel: ChannelName::parse("cache-x", &Limits::default()).unwrap(),
            json: Bytes::from(vec![b'x'; bytes]),
        })
    }
}
