//! An app: who may publish and connect under one key, and within which limits.

mod changes;

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::{
    channel::ChannelName,
    webhook::{Webhook, event::EventKind},
};

/// The id of an app as it stands in HTTP API paths: `/apps/{id}/events`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppId(Arc<str>);

/// The public key of an app as it stands in `/app/{key}` and before the `:` of auth strings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppKey(Arc<str>);

/// Why a text cannot be an app's id or key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppNameError {
    /// Nothing was given.
    #[error("is empty")]
    Empty,
    /// A character that cannot stand in a path segment as it is, or the `:` that ends a key in auth strings.
    #[error("contains {found:?}; allowed are A-Z a-z 0-9 and . _ ~ -")]
    Character {
        /// The first such character.
        found: char,
    },
    /// Longer than any path should be.
    #[error("has {chars} characters, more than 200")]
    TooLong {
        /// Characters found.
        chars: usize,
    },
}

/// Ids and keys stand in URLs, so they hold only what needs no escape there: `A-Z a-z 0-9 . _ ~ -`, 1 to 200 of them.
fn checked(text: &str) -> Result<Arc<str>, AppNameError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._~-".contains(c);
    match text.chars().find(|c| !allowed(*c)) {
        Some(found) => Err(AppNameError::Character { found }),
        None if text.is_empty() => Err(AppNameError::Empty),
        None if text.len() > 200 => Err(AppNameError::TooLong { chars: text.len() }),
        None => Ok(text.into()),
    }
}

impl AppId {
    /// Checks `text` once. Errors: [`AppNameError`].
    pub fn parse(text: &str) -> Result<Self, AppNameError> {
        checked(text).map(Self)
    }

    /// The id as it stands in paths.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AppKey {
    /// Checks `text` once. Errors: [`AppNameError`].
    pub fn parse(text: &str) -> Result<Self, AppNameError> {
        checked(text).map(Self)
    }

    /// The key as it stands in paths and auth strings.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for AppKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An app's secret, kept only as the prepared state of HMAC-SHA256: it signs and verifies and cannot be read back.
#[derive(Clone)]
pub struct AppSecret(Hmac<Sha256>);

impl AppSecret {
    /// Takes any text, even an empty one; what is too weak to use is for configuration to say.
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    pub fn new(text: &str) -> Self {
        Self(Hmac::new_from_slice(text.as_bytes()).expect("HMAC takes a key of any length"))
    }

    /// Whether both are made of the same text; constant in time.
    pub fn is_same(&self, other: &Self) -> bool {
        let signed: &[&[u8]] = &[b"which secret is this"];
        self.mac(signed).verify(&other.mac(signed).finalize().into_bytes()).is_ok()
    }

    /// The MAC over the parts, one after the other with nothing between.
    pub(crate) fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac
    }
}

/// Prints nothing, so that no derived `Debug` around it can leak it.
impl fmt::Debug for AppSecret {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

/// Who may send client events. Source: Reverb's `accept_client_events_from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientEvents {
    /// Only connections subscribed to the channel; Pusher's rule.
    Members,
    /// Any connection of the app, subscribed or not.
    All,
    /// Nobody.
    None,
}

/// Reverb's `rate_limiting`: how many messages of any kind a connection may send in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageRate {
    /// Messages in one window, pings and pongs not counted.
    pub messages_max: NonZeroU32,
    /// Length of the window.
    pub window: Duration,
    /// Close with 4100 instead of refusing each message with 4301.
    pub terminate: bool,
}

/// From which pages browsers may connect: entries match the host of the `Origin` header, `*` standing for any run.
/// Source: Reverb's `allowed_origins`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origins(Vec<String>);

impl Origins {
    /// The entries as written; one that is `*` alone switches the check off.
    pub fn new(entries: Vec<String>) -> Self {
        Self(entries)
    }

    /// Whether a connection with this `Origin` header may open; without the header only where any origin may.
    pub fn allow(&self, origin: Option<&str>) -> bool {
        if self.0.iter().any(|entry| entry == "*") {
            return true;
        }
        origin.map(host_of).is_some_and(|host| self.0.iter().any(|entry| matches(entry, host)))
    }
}

