//! The same events as a job that a Laravel worker or Horizon runs, instead of a request.
//!
//! Source: Laravel, `Illuminate\Queue`: `Queue::createStringPayload`, `RedisQueue` and its scripts, `Jobs\Job::fire`;
//! Horizon, `JobPayload` and `RedisJobRepository`. The payload is plain JSON and names a class of the app; nothing in it is
//! a serialised PHP object, and nothing has to be: whoever can write to the list could otherwise have any class made.
//!
//! Before a worker runs a job, a script in Redis reads the payload with cjson and writes it again, for the case that the
//! worker dies. cjson keeps 14 digits of a number and makes `{}` of `[]`; so no number here is longer, and no list that
//! matters is empty.

use std::fmt;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::WebhookId;
use crate::{app::AppId, json};

/// `App\Jobs\PusherWebhook@handle`: the class that Laravel's container makes, and the method it calls with the job and
/// [`payload`]'s `data`. Without `@` the method is `fire`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobName(Box<str>);

/// The lists of one of Laravel's queues: jobs are appended to `queues:default`, and a `1` for each to
/// `queues:default:notify`, which wakes workers that wait (`block_for`). Both in one act: a worker that is woken looks at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueKeys {
    /// The list of jobs.
    pub jobs: String,
    /// The list of what is new.
    pub notify: String,
}

/// Why the settings of a queue make none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaravelQueueError {
    /// Not a class of PHP, or a method that is none.
    #[error(
        "{found:?} is no job; write a class and its method, as in \"App\\\\Jobs\\\\PusherWebhook@handle\""
    )]
    Job {
        /// What was written, cut after 100 characters.
        found: String,
    },
    /// A queue has no name, or one that cannot be its.
    #[error(
        "{found:?} is no name of a queue: it has 1 to 200 characters, no spaces and no control characters"
    )]
    Queue {
        /// What was written, cut after 100 characters.
        found: String,
    },
    /// The prefix has a control character or is too long.
    #[error("is no prefix: at most 200 characters, no control characters")]
    Prefix,
}

impl JobName {
    /// Checks `text` once: `Class` or `Class@method`, at most 200 bytes. A `\` at the beginning is left out, as PHP does
    /// it in class names.
    ///
    /// Errors: [`LaravelQueueError::Job`].
    pub fn parse(text: &str) -> Result<Self, LaravelQueueError> {
        let name = text.strip_prefix('\\').unwrap_or(text);
        let (class, method) = name.split_once('@').unwrap_or((name, "fire"));
        if name.len() <= 200 && class.split('\\').all(is_identifier) && is_identifier(method) {
            return Ok(Self(name.into()));
        }
        Err(LaravelQueueError::Job { found: text.chars().take(100).collect() })
    }

    /// As it stands in `job`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands in `displayName`, and in Horizon's lists.
    fn class(&self) -> &str {
        self.0.split('@').next().unwrap_or_default()
    }
}

