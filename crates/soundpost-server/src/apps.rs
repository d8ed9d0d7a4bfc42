//! The apps of this node by key and by id, each with its counters and its count of open connections.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Instant,
};

use parking_lot::Mutex;
use soundpost_protocol::{app::App, channel::ChannelName, rate::Bucket};

use crate::{cache::Cache, metrics::AppCounters};

/// Names an app inside this node in less space than its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppIndex(u16);

impl AppIndex {
    /// The place of this app in lists of apps.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A channel of one app: apps never share one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChannelKey {
    /// Whose.
    pub app: AppIndex,
    /// Which.
    pub name: ChannelName,
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

/// How many connections are open, and how many may be.
#[derive(Debug)]
pub struct Quota {
    open: AtomicU32,
    max: u32,
}

impl Quota {
    /// `None`: no limit.
    pub fn new(max: Option<NonZeroU32>) -> Arc<Self> {
        Arc::new(Self { open: AtomicU32::new(0), max: max.map_or(u32::MAX, NonZeroU32::get) })
    }

    /// Connections that are open.
    pub fn open(&self) -> u32 {
        self.open.load(Relaxed)
    }

    /// Connections there may be; `None`: no limit.
    pub fn max(&self) -> Option<u32> {
        (self.max != u32::MAX).then_some(self.max)
    }

    /// Counts a connection in; `None` if there are as many as there may be.
    pub fn admit(self: &Arc<Self>) -> Option<QuotaPlace> {
        let counted = |open: u32| (open < self.max).then(|| open + 1);
        self.open.fetch_update(Relaxed, Relaxed, counted).ok()?;
        Some(QuotaPlace(Arc::clone(self)))
    }
}

/// One connection's place in a quota, given back when dropped.
#[derive(Debug)]
pub struct QuotaPlace(Arc<Quota>);

impl Drop for QuotaPlace {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// An app as this node runs it.
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
    /// What it may still ask of the HTTP API, if that is limited.
    requests: Option<(NonZeroU32, Mutex<Bucket>)>,
    counters: Box<[AppCounters]>,
}

impl RunningApp {
    /// Counts a request of the HTTP API; if it is one too many, gives back how many there may be a second.
    pub fn over_rate(&self) -> Option<u32> {
        let (per_second, bucket) = self.requests.as_ref()?;
        (!bucket.lock().take(*per_second, Instant::now())).then_some(per_second.get())
    }

    /// The counters of one worker: only that worker adds to them.
    #[expect(clippy::indexing_slicing, reason = "there is one for each worker, and worker ids count from 0")]
    pub fn counters(&self, worker: WorkerId) -> &AppCounters {
        &self.counters[worker.index()]
    }

    /// The counters of all workers.
    pub const fn all_counters(&self) -> &[AppCounters] {
        &self.counters
    }
}

/// All apps of this node.
#[derive(Debug)]
pub struct Apps {
    all: Vec<Arc<RunningApp>>,
    /// Counts, for each worker, what happens to clients whose key or path names no app.
    nobody: Box<[AppCounters]>,
    by_key: HashMap<String, Arc<RunningApp>, foldhash::quality::RandomState>,
    by_id: HashMap<String, Arc<RunningApp>, foldhash::quality::RandomState>,
}

impl Apps {
    /// Takes checked apps: no two share an id or a key.
    pub fn new(apps: Vec<App>, workers: usize) -> Self {
        let all: Vec<_> = (0..)
            .zip(apps)
            .map(|(index, app)| {
                let counters = (0..workers).map(|_| AppCounters::default()).collect();
                let quota = Quota::new(app.connections_max);
                let cache = Arc::new(Cache::new(app.cache_bytes_max, app.cache_ttl));
                let bucket = |per_second| (per_second, Mutex::new(Bucket::new(per_second, Instant::now())));
                let requests = app.requests_per_second.map(bucket);
                let index = AppIndex(index);
                Arc::new(RunningApp { app: Arc::new(app), index, quota, cache, requests, counters })
            })
            .collect();
        let by = |name: fn(&App) -> &str| {
            all.iter().map(|running| (name(&running.app).to_owned(), Arc::clone(running))).collect()
        };
        let nobody = (0..workers).map(|_| AppCounters::default()).collect();
        Self { nobody, by_key: by(|app| app.key.as_str()), by_id: by(|app| app.id.as_str()), all }
    }

    /// The app clients name by this key.
    pub fn by_key(&self, key: &str) -> Option<&Arc<RunningApp>> {
        self.by_key.get(key)
    }

    /// The app publishers name by this id.
    pub fn by_id(&self, id: &str) -> Option<&Arc<RunningApp>> {
        self.by_id.get(id)
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

    /// Every app, in the order of configuration.
    pub fn all(&self) -> &[Arc<RunningApp>] {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use soundpost_protocol::app::{AppId, AppKey, AppSecret};

    use super::*;

    #[test]
    fn a_quota_admits_as_many_as_it_may() {
        let quota = Quota::new(NonZeroU32::new(2));
        let first = quota.admit().unwrap();
        let second = quota.admit().unwrap();
        assert!(quota.admit().is_none());
        drop(first);
        assert_eq!(quota.open(), 1);
        assert!(quota.admit().is_some());
        drop(second);
        assert_eq!((quota.open(), quota.max()), (0, Some(2)));
        assert_eq!(Quota::new(None).max(), None);
    }

    #[test]
    fn an_app_is_found_by_key_and_by_id() {
        let app = App::new(AppId::parse("a").unwrap(), AppKey::parse("k").unwrap(), AppSecret::new("s"));
        let apps = Apps::new(vec![app], 1);
        assert!(apps.by_key("k").is_some() && apps.by_id("a").is_some());
        assert!(apps.by_key("a").is_none() && apps.by_id("k").is_none());
    }
}