/// `https://app.test:8080` gives `app.test`; what has no scheme is taken as a host.
fn host_of(origin: &str) -> &str {
    let rest = origin.split_once("://").map_or(origin, |(_, rest)| rest);
    let rest = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    match rest.rsplit_once(':') {
        // The brackets of an IPv6 address hold colons of their own.
        Some((host, port)) if !port.contains(']') => host,
        _ => rest,
    }
}

/// Whether `text` is `pattern` with every `*` standing for any run of characters, upper and lower case alike.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

/// Bounds on what strangers send, each with the name it has in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Inbound WebSocket message, bytes; above it the connection closes with 1009.
    pub message_bytes_max: usize,
    /// Decoded `data` of an event, bytes.
    pub event_data_bytes_max: usize,
    /// Channel name with its prefix, characters.
    pub channel_name_chars_max: usize,
    /// Event name, characters.
    pub event_name_chars_max: usize,
    /// Presence user id in its string form, characters.
    pub user_id_chars_max: usize,
    /// Presence user info as JSON text, bytes.
    pub user_info_bytes_max: usize,
    /// Distinct users of one presence channel; `None`: no limit.
    pub presence_members_max: Option<NonZeroU32>,
    /// Channels one connection may hold; `None`: no limit.
    pub channels_per_connection_max: Option<NonZeroU32>,
}

/// Arrays and objects inside one another in any JSON a stranger sends; deeper text is refused before it is parsed.
pub const JSON_DEPTH_MAX: usize = 128;

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 10_000,
            event_data_bytes_max: 102_400,
            channel_name_chars_max: 200,
            event_name_chars_max: 200,
            user_id_chars_max: 128,
            user_info_bytes_max: 2048,
            presence_members_max: None,
            channels_per_connection_max: NonZeroU32::new(1000),
        }
    }
}

/// Everything the protocol asks about an app. Built from configuration, never changed while in use.
#[derive(Clone, Debug)]
pub struct App {
    /// Names the app in HTTP API paths.
    pub id: AppId,
    /// Names the app to clients.
    pub key: AppKey,
    /// Signs and verifies.
    pub secret: AppSecret,
    /// Verifies beside [`Self::secret`], while a secret is being replaced, and signs nothing.
    pub previous_secret: Option<AppSecret>,
    /// A disabled app refuses connections (4003) and the HTTP API (403).
    pub enabled: bool,
    /// Refuse plain sockets (4000).
    pub tls_only: bool,
    /// Who may send client events.
    pub client_events: ClientEvents,
    /// Client events a second for one connection, with a burst of as many; `None`: no limit.
    pub client_events_per_second: Option<NonZeroU32>,
    /// Relay client events on public channels too.
    pub client_events_on_public: bool,
    /// Reverb's limit over all messages; `None`: off.
    pub message_rate: Option<MessageRate>,
    /// Pages that may connect.
    pub allowed_origins: Origins,
    /// HTTP API requests a second, with a burst of as many; `None`: no limit (429 above it).
    pub requests_per_second: Option<NonZeroU32>,
    /// Open connections; `None`: no limit (4004 above it).
    pub connections_max: Option<NonZeroU32>,
    /// What the greeting advertises; a whole number of seconds, never zero.
    pub activity_timeout: Duration,
    /// Silence after which the server pings.
    pub ping_interval: Duration,
    /// Silence after that ping until the connection closes with 4201.
    pub pong_timeout: Duration,
    /// A connection must be signed in or on a channel that needs a signature so long after it opened; `None`: never.
    pub authorized_timeout: Option<Duration>,
    /// Tell users who is online of those they watch.
    pub watchlists: bool,
    /// Tell subscribers how many they are, except on presence channels.
    pub subscription_count: bool,
    /// Ending a user's connections includes those that only are on presence channels as that user.
    pub terminate_presence: bool,
    /// A user who has left a presence channel and comes back within this time was never gone; zero: off.
    pub presence_leave_hold: Duration,
    /// How long a cache channel keeps its last event.
    pub cache_ttl: Duration,
    /// Bytes of the events that all cache channels of the app keep together.
    pub cache_bytes_max: usize,
    /// Largest distance of `auth_timestamp` from the server's clock; `None`: not checked.
    pub timestamp_window: Option<Duration>,
    /// Answer 400 to an `info` attribute that does not apply, as Pusher does, instead of leaving it out.
    pub strict_info: bool,
    /// Who is told by webhooks of what happens in the app's channels.
    pub webhooks: Vec<Arc<Webhook>>,
    /// Bounds on what is sent.
    pub limits: Limits,
}

