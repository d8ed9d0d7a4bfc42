//! `[[apps.webhooks]]`: from what was written of each to what it means.
//!
//! What may stand in a URL, a header, a filter or the name of a job the protocol crate knows; here is what fits
//! together. Nothing that is refused shows a header's value, or more of a URL than a character.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value as Json;
use soundpost_protocol::{
    app::App,
    webhook::{
        Carrier, HttpTarget, LaravelQueue, Webhook,
        laravel_queue::{JobName, LaravelQueueError, QueueKeys},
        target::{
            Batching, EventKinds, ExtraHeaders, Filter, HeaderError, Target, TargetError, TargetUrl, UrlError,
        },
    },
};

use super::{
    ConfigError, Files, Note,
    checks::Table,
    effective::HIDDEN,
    error::Place,
    layers::LayeredApp,
    redis,
    written::{LaravelQueueFile, List, Scalar, Secret, WebhookFile},
};
use crate::tls::TlsClient;

/// Webhooks of one app.
const COUNT_MAX: usize = 32;
/// Events of one body where nothing is written.
const BATCH_EVENTS: u32 = 100;
/// Laravel's name of the queue that jobs go to where none is named.
const QUEUE: &str = "default";
/// What Laravel put before every key of Redis for an app without a name of its own, until its version 12.
const PREFIX: &str = "laravel_database_";

/// Why a webhook cannot be one. `Display` stands behind the place.
#[derive(Debug, thiserror::Error)]
pub enum WebhookMistake {
    /// No URL that can be asked.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Events, a filter or batches that cannot be.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A header that cannot be sent.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A job or a queue that cannot be.
    #[error(transparent)]
    Queue(#[from] LaravelQueueError),
    /// Headers are no table.
    #[error("is no JSON object of texts, such as {{\"Authorization\":\"Bearer ..\"}}")]
    Headers,
    /// A header's value is no text.
    #[error("the value of {name:?} is no text; write it in quotes")]
    HeaderValue {
        /// The header.
        name: String,
    },
    /// A key that says how requests are made.
    #[error("is for requests to a url; laravel_queue makes none, so leave it out")]
    OfRequests,
    /// Certificates to trust where there is no TLS.
    #[error("is of no use with http://; write https:// in url, or leave it out")]
    WithoutTls,
    /// Jobs have nowhere to go.
    #[error(
        "the app's Redis is not known; write redis = \"redis://host:6379/0\", the one that its workers take jobs \
         from, or set redis.enabled if it is the one that the nodes meet at"
    )]
    NoRedis,
    /// Every event would be sent twice.
    #[error("goes where {first} goes, with the same events and filter; leave one of them out")]
    Twice {
        /// The key of the other one.
        first: String,
    },
    /// More than one app may have.
    #[error("an app has at most {COUNT_MAX}, and here are {count}")]
    TooMany {
        /// Webhooks found.
        count: usize,
    },
}

/// One webhook as it was written: the table of its app, and where in that it stands.
#[derive(Clone, Copy)]
struct Written<'a> {
    app: Table<'a>,
    index: u16,
    file: &'a WebhookFile,
}

/// The webhooks of an app by their numbers. Errors: a value that is none, what does not fit together, the same twice.
pub(super) fn webhooks(
    app: Table<'_>,
    files: &BTreeMap<String, WebhookFile>,
    has_redis: bool,
    notes: &mut Vec<Note>,
) -> Result<Vec<Arc<Webhook>>, ConfigError> {
    let mut webhooks: Vec<Arc<Webhook>> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for (index, file) in numbered(files) {
        let written = Written { app, index, file };
        if files.len() > COUNT_MAX {
            return Err(written.mistake("", WebhookMistake::TooMany { count: files.len() }));
        }
        let webhook = written.webhook(has_redis, notes)?;
        let place = written.place("");
        let twice = webhooks.iter().position(|other| other.id == webhook.id);
        if let Some(first) = twice.and_then(|at| names.get(at)).cloned() {
            return Err(ConfigError::Webhook { place, source: WebhookMistake::Twice { first } });
        }
        webhooks.push(Arc::new(webhook));
        names.push(place.key);
    }
    Ok(webhooks)
}

/// By number, not by digits: 10 comes after 9.
pub(super) fn numbered(files: &BTreeMap<String, WebhookFile>) -> BTreeMap<u16, &WebhookFile> {
    files.iter().filter_map(|(index, file)| Some((index.parse().ok()?, file))).collect()
}

