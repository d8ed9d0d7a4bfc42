//! One webhook of an app, as it was configured.

use std::{fmt, path::PathBuf, sync::Arc};

use sha2::{Digest, Sha256};

use super::{
    laravel_queue::JobName,
    target::{ExtraHeaders, Target, TargetUrl},
};
use crate::{app::AppId, presence::NodeId};

/// What one webhook wants, and how it gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// The same on every node and after every start, as long as the place it is sent to and what it wants are the same:
    /// names its queue where nodes share one.
    pub id: WebhookId,
    /// What it wants to be told.
    pub target: Target,
    /// How it is told.
    pub carrier: Carrier,
}

/// Names a webhook of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WebhookId(pub u64);

/// How a webhook is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// By requests to a URL.
    Http(HttpTarget),
    /// By jobs for Laravel's workers.
    LaravelQueue(LaravelQueue),
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpTarget {
    /// To whom.
    pub url: TargetUrl,
    /// With what besides our own headers.
    pub headers: ExtraHeaders,
    /// PEM file of the authorities that are trusted with `https`; without one those of the system.
    pub ca: Option<PathBuf>,
    /// Addresses of private networks, and of this machine, are refused.
    pub refuses_private: bool,
}

/// Where jobs go.
#[derive(Clone, PartialEq, Eq)]
pub struct LaravelQueue {
    /// What runs them.
    pub job: JobName,
    /// Laravel's name of the queue: `default`.
    pub queue: Box<str>,
    /// What Laravel puts before every key of that Redis (`REDIS_PREFIX`).
    pub prefix: Box<str>,
    /// URL of the app's Redis, which may hold a password; `None`: the Redis that the nodes meet at.
    pub redis: Option<Arc<str>>,
}

/// Without the URL, which may hold a password.
impl fmt::Debug for LaravelQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { job, queue, prefix, .. } = self;
        f.debug_struct("LaravelQueue")
            .field("job", job)
            .field("queue", queue)
            .field("prefix", prefix)
            .finish_non_exhaustive()
    }
}

impl Webhook {
    /// Of its parts.
    pub fn new(target: Target, carrier: Carrier) -> Self {
        Self { id: WebhookId::of(&target, &carrier), target, carrier }
    }
}

impl WebhookId {
    /// A digest of where it is sent and what it wants. How it is sent does not count: other headers or portions leave
    /// what waits in its queue alone.
    fn of(target: &Target, carrier: &Carrier) -> Self {
        let mut digest = Sha256::new();
        let mut add = |part: &str| {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        };
        match carrier {
            Carrier::Http(http) => {
                let scheme = if http.url.is_https() { "https" } else { "http" };
                [scheme, &http.url.host_header(), http.url.path_and_query()].into_iter().for_each(&mut add);
            }
            Carrier::LaravelQueue(LaravelQueue { job, queue, prefix, redis }) => {
                let redis = redis.as_deref().unwrap_or_default();
                ["queue", job.as_str(), queue, prefix, redis].into_iter().for_each(&mut add);
            }
        }
        add(target.filter.prefix());
        add(target.filter.suffix());
        target.events.iter().for_each(|kind| add(kind.word()));
        Self(beginning(digest))
    }

    /// Who tells the events of this webhook of an app that no node has named: as an id says only where in the webhook's
    /// queue the event stands, and webhooks of two apps may have one id, the app belongs to it.
    pub fn teller(self, app: &AppId) -> NodeId {
        NodeId(beginning(Sha256::new().chain_update(self.0.to_be_bytes()).chain_update(app.as_str())))
    }
}

fn beginning(digest: Sha256) -> u64 {
    let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = digest.finalize().into();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// 16 hexadecimal digits.
impl fmt::Display for WebhookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::target::{Batching, EventKinds, Filter};

    fn http(url: &str) -> Carrier {
        Carrier::Http(HttpTarget {
            url: TargetUrl::parse(url).unwrap(),
            headers: ExtraHeaders::default(),
            ca: None,
            refuses_private: false,
        })
    }

    fn queue(prefix: &str, queue: &str) -> Carrier {
        let job = JobName::parse("Hook").unwrap();
        Carrier::LaravelQueue(LaravelQueue { job, queue: queue.into(), prefix: prefix.into(), redis: None })
    }

    #[test]
    fn webhooks_that_differ_in_what_they_get_have_other_ids() {
        let all = Target::default();
        let some = Target { events: EventKinds::parse(["member_added"]).unwrap(), ..Target::default() };
        let begin = Target { filter: Filter::new("a", "").unwrap(), ..Target::default() };
        let end = Target { filter: Filter::new("", "a").unwrap(), ..Target::default() };
        let mut ids: Vec<_> = [
            Webhook::new(all.clone(), http("http://a.test/")),
            Webhook::new(all.clone(), http("https://a.test/")),
            Webhook::new(all.clone(), http("http://a.test:81/")),
            Webhook::new(all.clone(), http("http://a.test/x")),
            Webhook::new(some, http("http://a.test/")),
            Webhook::new(begin, http("http://a.test/")),
            Webhook::new(end, http("http://a.test/")),
            Webhook::new(all.clone(), queue("a", "b")),
            Webhook::new(all, queue("", "ab")),
        ]
        .map(|webhook| webhook.id)
        .into();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 9);
    }

    #[test]
    fn how_it_is_sent_does_not_change_the_id() {
        let batches = Target { batching: Batching::new(50, 100).unwrap(), ..Target::default() };
        let one = Webhook::new(Target::default(), http("http://a.test"));
        assert_eq!(one.id, Webhook::new(batches, http("http://A.test:80/")).id);
        assert_eq!(one.id.to_string().len(), 16);
    }

    #[test]
    fn the_same_webhook_of_two_apps_has_two_tellers() {
        let teller = |app, webhook| WebhookId(webhook).teller(&AppId::parse(app).unwrap());
        assert_eq!(teller("a", 7), teller("a", 7));
        assert_ne!(teller("a", 7), teller("b", 7));
        assert_ne!(teller("a", 7), teller("a", 8));
    }

    #[test]
    fn a_queue_shows_no_password() {
        let job = JobName::parse("Hook").unwrap();
        let redis = Some("redis://:hush@a.test".into());
        let queue = LaravelQueue { job, queue: "q".into(), prefix: "p".into(), redis };
        assert!(!format!("{queue:?}").contains("hush"));
    }
}