impl App {
    /// An app with the defaults of `docs/configuration.md`.
    pub fn new(id: AppId, key: AppKey, secret: AppSecret) -> Self {
        Self {
            id,
            key,
            secret,
            previous_secret: None,
            enabled: true,
            tls_only: false,
            client_events: ClientEvents::Members,
            client_events_per_second: NonZeroU32::new(10),
            client_events_on_public: false,
            message_rate: None,
            allowed_origins: Origins::new(vec!["*".to_owned()]),
            requests_per_second: None,
            connections_max: None,
            activity_timeout: Duration::from_secs(30),
            ping_interval: Duration::from_secs(60),
            pong_timeout: Duration::from_secs(30),
            authorized_timeout: None,
            watchlists: true,
            subscription_count: false,
            terminate_presence: true,
            presence_leave_hold: Duration::ZERO,
            cache_ttl: Duration::from_secs(1800),
            cache_bytes_max: 64 << 20,
            timestamp_window: Some(Duration::from_secs(600)),
            strict_info: false,
            webhooks: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// Whether any webhook wants to be told events of this kind of this channel.
    pub fn tells(&self, kind: EventKind, channel: &ChannelName) -> bool {
        self.webhooks.iter().any(|webhook| webhook.target.wants(kind, channel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_match_by_host_with_wildcards() {
        for (entries, origin, expected) in [
            (&["*"][..], None, true),
            (&["app.test"], None, false),
            (&["app.test"], Some("https://app.test"), true),
            (&["app.test"], Some("http://app.test:5173"), true),
            (&["app.test"], Some("https://APP.test"), true),
            (&["app.test"], Some("https://app.test.evil.com"), false),
            (&["app.test"], Some("https://evil.com/app.test"), false),
            (&["app.test"], Some("null"), false),
            (&["*.app.test"], Some("https://a.b.app.test"), true),
            (&["*.app.test"], Some("https://app.test"), false),
            (&["a*b*c"], Some("https://a--b--c"), true),
            (&["a*a"], Some("https://a"), false),
            (&["a**a"], Some("https://aa"), true),
            (&["[::1]"], Some("http://[::1]:3000"), true),
            (&["x", "app.test"], Some("https://app.test"), true),
            (&[], Some("https://app.test"), false),
        ] {
            let origins = Origins::new(entries.iter().map(|e| (*e).to_owned()).collect());
            assert_eq!(origins.allow(origin), expected, "{entries:?} {origin:?}");
        }
    }

    #[test]
    fn ids_and_keys_hold_only_what_a_path_segment_can() {
        assert_eq!(AppId::parse("my-app.1_~").unwrap().as_str(), "my-app.1_~");
        assert_eq!(AppKey::parse("a:b"), Err(AppNameError::Character { found: ':' }));
        assert_eq!(AppKey::parse("a/b"), Err(AppNameError::Character { found: '/' }));
        assert_eq!(AppId::parse(""), Err(AppNameError::Empty));
        assert_eq!(AppId::parse(&"a".repeat(201)), Err(AppNameError::TooLong { chars: 201 }));
    }

    #[test]
    fn secrets_are_told_apart_unread() {
        let [one, same, other] = ["one", "one", "other"].map(AppSecret::new);
        assert!(one.is_same(&same) && !one.is_same(&other) && !AppSecret::new("").is_same(&one));
    }

    #[test]
    fn a_secret_prints_nothing() {
        assert_eq!(format!("{:?}", AppSecret::new("hush")), "");
    }
}