/// Makes the paths of `ca` those of the working directory `dir`, notes them, and sees whether they can be used.
/// Blocks. Errors: [`ConfigError::Tls`].
pub(super) fn read_authorities(
    apps: &mut [App],
    written: &[LayeredApp],
    dir: &Path,
    files: &mut Files,
) -> Result<(), ConfigError> {
    for (app, written) in apps.iter_mut().zip(written) {
        for (webhook, index) in app.webhooks.iter_mut().zip(numbered(&written.app.webhooks).into_keys()) {
            let Carrier::Http(HttpTarget { ca: Some(_), .. }) = webhook.carrier else { continue };
            let Carrier::Http(HttpTarget { ca: Some(ca), .. }) = &mut Arc::make_mut(webhook).carrier else {
                continue;
            };
            *ca = dir.join(&*ca);
            files.note(ca);
            drop(TlsClient::load(&format!("{}.webhooks.{index}", written.table), Some(ca), None)?);
        }
    }
    Ok(())
}

impl Written<'_> {
    /// A key of it as its app's table has it: `webhooks.0.url`.
    fn key(&self, name: &str) -> String {
        let index = self.index;
        if name.is_empty() { format!("webhooks.{index}") } else { format!("webhooks.{index}.{name}") }
    }

    fn place(&self, name: &str) -> Place {
        self.app.at(&self.key(name))
    }

    fn mistake(&self, name: &str, source: impl Into<WebhookMistake>) -> ConfigError {
        ConfigError::Webhook { place: self.place(name), source: source.into() }
    }

    fn webhook(&self, has_redis: bool, notes: &mut Vec<Note>) -> Result<Webhook, ConfigError> {
        let LaravelQueueFile { job, queue, prefix, redis } = &self.file.laravel_queue;
        let of_queue = [("job", job.is_some()), ("queue", queue.is_some())];
        let of_redis = [("prefix", prefix.is_some()), ("redis", redis.is_some())];
        let first = of_queue.into_iter().chain(of_redis).find(|(_, is_written)| *is_written);
        let carrier = match (&self.file.url, first) {
            (Some(url), None) => Carrier::Http(self.http(url)?),
            (None, Some(_)) => Carrier::LaravelQueue(self.queue(has_redis, notes)?),
            (Some(_), Some((name, _))) => {
                let second = self.place(&format!("laravel_queue.{name}"));
                return Err(ConfigError::Exclusive { first: self.place("url"), second });
            }
            (None, None) => {
                let hint = ": a webhook needs a url, or a laravel_queue with a job".to_owned();
                return Err(ConfigError::Missing { key: self.place("url").key, hint });
            }
        };
        Ok(Webhook::new(self.target()?, carrier))
    }

    fn target(&self) -> Result<Target, ConfigError> {
        let file = self.file;
        let events = match &file.events {
            Some(words) => self.events(words)?,
            None => EventKinds::default(),
        };
        let words: Vec<_> = events.iter().map(|kind| kind.word()).collect();
        self.app.note(&self.key("events"), words);
        let prefix = self.filter("filter.prefix", file.filter.prefix.as_ref())?;
        let suffix = self.filter("filter.suffix", file.filter.suffix.as_ref())?;
        let filter = Filter::new(&prefix, &suffix).map_err(|error| self.mistake("filter.prefix", error))?;
        Ok(Target { events, filter, batching: self.batching()? })
    }

    fn events(&self, words: &List) -> Result<EventKinds, ConfigError> {
        let words = self.app.texts(&self.key("events"), words)?;
        EventKinds::parse(words.iter().map(String::as_str)).map_err(|error| self.mistake("events", error))
    }

    fn filter(&self, name: &str, written: Option<&Scalar>) -> Result<String, ConfigError> {
        let text = self.text(name, written)?.unwrap_or_default();
        Filter::check(&text).map_err(|error| self.mistake(name, error))?;
        self.app.note(&self.key(name), text.as_str());
        Ok(text)
    }

    fn batching(&self) -> Result<Batching, ConfigError> {
        let (wait, events) = (self.file.batch_milliseconds.as_ref(), self.file.batch_events.as_ref());
        let most = |most: usize| u32::try_from(most).unwrap_or(u32::MAX);
        let waits: RangeInclusive<u32> =
            0..=u32::try_from(Batching::WAIT_MAX.as_millis()).unwrap_or(u32::MAX);
        let wait = self.app.whole(&self.key("batch_milliseconds"), wait, 0, waits)?;
        let counts = 1..=most(Batching::EVENTS_MAX);
        let events = self.app.whole(&self.key("batch_events"), events, BATCH_EVENTS, counts)?;
        Batching::new(wait.into(), events.into()).map_err(|error| self.mistake("batch_events", error))
    }

    fn http(&self, url: &Secret) -> Result<HttpTarget, ConfigError> {
        let text = redis::resolve::secret(self.app, &self.key("url"), Some(url))?.unwrap_or_default();
        let url = TargetUrl::parse(&text).map_err(|error| self.mistake("url", error))?;
        let query = if url.path_and_query().contains('?') { format!("?{HIDDEN}") } else { String::new() };
        self.app.note(&self.key("url"), format!("{url}{query}"));
        let headers = self.headers()?;
        let names = headers.iter().map(|(name, _)| (name.to_owned(), Json::from(HIDDEN))).collect();
        self.app.note(&self.key("headers"), Json::Object(names));
        let ca = self.ca()?;
        if ca.is_some() && !url.is_https() {
            return Err(self.mistake("ca", WebhookMistake::WithoutTls));
        }
        Ok(HttpTarget { url, headers, ca, refuses_private: self.refuses_private()? })
    }

    fn headers(&self) -> Result<ExtraHeaders, ConfigError> {
        let Some(Secret(written)) = &self.file.headers else { return Ok(ExtraHeaders::default()) };
        let object = if let Scalar::Text(text) = written { serde_json::from_str(text).ok() } else { None };
        let object: BTreeMap<String, Json> =
            object.ok_or_else(|| self.mistake("headers", WebhookMistake::Headers))?;
        let mut headers = Vec::new();
        for (name, value) in object {
            // A token may be all digits.
            let value = match value {
                Json::String(text) => text,
                Json::Number(number) if number.is_i64() => number.to_string(),
                Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => {
                    return Err(self.mistake("headers", WebhookMistake::HeaderValue { name }));
                }
            };
            headers.push((name, value));
        }
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        ExtraHeaders::parse(headers).map_err(|error| self.mistake("headers", error))
    }

    fn ca(&self) -> Result<Option<PathBuf>, ConfigError> {
        let text = self.text("ca", self.file.ca.as_ref())?.filter(|text| !text.trim().is_empty());
        self.app.note(&self.key("ca"), text.clone());
        Ok(text.map(PathBuf::from))
    }

    fn refuses_private(&self) -> Result<bool, ConfigError> {
        let name = "refuse_private_addresses";
        self.app.boolean(&self.key(name), self.file.refuse_private_addresses.as_ref(), false)
    }

    fn queue(&self, has_redis: bool, notes: &mut Vec<Note>) -> Result<LaravelQueue, ConfigError> {
        let of_requests = [
            ("headers", self.headers()?.iter().next().is_some()),
            ("ca", self.ca()?.is_some()),
            ("refuse_private_addresses", self.refuses_private()?),
        ];
        if let Some((name, _)) = of_requests.into_iter().find(|(_, is_asked)| *is_asked) {
            return Err(self.mistake(name, WebhookMistake::OfRequests));
        }
        let file = &self.file.laravel_queue;
        let Some(job) = self.text("laravel_queue.job", file.job.as_ref())? else {
            let hint = ": the class that Laravel's workers run, as \"App\\\\Jobs\\\\PusherWebhook@handle\"";
            let key = self.place("laravel_queue.job").key;
            return Err(ConfigError::Missing { key, hint: hint.to_owned() });
        };
        let job = JobName::parse(&job).map_err(|error| self.mistake("laravel_queue.job", error))?;
        let queue = self.text("laravel_queue.queue", file.queue.as_ref())?.unwrap_or(QUEUE.to_owned());
        let prefix = self.text("laravel_queue.prefix", file.prefix.as_ref())?;
        let is_guessed = prefix.is_none();
        let prefix = prefix.unwrap_or(PREFIX.to_owned());
        let keys = QueueKeys::new(&prefix, &queue, false).map_err(|error| {
            let is_prefix = matches!(error, LaravelQueueError::Prefix);
            self.mistake(if is_prefix { "laravel_queue.prefix" } else { "laravel_queue.queue" }, error)
        })?;
        if is_guessed {
            notes.push(Note::warning(format!(
                "{} is not written: jobs go to {}, but Laravel's workers take them from the list that begins with \
                 redis.options.prefix of config/database.php, in newer apps laravel-database-; write that",
                self.place("laravel_queue.prefix").key,
                keys.jobs
            )));
        }
        self.app.note(&self.key("laravel_queue.queue"), queue.as_str());
        self.app.note(&self.key("laravel_queue.prefix"), prefix.as_str());
        let redis = self.redis(has_redis)?;
        Ok(LaravelQueue { job, queue: queue.into(), prefix: prefix.into(), redis })
    }

    /// The URL that is written; `None`: the nodes' Redis will do.
    fn redis(&self, has_redis: bool) -> Result<Option<Arc<str>>, ConfigError> {
        let key = self.key("laravel_queue.redis");
        let text = redis::resolve::secret(self.app, &key, self.file.laravel_queue.redis.as_ref())?;
        match text.filter(|text| !text.trim().is_empty()) {
            Some(text) => {
                drop(redis::resolve::url(self.app, &key, &text)?);
                Ok(Some(text.trim().into()))
            }
            None if has_redis => Ok(None),
            None => Err(self.mistake("laravel_queue", WebhookMistake::NoRedis)),
        }
    }

    fn text(&self, name: &str, written: Option<&Scalar>) -> Result<Option<String>, ConfigError> {
        written.map(|written| self.app.text(&self.key(name), written).map(Into::into)).transpose()
    }
}
