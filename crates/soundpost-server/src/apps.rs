//! The apps of this node by key and by id, each with its counters and its count of open connections.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{
            AtomicU32,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use soundpost_protocol::{
    app::{App, AppId},
    channel::ChannelName,
    close::CloseReason,
    presence::UserId,
    rate::Bucket,
};
use tokio::sync::watch;

use crate::{cache::Cache, metrics::AppCounters};

/// Names an app inside this node in less space than its id. Given once: an app that is removed and comes back is
/// another, so that nothing meant for the one, which may still be on its way, reaches the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppIndex(u64);

/// A channel of one app: apps never share one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChannelKey {
    /// Whose.
    pub app: AppIndex,
    /// Which.
    pub name: ChannelName,
}

/// A user of one app.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UserKey {
    /// Whose.
    pub app: AppIndex,
    /// Who.
    pub id: UserId,
}

/// Names a worker of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u8);

/// Workers a node may have: a socket id holds the worker in one byte.
pub const WORKERS_MAX: usize = 256;

impl WorkerId {
    /// The place of this worker in lists of workers.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Near its limit an app is heard of again when this part of what is left of it has been taken or given back.
const NEWS_PART: u32 = 8;

/// How many connections are open, and how many may be.
#[derive(Debug)]
pub struct Quota {
    open: AtomicU32,
    /// Open on the other nodes, as far as these have said.
    elsewhere: AtomicU32,
    max: AtomicU32,
    /// What the other nodes were told of `open`.
    told: AtomicU32,
}

impl Quota {
    /// `None`: no limit.
    pub fn new(max: Option<NonZeroU32>) -> Arc<Self> {
        let max = AtomicU32::new(max.map_or(u32::MAX, NonZeroU32::get));
        let [open, elsewhere, told] = [(); 3].map(|()| AtomicU32::new(0));
        Arc::new(Self { open, elsewhere, max, told })
    }

    /// From now on so many; who has a place keeps it. `None`: no limit.
    pub fn set_max(&self, max: Option<NonZeroU32>) {
        self.max.store(max.map_or(u32::MAX, NonZeroU32::get), Relaxed);
    }

    /// Connections that are open on this node.
    pub fn open(&self) -> u32 {
        self.open.load(Acquire)
    }

    /// Connections that are open on all nodes, as far as the others have said.
    pub fn open_anywhere(&self) -> u64 {
        u64::from(self.open()) + u64::from(self.elsewhere.load(Relaxed))
    }

    /// From now on so many are open on the other nodes. Who has a place keeps it.
    pub fn set_elsewhere(&self, connections: u32) {
        self.elsewhere.store(connections, Relaxed);
    }

    /// What to tell the other nodes of the connections here, which counts as told then. `None`: nothing, because there
    /// are none and they know.
    pub fn tell(&self) -> Option<u32> {
        let open = self.open();
        let before = self.told.swap(open, Relaxed);
        (open > 0 || before > 0).then_some(open)
    }

    /// Whether the other nodes should hear at once of what has changed since they were told: there is a limit, and they
    /// might let in too many, or refuse somebody for whom there is room.
    pub fn is_news(&self) -> bool {
        let Some(max) = self.max() else { return false };
        let changed = self.open().abs_diff(self.told.load(Relaxed));
        let left = u64::from(max).saturating_sub(self.open_anywhere());
        changed > 0 && u64::from(changed) * u64::from(NEWS_PART) >= left
    }

    /// Connections there may be; `None`: no limit.
    pub fn max(&self) -> Option<u32> {
        Some(self.max.load(Relaxed)).filter(|max| *max != u32::MAX)
    }

    /// Counts a connection in; `None` if there are as many as there may be, here and on the other nodes.
    pub fn admit(self: &Arc<Self>) -> Option<QuotaPlace> {
        let max = self.max.load(Relaxed).saturating_sub(self.elsewhere.load(Relaxed));
        let counted = |open: u32| (open < max).then(|| open + 1);
        self.open.fetch_update(Relaxed, Relaxed, counted).ok()?;
        Some(QuotaPlace(Arc::clone(self)))
    }
}

/// One connection's place in a quota, given back when dropped: what was counted before that is seen by whoever sees the
/// place free.
#[derive(Debug)]
pub struct QuotaPlace(Arc<Quota>);

impl Drop for QuotaPlace {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Release);
    }
}