/// A name of PHP. Source: PHP manual, "The Basics", "class".
fn is_identifier(text: &str) -> bool {
    let begins = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
    text.starts_with(begins) && text.chars().all(|c| begins(c) || c.is_ascii_digit())
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl QueueKeys {
    /// `prefix`: that of the Redis connection in Laravel's `config/database.php` (`REDIS_PREFIX`), which Laravel puts
    /// before every key; may be empty. On a Redis Cluster Laravel puts the name in braces, unless it has some, so that both
    /// lists are on one node.
    ///
    /// Errors: [`LaravelQueueError::Queue`], [`LaravelQueueError::Prefix`].
    pub fn new(prefix: &str, queue: &str, is_cluster: bool) -> Result<Self, LaravelQueueError> {
        let is_short = |text: &str| text.chars().count() <= 200;
        if prefix.chars().any(char::is_control) || !is_short(prefix) {
            return Err(LaravelQueueError::Prefix);
        }
        let fits = |c: char| !c.is_control() && !c.is_whitespace();
        if queue.is_empty() || !is_short(queue) || !queue.chars().all(fits) {
            return Err(LaravelQueueError::Queue { found: queue.chars().take(100).collect() });
        }
        let jobs = if is_cluster && !has_hash_tag(queue) {
            format!("{prefix}queues:{{{queue}}}")
        } else {
            format!("{prefix}queues:{queue}")
        };
        Ok(Self { notify: format!("{jobs}:notify"), jobs })
    }
}

/// Whether Redis Cluster hashes a part of the key alone. Source: Redis Cluster specification, "Hash tags".
fn has_hash_tag(key: &str) -> bool {
    key.split_once('{').and_then(|(_, rest)| rest.find('}')).is_some_and(|length| length > 0)
}

/// Names a job: a UUID in its 36 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobUuid(Box<str>);

impl JobUuid {
    /// Of the events that the job tells one webhook of an app; webhooks of two apps may have one id. It is the same for the same events, when they are pushed again by this
    /// node or by another one: Laravel and a job can tell that they have had it.
    ///
    /// It has the form of version 4, random, as Laravel's have. What it is a digest of is as good as random: an event's id
    /// is never given again.
    pub fn of(app: &AppId, webhook: WebhookId, event_ids: &str) -> Self {
        let digest = Sha256::new()
            .chain_update((app.as_str().len() as u64).to_be_bytes())
            .chain_update(app.as_str())
            .chain_update(webhook.0.to_be_bytes())
            .chain_update(event_ids)
            .finalize();
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..]: [u8; 32] = digest.into();
        let number = u128::from_be_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]);
        // RFC 9562, 5.4: the version stands above 76 bits, the variant above 62.
        let number = (number & !(0xf << 76) | 4 << 76) & !(0b11 << 62) | 0b10 << 62;
        let part = |shift: u32, digits: u32| (number >> shift) & ((1 << (4 * digits)) - 1);
        let (time, middle, high) = (part(96, 8), part(80, 4), part(64, 4));
        let text = format!("{time:08x}-{middle:04x}-{high:04x}-{:04x}-{:012x}", part(48, 4), part(0, 12));
        Self(text.into())
    }

    /// `1b4e28ba-2fa1-41d2-883f-0016d3cca427`
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A job to be written.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// What runs it.
    pub name: &'a JobName,
    /// `uuid`, and `id`, which Horizon wants to be the same.
    pub uuid: &'a JobUuid,
    /// Whose events.
    pub app: &'a AppId,
    /// When it is pushed, as Unix time in milliseconds: `pushedAt`, and `createdAt` in seconds.
    pub pushed_ms: u64,
}

