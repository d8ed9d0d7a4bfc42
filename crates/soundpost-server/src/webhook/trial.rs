//! Telling one webhook of something that did not happen, to see whether it gets there: what `soundpost webhook-test` does.
//!
//! The way is the one that the server's own events take. Only the event is made up, and of an answer more is kept.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use soundpost_protocol::{
    api::percent_decode,
    app::App,
    channel::{ChannelKind, ChannelName},
    presence::{NodeId, UserId},
    socket_id::SocketId,
    webhook::{
        Carrier as How, HttpTarget, LaravelQueue, Webhook,
        event::{self, Encoded, Event, EventId, EventKind},
        laravel_queue::QueueKeys,
        queue::{Attempt, RequestId},
        signature,
    },
};
use tokio::time::timeout;

use super::{
    carrier::Problem,
    http::{ANSWER_BYTES_MAX, Answer, HttpCarrier, Trust},
    laravel::LaravelCarrier,
};
use crate::config::{RedisServers, RedisSettings};

/// What the channel and the user are called, as far as kind and filter leave it open.
const NAME: &str = "soundpost-webhook-test";
/// The client event.
const CLIENT_EVENT: &str = "client-soundpost-webhook-test";
/// What stands in place of what is not to be seen.
const HIDDEN: &str = "(hidden)";
/// Bytes of the shortest text that is hidden.
const SECRET_BYTES_MIN: usize = 4;

/// One webhook, and the event that it is to be told.
#[derive(Debug)]
pub struct Trial {
    app: Arc<App>,
    webhook: Arc<Webhook>,
    event: Encoded,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The receiver of a request has answered.
    Answered {
        /// Its status.
        status: u16,
        /// The beginning of the answer's body, without what was sent to it in secret. As it came otherwise: it may hold
        /// control characters.
        text: String,
    },
    /// The job is on the list.
    Pushed,
}

impl Trial {
    /// Of the first kind of event that the webhook wants and that can be: on a channel that its filter lets through and
    /// on which there are such events. `None`: there is no such channel, so the webhook is never told anything.
    ///
    /// Errors: the system has no random numbers, of which the event's id is made.
    pub fn new(app: &Arc<App>, webhook: &Arc<Webhook>) -> io::Result<Option<Self>> {
        let id = EventId { life: NodeId(getrandom::u64().map_err(io::Error::other)?), number: 1 };
        let event = webhook.target.events.iter().find_map(|kind| {
            let channel = channel(app, webhook, kind)?;
            Some(encoded(kind, id, &channel))
        });
        Ok(event.map(|event| Self { app: Arc::clone(app), webhook: Arc::clone(webhook), event }))
    }

    /// What is told.
    pub const fn kind(&self) -> EventKind {
        self.event.kind
    }

    /// Of which channel.
    pub const fn channel(&self) -> &ChannelName {
        &self.event.channel
    }

    /// Whether a worker of the app is to run it.
    pub fn is_job(&self) -> bool {
        matches!(self.webhook.carrier, How::LaravelQueue(_))
    }

    /// Tells it once, within `limit`. `nodes`: the Redis that the nodes meet at.
    ///
    /// Where it is dropped before its end, the receiver may have been told or not. Errors: there was no answer; why.
    pub async fn tell(&self, nodes: Option<&RedisSettings>, limit: Duration) -> Result<Told, Problem> {
        match &self.webhook.carrier {
            How::Http(target) => {
                let carrier = HttpCarrier::new(&self.app, target, Arc::new(Trust::default()), limit)?;
                let attempt = self.attempt();
                let Answer { status, beginning } = carrier.post(&attempt, ANSWER_BYTES_MAX).await?;
                let text = String::from_utf8_lossy(&beginning).into_owned();
                let ours = signature::headers(&self.app.key, &self.app.secret, &attempt.body);
                let signature = ours.iter().find(|(name, _)| *name == signature::SIGNATURE);
                let signature = signature.map_or("", |(_, value)| value.as_str());
                let text = without_secrets(text, target, signature);
                Ok(Told::Answered { status, text })
            }
            How::LaravelQueue(queue) => {
                let (app, id) = (self.app.id.clone(), self.webhook.id);
                let carrier = LaravelCarrier::new(app, id, queue, nodes)
                    .map_err(|error| Problem::new(error.to_string()))?;
                let attempt = self.attempt();
                let pushed = timeout(limit, carrier.send(&attempt)).await.map_err(|_| {
                    let seconds = limit.as_secs();
                    Problem::new(format!("redis has not answered within {seconds} s; is it overloaded?"))
                })?;
                pushed.map(|_| Told::Pushed).map_err(|error| Problem::new(error.to_string()))
            }
        }
    }

    fn attempt(&self) -> Attempt {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Attempt {
            request: RequestId(1),
            number: 1,
            body: event::body(time_ms, [&self.event]),
            event_ids: signature::event_ids([&self.event]).into(),
            events: 1,
        }
    }
}