/// An app as this node runs it, under the settings of one moment. What the app has beside its settings (its places,
/// its cache, its counts) is shared by all its moments.
#[derive(Debug)]
pub struct RunningApp {
    /// What was configured.
    pub app: Arc<App>,
    /// Its name in keys.
    pub index: AppIndex,
    /// Its open connections.
    pub quota: Arc<Quota>,
    /// What its cache channels keep.
    pub cache: Arc<Cache>,
    /// What it may still ask of the HTTP API, once that was limited.
    requests: Arc<Mutex<Option<Bucket>>>,
    counters: Arc<[AppCounters]>,
}

impl RunningApp {
    fn new(index: AppIndex, app: App, workers: usize) -> Self {
        Self {
            index,
            quota: Quota::new(app.connections_max),
            cache: Arc::new(Cache::new(app.cache_bytes_max, app.cache_ttl)),
            requests: Arc::default(),
            counters: (0..workers).map(|_| AppCounters::default()).collect(),
            app: Arc::new(app),
        }
    }

    /// The same app under other settings.
    fn under(&self, app: App) -> Self {
        Self {
            app: Arc::new(app),
            index: self.index,
            quota: Arc::clone(&self.quota),
            cache: Arc::clone(&self.cache),
            requests: Arc::clone(&self.requests),
            counters: Arc::clone(&self.counters),
        }
    }

    /// Lets its settings hold for what all its moments share.
    fn settle(&self, now: Instant) {
        self.quota.set_max(self.app.connections_max);
        self.cache.resize(self.app.cache_bytes_max, self.app.cache_ttl, now);
    }

    /// Counts a request of the HTTP API; if it is one too many, gives back how many there may be a second.
    pub fn over_rate(&self) -> Option<u32> {
        let per_second = self.app.requests_per_second?;
        let now = Instant::now();
        let mut bucket = self.requests.lock();
        let bucket = bucket.get_or_insert_with(|| Bucket::new(per_second, now));
        (!bucket.take(per_second, now)).then_some(per_second.get())
    }

    /// The counters of one worker: only that worker adds to them.
    #[expect(clippy::indexing_slicing, reason = "there is one for each worker, and worker ids count from 0")]
    pub fn counters(&self, worker: WorkerId) -> &AppCounters {
        &self.counters[worker.index()]
    }

    /// The counters of all workers.
    pub fn all_counters(&self) -> &[AppCounters] {
        &self.counters
    }
}

type ByName = HashMap<String, Arc<RunningApp>, foldhash::quality::RandomState>;

/// The apps of one moment. No two share an id or a key.
#[derive(Debug, Default)]
pub struct AppTable {
    all: Vec<Arc<RunningApp>>,
    by_key: ByName,
    by_id: ByName,
    by_index: HashMap<AppIndex, Arc<RunningApp>, foldhash::quality::RandomState>,
}

impl AppTable {
    fn new(all: Vec<Arc<RunningApp>>) -> Self {
        let by = |name: fn(&App) -> &str| {
            all.iter().map(|running| (name(&running.app).to_owned(), Arc::clone(running))).collect()
        };
        Self {
            by_key: by(|app| app.key.as_str()),
            by_id: by(|app| app.id.as_str()),
            by_index: all.iter().map(|running| (running.index, Arc::clone(running))).collect(),
            all,
        }
    }

    /// Every app, in the order of configuration.
    pub fn all(&self) -> &[Arc<RunningApp>] {
        &self.all
    }

    /// The app that `app` is a moment of, unless it was removed since.
    fn same(&self, app: &RunningApp) -> Option<&Arc<RunningApp>> {
        self.by_id.get(app.app.id.as_str()).filter(|now| now.index == app.index)
    }

    /// Whether the app that `app` is a moment of was removed: then none of its connections stay.
    pub fn has_lost(&self, app: &RunningApp) -> bool {
        self.same(app).is_none()
    }

    /// What holds now for the connections that were let in by `app`.
    ///
    /// Errors: why they cannot stay: the app is gone, it has another key than the one they came with, or it is disabled.
    pub fn successor(&self, app: &RunningApp) -> Result<&Arc<RunningApp>, CloseReason> {
        let now = self.same(app).filter(|now| now.app.key == app.app.key).ok_or(CloseReason::UnknownApp)?;
        if now.app.enabled { Ok(now) } else { Err(CloseReason::AppDisabled) }
    }
}

