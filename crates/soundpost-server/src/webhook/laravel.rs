//! Telling an app by jobs in the Redis that its Laravel workers take them from.
//!
//! Job and wake-up are pushed by one script, as Laravel itself does it: a worker that is woken (`block_for`) looks for a job
//! at once, and one that finds the job takes the wake-up away with it. MULTI would be one act as well, but what fails in it
//! does not keep the rest from being done, and whoever may push for Laravel may do no more than run scripts.
//!
//! Connections are of this webhook alone, as many as it has attempts under way, and stay open between them.

mod error;

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::Mutex;
use soundpost_protocol::{
    app::AppId,
    webhook::{
        LaravelQueue, WebhookId,
        laravel_queue::{self, Job, JobName, JobUuid, LaravelQueueError, QueueKeys},
        queue::{ATTEMPT_TIMEOUT, Attempt, Outcome},
    },
};
use tokio::time::timeout;
use tracing::warn;

pub use self::error::PushError;
use self::error::{Refusal, Whose};
use crate::{
    adapter::redis::wire::{
        error::ConnectError,
        place::{KeyLink, KeyPlace},
        resp::Reply,
    },
    config::{RedisServers, RedisSettings},
    seldom::Seldom,
};

/// Pushes the job, and one wake-up for it. The reply is empty, or says why nobody was woken: the job is there all the same.
const PUSH: &[u8] = b"local pushed=redis.pcall('RPUSH',KEYS[1],ARGV[1])
if type(pushed)=='table' and pushed.err then return pushed end
local woken=redis.pcall('RPUSH',KEYS[2],'1')
return type(woken)=='table' and woken.err or ''";
/// Connections kept for later: as many as a target has attempts under way.
const IDLE_MAX: usize = 4;

/// A webhook that is told by jobs.
#[derive(Debug)]
pub struct LaravelCarrier {
    app: AppId,
    webhook: WebhookId,
    job: JobName,
    keys: QueueKeys,
    place: KeyPlace,
    whose: Whose,
    idle: Mutex<Vec<KeyLink>>,
    unwoken_line: Seldom,
}

