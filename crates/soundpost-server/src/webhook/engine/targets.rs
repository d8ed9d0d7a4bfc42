//! The targets of this node: one for each webhook of each app, as the settings say at the moment.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use soundpost_protocol::{
    app::{App, AppId},
    channel::ChannelName,
    webhook::{
        Carrier as How, Webhook,
        event::{Encoded, EventKind},
        hold::Subject,
        queue::{ATTEMPT_TIMEOUT, QueueLimits},
    },
};
use tokio::task::JoinSet;
use tracing::warn;

use super::{Source, TargetKey};
use crate::{
    apps::{AppIndex, AppTable, Apps, RunningApp},
    config::RedisSettings,
    webhook::{
        Meters, WebhookMetrics,
        carrier::{Carrier, Problem},
        http::{HttpCarrier, Trust},
        laravel::LaravelCarrier,
        target::{Beginning, Incoming, TargetHandle, TargetName},
    },
};

/// The targets of all apps.
#[derive(Debug)]
pub struct Targets {
    apps: Arc<Apps>,
    meters: Arc<Meters>,
    by_app: HashMap<AppIndex, Vec<Entry>>,
    means: Means,
    tasks: JoinSet<()>,
}

/// What carriers are made with beside what stands in their webhook.
#[derive(Debug)]
struct Means {
    /// Whom receivers with `https` are believed by, since the last reload.
    trust: Arc<Trust>,
    /// The Redis that the nodes meet at, if they do.
    nodes: Option<RedisSettings>,
}

#[derive(Debug)]
struct Entry {
    key: TargetKey,
    /// The settings that it was last set to.
    app: Arc<App>,
    webhook: Arc<Webhook>,
    target: TargetHandle,
    /// What is to be handed over together.
    incoming: Vec<Incoming>,
}

impl Targets {
    /// None yet.
    pub(super) fn new(apps: Arc<Apps>, meters: Arc<Meters>, nodes: Option<RedisSettings>) -> Self {
        let means = Means { trust: Arc::default(), nodes };
        Self { apps, meters, by_app: HashMap::new(), means, tasks: JoinSet::new() }
    }

    /// Makes them those that the apps have now: new webhooks get a target, those that are gone lose theirs and what
    /// waited in it, and what has changed of the others holds from now on.
    pub(super) fn follow(&mut self, source: &mut Source) {
        let table = self.apps.table();
        self.means.trust = Arc::new(self.means.trust.renewed(&files(&table)));
        let mut before = std::mem::take(&mut self.by_app);
        for app in table.all().iter().filter(|app| !app.app.webhooks.is_empty()) {
            let mut known = before.remove(&app.index).unwrap_or_default();
            let mut entries = Vec::with_capacity(app.app.webhooks.len());
            for webhook in &app.app.webhooks {
                let at = known.iter().position(|entry| entry.key.webhook == webhook.id);
                entries.push(match at.map(|at| known.swap_remove(at)) {
                    Some(entry) => entry.under(&app.app, webhook, &self.means),
                    None => self.begin(app, webhook, source),
                });
            }
            known.into_iter().for_each(|entry| entry.end(source));
            self.by_app.insert(app.index, entries);
        }
        before.into_values().flatten().for_each(|entry| entry.end(source));
        let indices: HashSet<_> = table.all().iter().map(|app| app.index).collect();
        self.meters.retain(|app| indices.contains(&app));
        source.followed(self);
    }

    fn begin(&mut self, app: &RunningApp, webhook: &Arc<Webhook>, source: &mut Source) -> Entry {
        let key = TargetKey { app: app.index, app_id: app.app.id.clone(), webhook: webhook.id };
        let beginning = Beginning {
            name: name(&app.app, webhook),
            carrier: self.means.carrier(&app.app, webhook),
            batching: webhook.target.batching,
            limits: QueueLimits::default(),
            metrics: self.meters.of(app.index),
            heard: source.heard(&key),
        };
        let target = TargetHandle::start(beginning, &mut self.tasks);
        source.begun(&key, &target);
        Entry { key, app: Arc::clone(&app.app), webhook: Arc::clone(webhook), target, incoming: Vec::new() }
    }

    /// Whether any wants an event of this kind of this channel.
    pub fn want(&self, app: AppIndex, kind: EventKind, channel: &ChannelName) -> bool {
        let entries = self.by_app.get(&app).map_or(&[][..], Vec::as_slice);
        entries.iter().any(|entry| entry.webhook.target.wants(kind, channel))
    }

    /// Whether any wants to be told that somebody has come or gone; then both are noted.
    pub(super) fn care(&self, app: AppIndex, subject: &Subject) -> bool {
        let events = [subject.arrival(), subject.departure()];
        events.iter().any(|event| self.want(app, event.kind(), subject.channel()))
    }