/// The element of the list:
///
/// ```json
/// {"uuid":"…","displayName":"App\\Jobs\\PusherWebhook","job":"App\\Jobs\\PusherWebhook@handle","maxTries":null,
///  "maxExceptions":null,"failOnTimeout":false,"backoff":null,"timeout":null,
///  "data":{"app_id":"soundpost","event_ids":["2f.1a"],
///          "time_ms":1700000000123,"events":[{"name":"channel_occupied","channel":"orders"}]},
///  "createdAt":1700000000,"id":"…","attempts":0,
///  "type":"job","tags":["soundpost","app:soundpost"],"silenced":false,"pushedAt":"1700000000.123"}
/// ```
///
/// The first two lines are what Laravel writes for a job that is a string, `createdAt` too from version 12 on; `id` and
/// `attempts` are what its Redis queue adds, the last line is what Horizon adds. `null` leaves tries, pauses and timeouts to
/// the worker's flags. Of what Laravel writes only `delay` is missing, which is null in what is not delayed.
///
/// `data` is `body`, a body of a webhook as [`super::event::body`] makes it, with the app's id before it, as one worker may
/// serve several, and the ids of its events, so that repeats can be told; `event_ids` is the value of
/// [`super::signature::EVENT_IDS`]. It is not signed: who can write to the app's Redis needs no signature.
pub fn payload(job: Job<'_>, body: &[u8], event_ids: &str) -> Bytes {
    let mut out = Vec::with_capacity(768 + body.len() + event_ids.len() * 2);
    push(&mut out, r#"{"uuid":"#, job.uuid.as_str());
    push(&mut out, r#","displayName":"#, job.name.class());
    push(&mut out, r#","job":"#, job.name.as_str());
    out.extend_from_slice(
        br#","maxTries":null,"maxExceptions":null,"failOnTimeout":false,"backoff":null,"timeout":null"#,
    );
    push(&mut out, r#","data":{"app_id":"#, job.app.as_str());
    for (at, id) in event_ids.split(',').enumerate() {
        push(&mut out, if at == 0 { r#","event_ids":["# } else { "," }, id);
    }
    out.extend_from_slice(b"],");
    // The rest of the object that the body is.
    out.extend_from_slice(body.strip_prefix(b"{").unwrap_or(body));
    let (seconds, milliseconds) = (job.pushed_ms / 1000, job.pushed_ms % 1000);
    push(&mut out, &format!(r#","createdAt":{seconds},"id":"#), job.uuid.as_str());
    push(&mut out, r#","attempts":0,"type":"job","tags":["soundpost","#, &format!("app:{}", job.app));
    push(&mut out, r#"],"silenced":false,"pushedAt":"#, &format!("{seconds}.{milliseconds:03}"));
    out.push(b'}');
    out.into()
}

/// Appends what comes as it is, and a string.
fn push(out: &mut Vec<u8>, literal: &str, text: &str) {
    out.extend_from_slice(literal.as_bytes());
    json::push_string(out, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        app::Limits,
        channel::ChannelName,
        presence::{NodeId, UserId},
        webhook::event::{self, Encoded, Event, EventId},
    };
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const WEBHOOK: WebhookId = WebhookId(0x1234);
    /// Of the app `soundpost`, that webhook, and the events 1.1 and 1.2.
    const UUID: &str = "ebc08020-c290-4f78-9361-6fe454d9d99b";

    fn app(id: &str) -> AppId {
        AppId::parse(id).unwrap()
    }

    fn encoded(channel: &str, event: Event<'_>) -> Encoded {
        let id = EventId { life: NodeId(1), number: 1 };
        event.encode(id, &ChannelName::parse(channel, &Limits::default()).unwrap())
    }

    /// The ids are 1.1, 1.2 and so on.
    fn job_of(name: &JobName, events: &[Encoded]) -> Bytes {
        let ids: Vec<_> = (1..=events.len()).map(|number| format!("1.{number}")).collect();
        let (app, ids) = (app("soundpost"), ids.join(","));
        let job =
            Job { name, uuid: &JobUuid::of(&app, WEBHOOK, &ids), app: &app, pushed_ms: 1_700_000_000_023 };
        payload(job, &event::body(1_699_999_999_999, events), &ids)
    }

    #[test]
    fn a_job_has_the_fields_of_laravel_and_horizon() {
        let name = JobName::parse(r"App\Jobs\PusherWebhook@handle").unwrap();
        let zoe = UserId::from_text("Zo\"ë");
        let events =
            [encoded("presence-a", Event::ChannelOccupied), encoded("presence-a", Event::MemberAdded(&zoe))];
        assert_eq!(
            job_of(&name, &events),
            concat!(
                r#"{"uuid":"ebc08020-c290-4f78-9361-6fe454d9d99b","displayName":"App\\Jobs\\PusherWebhook","#,
                r#""job":"App\\Jobs\\PusherWebhook@handle","maxTries":null,"maxExceptions":null,"failOnTimeout":false,"#,
                r#""backoff":null,"timeout":null,"data":{"app_id":"soundpost","event_ids":["1.1","1.2"],"#,
                r#""time_ms":1699999999999,"events":["#,
                r#"{"name":"channel_occupied","channel":"presence-a"},"#,
                r#"{"name":"member_added","channel":"presence-a","user_id":"Zo\"ë"}]},"createdAt":1700000000,"#,
                r#""id":"ebc08020-c290-4f78-9361-6fe454d9d99b","attempts":0,"type":"job","#,
                r#""tags":["soundpost","app:soundpost"],"silenced":false,"pushedAt":"1700000000.023"}"#,
            )
        );
    }

    /// What Laravel reads: `Job::fire`, `maxTries` and kin; the script `pop`, which counts `attempts` up; Horizon's `id`.
    #[test]
    fn each_field_is_of_the_type_that_is_read() {
        let name = JobName::parse("Hook").unwrap();
        let value: Value =
            serde_json::from_slice(&job_of(&name, &[encoded("a", Event::SubscriptionCount(3))])).unwrap();
        for (field, expected) in [
            ("uuid", json!(JobUuid::of(&app("soundpost"), WEBHOOK, "1.1").as_str())),
            ("id", json!(JobUuid::of(&app("soundpost"), WEBHOOK, "1.1").as_str())),
            ("job", json!("Hook")),
            ("displayName", json!("Hook")),
            ("attempts", json!(0)),
            ("maxTries", Value::Null),
            ("maxExceptions", Value::Null),
            ("backoff", Value::Null),
            ("timeout", Value::Null),
            ("failOnTimeout", json!(false)),
            ("silenced", json!(false)),
            ("createdAt", json!(1_700_000_000)),
            ("pushedAt", json!("1700000000.023")),
            ("tags", json!(["soundpost", "app:soundpost"])),
        ] {
            assert_eq!(value[field], expected, "{field}");
        }
        assert_eq!(value["data"]["events"][0]["subscription_count"], 3);
        assert_eq!(value["data"]["event_ids"], json!(["1.1"]));
        assert_eq!(value["data"]["time_ms"], 1_699_999_999_999_u64);
    }

    #[test]
    fn a_job_is_named_by_its_app_its_webhook_and_its_events() {
        let of = |id, webhook, ids| JobUuid::of(&app(id), WebhookId(webhook), ids);
        let uuid = of("soundpost", WEBHOOK.0, "1.1,1.2");
        assert_eq!(uuid.as_str(), UUID);
        assert_eq!(uuid, of("soundpost", WEBHOOK.0, "1.1,1.2"));
        assert_ne!(uuid, of("soundpos", WEBHOOK.0, "1.1,1.2"));
        assert_ne!(uuid, of("soundpost", WEBHOOK.0 + 1, "1.1,1.2"));
        assert_ne!(uuid, of("soundpost", WEBHOOK.0, "1.1"));
    }

    proptest! {
        #[test]
        fn every_uuid_has_the_form_of_version_4(webhook: u64, event_ids in "[0-9a-f]{1,16}\\.[0-9a-f]{1,16}") {
            let uuid = JobUuid::of(&app("soundpost"), WebhookId(webhook), &event_ids);
            let parts: Vec<_> = uuid.as_str().split('-').collect();
            prop_assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
            prop_assert!(parts.concat().bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
            prop_assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']), "{:?}", parts);
        }
    }

    #[test]
    fn a_job_is_a_class_and_perhaps_a_method() {
        for (text, class) in [
            (r"App\Jobs\PusherWebhook@handle", r"App\Jobs\PusherWebhook"),
            (r"\App\Jobs\PusherWebhook@handle", r"App\Jobs\PusherWebhook"),
            ("Hook", "Hook"),
            ("_h1@é", "_h1"),
        ] {
            let name = JobName::parse(text).unwrap();
            assert_eq!((name.class(), name.as_str()), (class, text.trim_start_matches('\\')));
        }
        let long = "x".repeat(201);
        for text in [
            "",
            "@",
            "Hook@",
            "@handle",
            r"App\",
            r"App\\Hook",
            "1Hook",
            "App/Hook",
            "Hook@a@b",
            "a b",
            &long,
        ] {
            let error = JobName::parse(text).unwrap_err();
            assert_eq!(error, LaravelQueueError::Job { found: text.chars().take(100).collect() }, "{text}");
        }
        assert_eq!(
            JobName::parse("App/Hook").unwrap_err().to_string(),
            r#""App/Hook" is no job; write a class and its method, as in "App\\Jobs\\PusherWebhook@handle""#
        );
    }

    #[test]
    fn jobs_go_where_laravel_looks_for_them() {
        for (prefix, queue, is_cluster, jobs) in [
            ("", "default", false, "queues:default"),
            ("laravel_database_", "webhooks", false, "laravel_database_queues:webhooks"),
            ("my app-", "default", true, "my app-queues:{default}"),
            ("", "{web}hooks", true, "queues:{web}hooks"),
            ("", "web{}hooks", true, "queues:{web{}hooks}"),
            ("", "{default}", false, "queues:{default}"),
        ] {
            let keys = QueueKeys::new(prefix, queue, is_cluster).unwrap();
            assert_eq!((keys.jobs.as_str(), keys.notify), (jobs, format!("{jobs}:notify")));
        }
        for queue in ["", "a b", "a\n", "\u{a0}"] {
            let error = LaravelQueueError::Queue { found: queue.to_owned() };
            assert_eq!(QueueKeys::new("", queue, false), Err(error));
        }
        assert_eq!(QueueKeys::new("a\r\n", "default", false), Err(LaravelQueueError::Prefix));
        assert_eq!(QueueKeys::new(&"x".repeat(201), "default", false), Err(LaravelQueueError::Prefix));
    }
}