/// What a replacement of the apps changed, by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppChanges {
    /// New ones.
    pub added: Vec<AppId>,
    /// Those with other settings, each with the names of these.
    pub changed: Vec<(AppId, Vec<&'static str>)>,
    /// Those that are gone.
    pub removed: Vec<AppId>,
}

impl AppChanges {
    /// Whether all is as it was; the order of the apps means nothing.
    pub const fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

/// All apps of this node. Who looks one up takes no lock and waits for nobody, also while they are replaced.
#[derive(Debug)]
pub struct Apps {
    table: ArcSwap<AppTable>,
    /// Counts, for each worker, what happens to clients whose key or path names no app.
    nobody: Box<[AppCounters]>,
    /// The index of the next new app; locked while the apps are replaced.
    next: Mutex<u64>,
    replaced: watch::Sender<()>,
}

impl Apps {
    /// Takes checked apps: no two share an id or a key.
    pub fn new(apps: Vec<App>, workers: usize) -> Self {
        let nobody = (0..workers).map(|_| AppCounters::default()).collect();
        let (replaced, _) = watch::channel(());
        let all = Self { table: ArcSwap::default(), nobody, next: Mutex::new(0), replaced };
        all.replace(apps);
        all
    }

    /// From now on these apps, checked as for [`Self::new`]. One with the id of one that was there is the same app: it
    /// keeps its places, its cache and its counts. Connections are told by their workers, who hear of it by
    /// [`Self::replacements`].
    pub fn replace(&self, apps: Vec<App>) -> AppChanges {
        let next = &mut *self.next.lock();
        let before = self.table.load_full();
        let mut changes = AppChanges::default();
        let mut all = Vec::with_capacity(apps.len());
        for app in apps {
            let Some(known) = before.by_id.get(app.id.as_str()) else {
                changes.added.push(app.id.clone());
                all.push(Arc::new(RunningApp::new(AppIndex(*next), app, self.nobody.len())));
                *next += 1;
                continue;
            };
            let names = known.app.changes(&app);
            if names.is_empty() {
                all.push(Arc::clone(known));
            } else {
                changes.changed.push((app.id.clone(), names));
                all.push(Arc::new(known.under(app)));
            }
        }
        let after = Arc::new(AppTable::new(all));
        let gone = before.all.iter().filter(|app| after.has_lost(app));
        changes.removed = gone.map(|app| app.app.id.clone()).collect();
        self.table.store(Arc::clone(&after));
        let now = Instant::now();
        after.all.iter().for_each(|app| app.settle(now));
        self.replaced.send_replace(());
        changes
    }

    /// Hears of each replacement from now on; of several at once as of one.
    pub fn replacements(&self) -> watch::Receiver<()> {
        self.replaced.subscribe()
    }

    /// The apps as they are now.
    pub fn table(&self) -> Arc<AppTable> {
        self.table.load_full()
    }

    /// The app clients name by this key.
    pub fn by_key(&self, key: &str) -> Option<Arc<RunningApp>> {
        self.table.load().by_key.get(key).cloned()
    }

    /// The app publishers name by this id.
    pub fn by_id(&self, id: &str) -> Option<Arc<RunningApp>> {
        self.table.load().by_id.get(id).cloned()
    }

    /// The app that keys name by this index; `None` if it was removed.
    pub fn by_index(&self, index: AppIndex) -> Option<Arc<RunningApp>> {
        self.table.load().by_index.get(&index).cloned()
    }

    /// What holds now for a connection that was let in by `app`. Errors: those of [`AppTable::successor`].
    pub fn successor(&self, app: &RunningApp) -> Result<Arc<RunningApp>, CloseReason> {
        self.table.load().successor(app).cloned()
    }

    /// The counters of one worker for clients that name no app.
    #[expect(clippy::indexing_slicing, reason = "there is one for each worker, and worker ids count from 0")]
    pub fn nobody(&self, worker: WorkerId) -> &AppCounters {
        &self.nobody[worker.index()]
    }

    /// The counters of all workers for clients that name no app.
    pub const fn all_nobody(&self) -> &[AppCounters] {
        &self.nobody
    }
}

#[cfg(test)]
mod tests;