    /// Those that want an event of this kind of this channel.
    pub(crate) fn wanting<'a>(
        &'a self,
        app: AppIndex,
        kind: EventKind,
        channel: &'a ChannelName,
    ) -> impl Iterator<Item = &'a TargetKey> {
        let entries = self.by_app.get(&app).map_or(&[][..], Vec::as_slice);
        entries.iter().filter(move |entry| entry.webhook.target.wants(kind, channel)).map(|entry| &entry.key)
    }

    /// What all nodes call an app that has some; `None`: it has none any more.
    pub(super) fn id(&self, app: AppIndex) -> Option<&AppId> {
        self.by_app.get(&app)?.first().map(|entry| &entry.key.app_id)
    }

    /// Where those of an app are counted.
    pub(crate) fn metrics(&self, app: AppIndex) -> Arc<WebhookMetrics> {
        self.meters.of(app)
    }

    /// Gives the event to all who want it, behind what they were given before; they get it when the
    /// source has taken up all there is.
    pub fn tell(&mut self, app: AppIndex, event: &Encoded, since: Instant) {
        for entry in self.by_app.get_mut(&app).into_iter().flatten() {
            if entry.webhook.target.wants(event.kind, &event.channel) {
                entry.incoming.push(Incoming { event: event.clone(), place: None, since });
            }
        }
    }

    /// Hands over what was told since the last time.
    pub(super) fn hand_over(&mut self) {
        for entry in self.by_app.values_mut().flatten().filter(|entry| !entry.incoming.is_empty()) {
            entry.target.push(std::mem::take(&mut entry.incoming));
        }
    }

    /// What each was told and not given yet, in the order of configuration.
    #[cfg(test)]
    pub(super) fn take_incoming(&mut self) -> Vec<Vec<Incoming>> {
        self.by_app.values_mut().flatten().map(|entry| std::mem::take(&mut entry.incoming)).collect()
    }

    /// From here on no event waits for others to fill a body.
    pub(super) fn flush(&self) {
        self.by_app.values().flatten().for_each(|entry| entry.target.flush());
    }

    /// Comes back when the task of a target has panicked, which none should. Cancel safe.
    pub(super) async fn broken(&mut self) {
        panicked(&mut self.tasks).await;
    }

    /// Events that are not settled.
    pub(super) fn depth(&self) -> usize {
        self.by_app.values().flatten().map(|entry| entry.target.depth()).sum()
    }

    /// Ends all targets at once; how many events are given up.
    pub(super) async fn stop(&mut self) -> usize {
        let depth = self.depth();
        self.by_app.values().flatten().for_each(|entry| entry.target.stop());
        while self.tasks.join_next().await.is_some() {}
        depth
    }
}

impl Entry {
    /// The same target under settings that may be others. What is in the files that they name may have changed anyhow.
    fn under(mut self, app: &Arc<App>, webhook: &Arc<Webhook>, means: &Means) -> Self {
        if !self.is_same(app, webhook) {
            self.target.set(means.carrier(app, webhook), webhook.target.batching);
        }
        self.app = Arc::clone(app);
        self.webhook = Arc::clone(webhook);
        self
    }

    /// Whether it is told in the same way as before, so that it can keep its connections.
    fn is_same(&self, app: &App, webhook: &Webhook) -> bool {
        !is_https(webhook)
            && *self.webhook == *webhook
            && self.app.key == app.key
            && self.app.secret.is_same(&app.secret)
    }

    fn end(self, source: &mut Source) {
        let events = source.gone(&self.key, &self.target);
        self.target.stop();
        if events > 0 {
            let TargetName { app, webhook, host } = name(&self.app, &self.webhook);
            warn!(%app, %webhook, %host, events, "webhook removed; what was still to be sent to it is given up");
        }
    }
}

impl Means {
    fn carrier(&self, app: &Arc<App>, webhook: &Webhook) -> Carrier {
        match &webhook.carrier {
            How::Http(http) => HttpCarrier::new(app, http, Arc::clone(&self.trust), ATTEMPT_TIMEOUT)
                .map_or_else(Carrier::Unable, |http| Carrier::Http(Box::new(http))),
            How::LaravelQueue(queue) => {
                match LaravelCarrier::new(app.id.clone(), webhook.id, queue, self.nodes.as_ref()) {
                    Ok(laravel) => Carrier::Laravel(Box::new(laravel)),
                    Err(none) => Carrier::Unable(Problem::new(none.to_string())),
                }
            }
        }
    }
}

/// Comes back when a task has panicked; takes away those that have ended. Cancel safe.
pub(in crate::webhook) async fn panicked(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if ended.is_err() {
            return;
        }
    }
    // None is left, and none can begin meanwhile.
    std::future::pending().await
}

/// The files of authorities that webhooks name.
fn files(table: &AppTable) -> HashSet<PathBuf> {
    let webhooks = table.all().iter().flat_map(|app| &app.app.webhooks);
    webhooks
        .filter_map(|webhook| match &webhook.carrier {
            How::Http(http) => http.ca.clone(),
            How::LaravelQueue(_) => None,
        })
        .collect()
}

fn is_https(webhook: &Webhook) -> bool {
    match &webhook.carrier {
        How::Http(http) => http.url.is_https(),
        How::LaravelQueue(_) => false,
    }
}

fn name(app: &App, webhook: &Webhook) -> TargetName {
    let host = match &webhook.carrier {
        How::Http(http) => http.url.host_header(),
        How::LaravelQueue(queue) => format!("Laravel's queue {}", queue.queue),
    };
    TargetName { app: app.id.to_string(), webhook: webhook.id.to_string(), host }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_noticed_and_one_that_ends_is_not() {
        let mut tasks = JoinSet::new();
        tasks.spawn(async {});
        tasks.spawn(std::future::pending());
        {
            let panicked = std::pin::pin!(panicked(&mut tasks));
            let short = std::time::Duration::from_millis(20);
            assert!(tokio::time::timeout(short, panicked).await.is_err());
        }
        assert_eq!(tasks.len(), 1, "what has ended is taken away");
        tasks.spawn(async { panic!("a fault") });
        panicked(&mut tasks).await;
    }
}
