//! The adapter of several nodes: events and membership over Redis.
//!
//! A thread of its own has the connections; workers put in its outbox what is to be published, and ask it what the
//! cluster knows. Nothing here waits for Redis but that thread, and whoever awaits a [`Receipt`] or an answer.

mod answers;
mod commands;
mod heard;
mod holding;
mod index;
mod keys;
mod lanes;
mod lives;
mod loss;
mod messages;
mod metrics;
mod numbers;
mod outbox;
mod pipe;
mod query;
mod reaping;
mod replies;
mod scripts;
mod session;
mod setup;
pub mod streams;
mod thread;
mod topics;
mod wants;
pub mod wire;

use std::{
    hash::BuildHasher,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use bytes::Bytes;
use foldhash::quality::RandomState;
use soundpost_protocol::{
    app::{App, AppId},
    presence::NodeId,
    webhook::event::Encoded,
};
use tokio::sync::watch;

pub use metrics::{Fill, Level, RedisMetrics, Total};
pub use outbox::{PUBLISH_BYTES_MAX, PUBLISHES_MAX};
pub use scripts::Script;
pub use session::ASKS_MAX;
pub use thread::RedisThread;

use self::{
    keys::Names,
    messages::Beside,
    outbox::{Batch, Done, Outbox, Publish, Told},
    query::Queries,
    scripts::Digests,
};
use super::{Broadcast, Cluster, Hearing, Receipt, Refused};
use crate::{
    apps::{Apps, UserKey},
    config::{OnOutage, RedisServers, RedisSettings},
    seldom::Seldom,
};

/// The adapter, as workers and the HTTP API see it. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Redis(Arc<Shared>);

/// What the thread and everybody else share.
#[derive(Debug)]
struct Shared {
    settings: RedisSettings,
    names: Names,
    apps: Arc<Apps>,
    cluster: Arc<Cluster>,
    hearing: Arc<dyn Hearing>,
    outbox: Outbox,
    queries: Queries,
    metrics: RedisMetrics,
    /// Known from the first connection on.
    digests: OnceLock<Digests>,
    hasher: RandomState,
    /// The node is to leave the cluster.
    leaving: watch::Sender<bool>,
    /// Redis was neither reached yet, nor could it not be.
    is_starting: AtomicBool,
    error_line: Seldom,
    malformed_line: Seldom,
}

impl Redis {
    /// For these settings. Nothing goes out until a [thread](RedisThread) runs it.
    pub fn new(
        settings: RedisSettings,
        apps: Arc<Apps>,
        cluster: Arc<Cluster>,
        hearing: Arc<dyn Hearing>,
    ) -> Self {
        Self(Arc::new(Shared {
            names: Names::new(&settings),
            outbox: Outbox::default(),
            queries: Queries::default(),
            metrics: RedisMetrics::default(),
            digests: OnceLock::new(),
            hasher: RandomState::default(),
            leaving: watch::channel(false).0,
            is_starting: AtomicBool::new(true),
            error_line: Seldom::default(),
            malformed_line: Seldom::default(),
            settings,
            apps,
            cluster,
            hearing,
        }))
    }

    /// What it has counted.
    pub fn metrics(&self) -> &RedisMetrics {
        &self.0.metrics
    }

    /// What the node is called at the moment.
    pub fn life(&self) -> NodeId {
        self.0.cluster.life()
    }

    /// Whether Redis is away.
    pub fn is_away(&self) -> bool {
        self.0.cluster.is_away()
    }

    /// Whether it was not found out yet if Redis is there.
    pub fn is_starting(&self) -> bool {
        self.0.is_starting.load(Relaxed)
    }

    /// As [`Adapter::publish`](super::Adapter::publish). Without a receipt Redis is away and the settings want the
    /// events delivered on this node alone, which they are.
    pub(super) fn publish(&self, broadcasts: &[Broadcast]) -> Result<Option<Receipt>, Refused> {
        let (sender, receipt) = Receipt::new();
        let mut publishes: Vec<_> =
            broadcasts.iter().filter_map(|broadcast| self.0.publish(broadcast)).collect();
        match publishes.as_mut_slice() {
            // Their app is gone.
            [] => return Ok(None),
            [publish] => publish.done = Done::Alone(sender),
            publishes => {
                let batch = Batch::new(publishes.len(), sender);
                publishes.iter_mut().for_each(|publish| publish.done = Done::Batch(Arc::clone(&batch)));
            }
        }
        let is_put = self.0.put(broadcasts, publishes)?;
        Ok(is_put.then_some(receipt))
    }

    /// As [`Adapter::relay`](super::Adapter::relay).
    pub(super) fn relay(&self, broadcast: &Broadcast) -> Result<(), Refused> {
        let Some(mut publish) = self.0.publish(broadcast) else { return Ok(()) };
        if let Some(sender) = broadcast.exclude {
            publish.done = Done::Sender(sender, Box::new(broadcast.key.clone()));
        }
        let tells = publish.told.is_some();
        let is_put = self.0.put(std::slice::from_ref(broadcast), vec![publish])?;
        // What was delivered here was noted by that.
        if let Some(told) = &broadcast.told
            && is_put
            && !tells
            && !self.0.settings.local_first
        {
            self.0.hearing.note(broadcast.key.app, told);
        }
        Ok(())
    }

    /// Ends every connection of the user on all nodes, with `present` those on presence channels, too.
    ///
    /// Errors: [`Refused`].
    pub fn terminate(&self, user: &UserKey, present: bool) -> Result<Option<Receipt>, Refused> {
        let shared = &self.0;
        let Some(app) = shared.app(user.app) else { return Ok(None) };
        let message = messages::terminate(&app, shared.cluster.life(), user, present);
        let (sender, receipt) = Receipt::new();
        let publish = Publish {
            command: messages::publish_command(&shared.names.control(), &message, shared.is_sharded()),
            message_at: None,
            slot: shared.slot(keys::NODES),
            topic: 0,
            sequence: 0,
            taken_at: Instant::now(),
            broadcast: None,
            told: None,
            done: Done::Alone(sender),
        };
        match shared.outbox.put(vec![publish]) {
            Ok(()) => Ok(Some(receipt)),
            Err((Refused::Away, _)) if shared.settings.on_outage == OnOutage::Local => {
                shared.hearing.terminate(user, present);
                Ok(None)
            }
            Err((refused, _)) => Err(refused),
        }
    }

    /// The node leaves the cluster once it holds nothing there, after 2 s at most. Then its thread ends.
    pub fn leave(&self) {
        self.0.leaving.send_replace(true);
        self.0.outbox.wake();
    }
}

impl Shared {
    const fn is_sharded(&self) -> bool {
        matches!(self.settings.servers, RedisServers::Cluster(_))
    }

    /// The slot of a tag; where there is one server, it owns them all.
    fn slot(&self, tag: &[u8]) -> u16 {
        if self.is_sharded() { wire::slots::slot_of(tag) } else { 0 }
    }

    fn app(&self, index: crate::apps::AppIndex) -> Option<AppId> {
        self.apps.by_index(index).map(|app| app.app.id.clone())
    }

    /// The command that publishes it, and tells webhooks of it if they are to be; `None` if the app is gone.
    fn publish(&self, broadcast: &Broadcast) -> Option<Publish> {
        let app = self.apps.by_index(broadcast.key.app)?;
        let tag = keys::channel_tag(&app.app.id, broadcast.key.name.as_str());
        let topic = self.names.topic(&tag);
        let telling = self.telling(&app.app, broadcast);
        let beside = match (self.digests.get(), &broadcast.keep, &telling) {
            (Some(digests), Some(_), _) => Beside::Keep(messages::Kept {
                digest: digests.of(Script::Publish),
                name: self.names.kept(&tag),
                milliseconds: app.app.cache_ttl.as_millis(),
            }),
            (Some(digests), None, Some((event, webhooks))) => {
                Beside::Tell(messages::Telling { digest: digests.of(Script::Tell), event, webhooks })
            }
            (None, _, _) | (Some(_), None, None) => Beside::Nothing,
        };
        let (command, message_at) =
            messages::event(&app.app.id, broadcast, &topic, &beside, self.is_sharded());
        let told = match &beside {
            Beside::Tell(_) => broadcast.told.clone().map(|event| Told { app: app.index, event }),
            Beside::Nothing | Beside::Keep(_) => None,
        };
        let is_local = self.settings.on_outage == OnOutage::Local && !self.settings.local_first;
        Some(Publish {
            command,
            message_at: Some(message_at),
            slot: self.slot(&tag),
            topic: self.hasher.hash_one(&topic),
            sequence: 0,
            taken_at: Instant::now(),
            // What is noted elsewhere is not to be noted again.
            broadcast: is_local.then(|| {
                let told = told.as_ref().map(|told| Arc::clone(&told.event));
                Box::new(Broadcast { told, ..broadcast.clone() })
            }),
            told,
            done: Done::Nobody,
        })
    }

    /// What the command that publishes it tells webhooks in the same act, and what the names of all that belongs to each of
    /// them begin with. Nothing where their streams are on other servers, and nothing if this node delivers before Redis
    /// does: then it is noted where it is delivered or taken.
    fn telling<'a>(&self, app: &App, broadcast: &'a Broadcast) -> Option<(&'a Encoded, Vec<Bytes>)> {
        let event = broadcast.told.as_deref().filter(|_| !self.is_sharded() && !self.settings.local_first)?;
        let wanting = app.webhooks.iter().filter(|webhook| webhook.target.wants(event.kind, &event.channel));
        let webhooks: Vec<_> = wanting.map(|webhook| self.names.webhook(&app.id, webhook.id).base).collect();
        (!webhooks.is_empty()).then_some((event, webhooks))
    }

    /// Puts the publishes of these broadcasts in. False: Redis is away, and they were delivered on this node.
    fn put(&self, broadcasts: &[Broadcast], publishes: Vec<Publish>) -> Result<bool, Refused> {
        let refuse = |refused| {
            self.metrics.refused.add(broadcasts.len() as u64);
            Err(refused)
        };
        let is_first = self.settings.local_first && self.outbox.is_open();
        if is_first && !self.hearing.deliver_here(broadcasts) {
            return refuse(Refused::Full);
        }
        match self.outbox.put(publishes) {
            Ok(()) => Ok(true),
            Err((Refused::Away, _)) if self.settings.on_outage == OnOutage::Local => {
                if is_first || self.hearing.deliver_here(broadcasts) {
                    self.metrics.accepted.add(broadcasts.len() as u64);
                    return Ok(false);
                }
                refuse(Refused::Full)
            }
            // They were delivered here.
            Err(_) if is_first => refuse(Refused::Unconfirmed),
            Err((refused, _)) => refuse(refused),
        }
    }

    /// What is said of a publish that Redis has surely not taken. An event may have been delivered here first.
    fn not_taken(&self, publish: &Publish) -> Refused {
        let is_here = self.settings.local_first && publish.message_at.is_some();
        if is_here { Refused::Unconfirmed } else { Refused::Away }
    }

    fn malformed(&self, what: &str, topic: &[u8]) {
        self.metrics.malformed.add(1);
        if self.malformed_line.is_due() {
            let topic = String::from_utf8_lossy(topic);
            tracing::warn!(%topic, "redis: {what}; dropped");
        }
    }
}