/// An answer without what was sent to it in secret: the values of our headers, the signature, and what stands behind the
/// `?` of the URL. An error page often says back what it was asked.
fn without_secrets(mut text: String, target: &HttpTarget, signature: &str) -> String {
    // It may name the token of `Bearer TOKEN` alone.
    let headers = target.headers.iter().flat_map(|(_, value)| [Some(value), last_word(value)]).flatten();
    let query = target.url.path_and_query().split_once('?').map_or("", |(_, query)| query);
    let parameters = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
    let plain: Vec<_> = parameters.clone().filter_map(percent_decode).collect();
    let mut secrets: Vec<&str> = headers.chain([signature, query]).chain(parameters).collect();
    secrets.extend(plain.iter().map(|value| &**value));
    // What is shorter is no secret, and would make the rest illegible.
    secrets.retain(|secret| secret.len() >= SECRET_BYTES_MIN);
    // A part would be found in the whole, and leave the rest of it.
    secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in secrets {
        text = text.replace(secret, HIDDEN);
    }
    text
}

fn last_word(value: &str) -> Option<&str> {
    Some(value.rsplit_once(' ')?.1)
}

/// Where a webhook is told, without what may be secret: `https://app.test/hook`, or `the list queues:default of Redis at
/// 127.0.0.1:6379, for the job Hook`.
pub fn place(webhook: &Webhook, nodes: Option<&RedisSettings>) -> String {
    let queue = match &webhook.carrier {
        How::Http(http) => return http.url.to_string(),
        How::LaravelQueue(queue) => queue,
    };
    let LaravelQueue { job, queue: name, prefix, redis } = queue;
    let of_url = redis.as_deref().and_then(|url| RedisSettings::of_url(url).ok());
    let Some(settings) = of_url.as_ref().or(nodes) else { return format!("the job {job}") };
    let is_cluster = matches!(settings.servers, RedisServers::Cluster(_));
    let list = QueueKeys::new(prefix, name, is_cluster).map(|keys| keys.jobs).unwrap_or_default();
    let (servers, database) = (&settings.servers, settings.database);
    format!("the list {list} of Redis at {servers}, database {database}, for the job {job}")
}

/// A name that the filter lets through and that can have events of this kind.
fn channel(app: &App, webhook: &Webhook, kind: EventKind) -> Option<ChannelName> {
    let filter = &webhook.target.filter;
    let kinds = ChannelKind::ALL.into_iter().filter(|channel| happens(app, kind, *channel));
    let names = kinds.flat_map(|channel| {
        let begin = both(prefix(channel), filter.prefix());
        // Without ours where names have to be short.
        [NAME, "x", ""].map(|name| begin.map(|begin| format!("{begin}{name}{}", filter.suffix())))
    });
    let parsed = names.flatten().filter_map(|name| ChannelName::parse(&name, &app.limits).ok());
    parsed.into_iter().find(|name| happens(app, kind, name.kind()) && webhook.target.wants(kind, name))
}

/// Whether there are events of this kind on channels of that kind.
fn happens(app: &App, kind: EventKind, channel: ChannelKind) -> bool {
    let is_open = app.client_events_on_public && !channel.needs_auth();
    match kind {
        EventKind::ChannelOccupied | EventKind::ChannelVacated => channel != ChannelKind::ServerToUser,
        EventKind::MemberAdded | EventKind::MemberRemoved => channel.is_presence(),
        EventKind::ClientEvent => {
            channel.takes_client_events() || is_open && channel != ChannelKind::ServerToUser
        }
        EventKind::CacheMiss => channel.is_cache(),
        EventKind::SubscriptionCount => !channel.is_presence() && channel != ChannelKind::ServerToUser,
    }
}

/// What names of a kind begin with.
fn prefix(kind: ChannelKind) -> &'static str {
    match kind {
        ChannelKind::Public | ChannelKind::ServerToUser => "",
        ChannelKind::Cache => "cache-",
        ChannelKind::Private => "private-",
        ChannelKind::PrivateCache => "private-cache-",
        ChannelKind::PrivateEncrypted => "private-encrypted-",
        ChannelKind::PrivateEncryptedCache => "private-encrypted-cache-",
        ChannelKind::Presence => "presence-",
        ChannelKind::PresenceCache => "presence-cache-",
    }
}

/// The shortest text that begins with both.
fn both<'a>(one: &'a str, other: &'a str) -> Option<&'a str> {
    let (long, short) = if one.len() >= other.len() { (one, other) } else { (other, one) };
    long.starts_with(short).then_some(long)
}