/// Why there is no way to a queue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoWay {
    /// The configuration names no Redis.
    #[error("the app's Redis is not known; set laravel_queue.redis")]
    NoRedis,
    /// What it names is none.
    #[error("laravel_queue.redis {0}")]
    Url(&'static str),
    /// No list has such a name.
    #[error(transparent)]
    Queue(#[from] LaravelQueueError),
}

impl LaravelCarrier {
    /// For the webhook of an app. `nodes`: the Redis that the nodes meet at, which is the app's if none is named; its
    /// files for TLS are shown to one that is named, too. Dials nothing yet.
    ///
    /// Errors: [`NoWay`], which the configuration lets nobody see.
    pub fn new(
        app: AppId,
        webhook: WebhookId,
        queue: &LaravelQueue,
        nodes: Option<&RedisSettings>,
    ) -> Result<Self, NoWay> {
        let (whose, settings) = match &queue.redis {
            Some(url) => (Whose::Apps, own(url, nodes)?),
            None => (Whose::Nodes, nodes.ok_or(NoWay::NoRedis)?.clone()),
        };
        let is_cluster = matches!(settings.servers, RedisServers::Cluster(_));
        let keys = QueueKeys::new(&queue.prefix, &queue.queue, is_cluster)?;
        Ok(Self {
            app,
            webhook,
            job: queue.job.clone(),
            place: KeyPlace::new(settings, keys.jobs.as_bytes()),
            keys,
            whose,
            idle: Mutex::new(Vec::new()),
            unwoken_line: Seldom::default(),
        })
    }

    /// Pushes the job that tells the events of an attempt, within
    /// [`ATTEMPT_TIMEOUT`]. A further attempt of a request pushes the same job: same UUID, same ids.
    ///
    /// Where it is dropped before its end, the job may be pushed or not. Errors: there was no answer to tell by.
    pub async fn send(&self, attempt: &Attempt) -> Result<Outcome, PushError> {
        let pushed = timeout(ATTEMPT_TIMEOUT, self.push(attempt)).await.unwrap_or(Err(PushError::Late));
        if pushed.is_err() {
            // Whatever was wrong with one may be with the others.
            self.idle.lock().clear();
        }
        // Laravel has no status; this one says what every 2xx says.
        pushed.map(|()| Outcome::Status(200))
    }

    async fn push(&self, attempt: &Attempt) -> Result<(), PushError> {
        let job = self.payload(attempt);
        if let Some(link) = self.take_idle().await {
            match self.push_on(link, &job).await {
                Err(PushError::Refused { refusal: Refusal::Elsewhere, .. }) => {}
                pushed => return pushed,
            }
        }
        let link = self.place.dial().await.map_err(|error| self.unusable(error))?;
        self.push_on(link, &job).await
    }

    async fn push_on(&self, mut link: KeyLink, job: &[u8]) -> Result<(), PushError> {
        let (jobs, notify) = (self.keys.jobs.as_bytes(), self.keys.notify.as_bytes());
        let reply = link.ask(&[b"EVAL", PUSH, b"2", jobs, notify, job]).await;
        match reply.map_err(|error| self.unusable(error))? {
            Reply::Error(said) => return Err(self.refused(&link, &said)),
            Reply::Bulk(said) if said.is_empty() => {}
            Reply::Bulk(said) => self.not_woken(&link, &said),
            Reply::Simple(_) | Reply::Integer(_) | Reply::Nil | Reply::Array(_) => {
                return Err(PushError::Strange { address: link.address().to_string() });
            }
        }
        self.keep(link);
        Ok(())
    }

    fn payload(&self, attempt: &Attempt) -> Bytes {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let job = Job {
            name: &self.job,
            uuid: &JobUuid::of(&self.app, self.webhook, &attempt.event_ids),
            app: &self.app,
            pushed_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        };
        laravel_queue::payload(job, &attempt.body, &attempt.event_ids)
    }

    /// One that was kept and is still of use.
    async fn take_idle(&self) -> Option<KeyLink> {
        loop {
            // The lock ends before the wait begins.
            let kept = self.idle.lock().pop();
            let mut link = kept?;
            if self.place.is_good(&mut link).await {
                return Some(link);
            }
        }
    }

    fn keep(&self, link: KeyLink) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(link);
        }
    }

    fn refused(&self, link: &KeyLink, said: &[u8]) -> PushError {
        let address = link.address().to_string();
        match Refusal::of(said, self.place.is_fixed()) {
            Some(refusal) => PushError::Refused { address, refusal, jobs: self.keys.jobs.clone() },
            None => self.unusable(link.refusal("EVAL", said)),
        }
    }

    const fn unusable(&self, error: ConnectError) -> PushError {
        PushError::Unusable { whose: self.whose, error }
    }

    fn not_woken(&self, link: &KeyLink, said: &[u8]) {
        if self.unwoken_line.is_due() {
            let (app, webhook, notify) = (&self.app, &self.webhook, &self.keys.notify);
            let why = link.refusal("RPUSH", said);
            warn!(%app, %webhook, "webhook: a job was pushed, but workers that wait were not woken by {notify:?}: {why}");
        }
    }
}

/// The Redis that a URL says. Only where the nodes meet is it said whom to trust besides those that the system trusts.
fn own(url: &str, nodes: Option<&RedisSettings>) -> Result<RedisSettings, NoWay> {
    let mut settings = RedisSettings::of_url(url).map_err(NoWay::Url)?;
    if settings.tls.is_some()
        && let Some(tls) = nodes.and_then(|nodes| nodes.tls.clone())
    {
        settings.tls = Some(tls);
    }
    Ok(settings)
}