fn encoded(kind: EventKind, id: EventId, channel: &ChannelName) -> Encoded {
    let user_id = UserId::from_text(NAME);
    let event = match kind {
        EventKind::ChannelOccupied => Event::ChannelOccupied,
        EventKind::ChannelVacated => Event::ChannelVacated,
        EventKind::MemberAdded => Event::MemberAdded(&user_id),
        EventKind::MemberRemoved => Event::MemberRemoved(&user_id),
        EventKind::ClientEvent => Event::ClientEvent {
            event: CLIENT_EVENT,
            data: Some("{}"),
            socket_id: SocketId { left: 1, right: 1 },
            user_id: channel.kind().is_presence().then_some(&user_id),
        },
        EventKind::CacheMiss => Event::CacheMiss,
        EventKind::SubscriptionCount => Event::SubscriptionCount(1),
    };
    event.encode(id, channel)
}

#[cfg(test)]
mod tests {
    use soundpost_protocol::{
        app::{AppId, AppKey, AppSecret},
        webhook::target::{EventKinds, ExtraHeaders, Filter, Target, TargetUrl},
    };

    use super::*;

    fn app() -> App {
        App::new(
            AppId::parse("a").unwrap(),
            AppKey::parse("k").unwrap(),
            AppSecret::new("secret-of-16-chars"),
        )
    }

    fn trial(app: App, events: &[&str], prefix: &str, suffix: &str) -> Option<String> {
        let target = Target {
            events: EventKinds::parse(events.iter().copied()).unwrap(),
            filter: Filter::new(prefix, suffix).unwrap(),
            ..Target::default()
        };
        let url = TargetUrl::parse("http://127.0.0.1:1/").unwrap();
        let http = HttpTarget { url, headers: ExtraHeaders::default(), ca: None, refuses_private: false };
        let webhook = Arc::new(Webhook::new(target, How::Http(http)));
        let trial = Trial::new(&Arc::new(app), &webhook).unwrap()?;
        assert!(webhook.target.wants(trial.kind(), trial.channel()));
        Some(format!("{} {}", trial.kind().word(), trial.channel()))
    }

    #[test]
    fn an_answer_is_shown_without_what_was_sent_in_secret() {
        let headers = [("Authorization", "Bearer t0ken-of-ours"), ("X-Tenant", "7")];
        let target = HttpTarget {
            url: TargetUrl::parse("http://127.0.0.1:1/h?token=a%2Fb-c&tenant=7").unwrap(),
            headers: ExtraHeaders::parse(headers).unwrap(),
            ca: None,
            refuses_private: false,
        };
        for (said, shown) in [
            ("Cannot POST /h?token=a%2Fb-c&tenant=7", "Cannot POST /h?(hidden)"),
            (r#"{"token":"a%2Fb-c","tenant":"7"}"#, r#"{"token":"(hidden)","tenant":"7"}"#),
            ("unknown token a/b-c", "unknown token (hidden)"),
            ("Bearer t0ken-of-ours, 7", "(hidden), 7"),
            ("t0ken-of-ours is no bearer", "(hidden) is no bearer"),
            ("not 5f2c4a11", "not (hidden)"),
        ] {
            assert_eq!(without_secrets(said.to_owned(), &target, "5f2c4a11"), shown);
        }
    }

    #[test]
    fn the_sample_is_an_event_that_the_webhook_wants_on_a_channel_that_can_have_it() {
        for (events, prefix, suffix, expected) in [
            (&["channel_occupied"][..], "", "", Some("channel_occupied soundpost-webhook-test")),
            (&["cache_miss", "member_added"], "", "", Some("member_added presence-soundpost-webhook-test")),
            (&["channel_vacated"], "a-", "-b", Some("channel_vacated a-soundpost-webhook-test-b")),
            (&["member_removed"], "pres", "", Some("member_removed presence-soundpost-webhook-test")),
            (
                &["member_removed"],
                "presence-a.",
                "",
                Some("member_removed presence-a.soundpost-webhook-test"),
            ),
            (&["client_event"], "", "", Some("client_event private-soundpost-webhook-test")),
            (&["client_event"], "presence-", "", Some("client_event presence-soundpost-webhook-test")),
            (&["cache_miss"], "private-", "", Some("cache_miss private-cache-soundpost-webhook-test")),
            (
                &["subscription_count"],
                "private-x",
                "",
                Some("subscription_count private-xsoundpost-webhook-test"),
            ),
            // The first that can be.
            (&["member_added", "cache_miss"], "cache-", "", Some("cache_miss cache-soundpost-webhook-test")),
            (&["member_added"], "private-", "", None),
            (&["client_event"], "news.", "", None),
            (&["subscription_count"], "presence-", "", None),
        ] {
            assert_eq!(trial(app(), events, prefix, suffix).as_deref(), expected, "{events:?} {prefix}");
        }
        let mut open = app();
        open.client_events_on_public = true;
        let expected = "client_event news.soundpost-webhook-test";
        assert_eq!(trial(open, &["client_event"], "news.", "").as_deref(), Some(expected));
        let mut short = app();
        short.limits.channel_name_chars_max = 12;
        assert_eq!(trial(short, &["member_added"], "", "-b").as_deref(), Some("member_added presence-x-b"));
    }
}
