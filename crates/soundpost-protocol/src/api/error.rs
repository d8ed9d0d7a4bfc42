//! Every refusal of the HTTP API. The body of the answer is the `Display` text: `text/plain`, one line, so that
//! Laravel's `Pusher error: <body>.` reads as a sentence.

use crate::{
    api::{Attribute, Outage, Wanted},
    app::{AppId, JSON_DEPTH_MAX},
    channel::{ChannelKind, ChannelNameError},
};

/// A refusal: [`status`](Self::status) and, as `Display`, one line that says what to change.
///
/// Texts quote at most an excerpt of what was sent, escaped, and never a secret or a signature that would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The query string holds more parameters than anything needs.
    #[error("query string has more than {parameters_max} parameters")]
    QueryTooLong {
        /// Parameters allowed.
        parameters_max: usize,
    },
    /// A parameter is given twice, and which one was meant nobody can say.
    #[error("query parameter {key:?} is given more than once; a list is written k[]=a&k[]=b")]
    QueryRepeated {
        /// Its name, at most an excerpt.
        key: String,
    },
    /// The query string is not UTF-8 once decoded.
    #[error("query string is not UTF-8 once decoded")]
    QueryNotUtf8,
    /// A path segment has a broken `%XX` or is not UTF-8 once decoded.
    #[error("path is not UTF-8 with well-formed %XX escapes")]
    Path,

    /// A parameter that signs the request is not there.
    #[error("{parameter} is missing from the query string; sign the request with the app's key and secret")]
    AuthMissing {
        /// Its name.
        parameter: &'static str,
    },
    /// Not the key of the app in the path.
    #[error("auth_key is not the key of app \"{app}\"; check the app's id and key")]
    AuthKey {
        /// The app in the path.
        app: AppId,
    },
    /// Not the one version there is.
    #[error("auth_version must be 1.0")]
    AuthVersion,
    /// Not a number of seconds.
    #[error("auth_timestamp must be a whole number of seconds since 1970")]
    TimestampFormat,
    /// Signed too long ago, or with a clock that runs ahead.
    #[error(
        "auth_timestamp is {seconds} s {side} the server's clock, more than {window_seconds} s; \
         set the clock of the machine that signs"
    )]
    TimestampWindow {
        /// Distance found, seconds.
        seconds: u64,
        /// `behind` or `ahead of`.
        side: &'static str,
        /// Distance allowed, seconds.
        window_seconds: u64,
    },
    /// Signed with another secret, or something else was signed.
    #[error("auth_signature is not the HMAC-SHA256 hex of {signed:?} under the app's secret")]
    Signature {
        /// What should have been signed, an excerpt.
        signed: String,
    },
    /// There is a body and nothing signs it.
    #[error("body_md5 is missing from the query string; it signs the body")]
    BodyDigestMissing,
    /// The body is not the one that was signed.
    #[error("body_md5 is not the lowercase hex MD5 of the body")]
    BodyDigest,
    /// The app is switched off in the configuration.
    #[error("app \"{app}\" is disabled")]
    AppDisabled {
        /// The app in the path.
        app: AppId,
    },

    /// No app has the id in the path.
    #[error("no app has the id {id:?}; check the app id")]
    UnknownApp {
        /// The id in the path; see [`excerpt`](ApiError::unknown_app).
        id: String,
    },
    /// No such path.
    #[error("there is nothing at this path")]
    UnknownPath,
    /// The path is known, the verb is not; the answer carries `Allow`.
    #[error("use {allow} on this path")]
    Method {
        /// The verbs of the path, as `Allow` has them.
        allow: &'static str,
    },
    /// The body did not arrive in time.
    #[error("request body did not arrive within {seconds} s")]
    BodyTimeout {
        /// Time allowed, seconds.
        seconds: u64,
    },
    /// The body broke off, or its chunks are none.
    #[error("request body is not complete: it broke off, or its chunks are malformed")]
    BodyBroken,
    /// The body is longer than the door reads.
    #[error("request body has {}, more than {bytes_max} ({setting})", body_size(*bytes))]
    BodyTooLarge {
        /// Bytes announced by `Content-Length`; `None` if reading stopped before the end was known.
        bytes: Option<u64>,
        /// Bytes allowed.
        bytes_max: usize,
        /// The setting that decides it: `event_data_bytes_max`, or what the operator set instead.
        setting: &'static str,
    },

    /// Bytes that are no text.
    #[error("request body is not UTF-8; the first {bytes_valid} bytes are")]
    BodyNotUtf8 {
        /// Where it breaks, bytes.
        bytes_valid: usize,
    },
    /// Arrays and objects too far inside one another.
    #[error("request body nests more than {JSON_DEPTH_MAX} arrays and objects")]
    TooDeep,
    /// Not JSON, or a field twice.
    #[error("not valid JSON: {detail}")]
    Json {
        /// What the parser found and where.
        detail: String,
    },
    /// JSON, but not an object.
    #[error("a JSON object is expected")]
    NotAnObject,
    /// A field that must be there is not.
    #[error("{field} is missing")]
    Missing {
        /// The field's name.
        field: &'static str,
    },
    /// A field of another type.
    #[error("{field} must be {expected}")]
    FieldType {
        /// The field's name.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// `name` is the empty string.
    #[error("name is empty")]
    NameEmpty,
    /// `name` is longer than the limit.
    #[error("name has {chars} characters, more than {chars_max} (event_name_chars_max)")]
    NameTooLong {
        /// Characters found.
        chars: usize,
        /// Characters allowed.
        chars_max: usize,
    },
    /// `name` is one that only the server may send.
    #[error("name starts with {}, which is reserved for the server's own events", prefix.as_str())]
    NameReserved {
        /// What it starts with.
        prefix: ReservedPrefix,
    },
    /// `channels` names none.
    #[error("channels is empty; name at least one")]
    ChannelsEmpty,
    /// `channels` names too many.
    #[error("channels has {channels} names, more than {channels_max}; send them in several requests")]
    ChannelsTooMany {
        /// Names found.
        channels: usize,
        /// Names allowed.
        channels_max: usize,
    },
    /// A name in `channels`, or `channel`, or the one in the path.
    #[error("{}{error}", index.map(|index| format!("channels[{index}]: ")).unwrap_or_default())]
    Channel {
        /// Which of `channels`, from 0; `None` if there is but one.
        index: Option<usize>,
        /// What is wrong with it.
        error: ChannelNameError,
    },
    /// `data` is larger than the app allows.
    #[error("data has {bytes} bytes, more than {bytes_max} (event_data_bytes_max)")]
    DataTooLarge {
        /// Bytes found, of the decoded string.
        bytes: usize,
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// `socket_id` is not two numbers and a dot.
    #[error("socket_id must be two numbers joined by a dot, such as 1234.5678")]
    SocketId,
    /// `info` asks for what does not exist.
    #[error("info asks for {attribute:?}; there are user_count, subscription_count and cache")]
    InfoUnknown {
        /// What it asks for, at most an excerpt.
        attribute: String,
    },
    /// `info` asks for what these channels do not have. Only with `strict_info`.
    #[error("info asks for {}, which only {} have", attribute.as_str(), attribute.holders())]
    InfoNotApplicable {
        /// What it asks for.
        attribute: Attribute,
    },
    /// The list of channels has no `cache`. Only with `strict_info`.
    #[error("info asks for cache, which the list of channels does not give; ask for one channel")]
    InfoNotListed,
    /// The users of a channel that has none.
    #[error("a {} channel has no users; only presence channels have", kind.word())]
    NotPresence {
        /// The kind that was asked.
        kind: ChannelKind,
    },
    /// `batch` holds too many events.
    #[error("batch has {items} events, more than {items_max}; send them in several requests")]
    BatchTooLong {
        /// Events found.
        items: usize,
        /// Events allowed.
        items_max: usize,
    },
    /// One event of a batch is refused, and so the whole batch.
    #[error("batch[{index}]: {error}")]
    Item {
        /// Which, from 0.
        index: usize,
        /// What is wrong with it.
        error: Box<ApiError>,
    },

    /// More requests than the app may send. The answer says when to try again.
    #[error("more than {per_second} requests a second (requests_per_second); try again in a second")]
    RateLimit {
        /// Requests allowed, a second.
        per_second: u32,
    },
    /// A queue of this node is full; nobody got the event.
    #[error("the server is over capacity; try again later")]
    OverCapacity,
    /// The node is one of several, and what joins them does not answer.
    #[error("{}", outage.told(*wanted))]
    Cluster {
        /// What is wrong with it.
        outage: Outage,
        /// What could not be done for want of it.
        wanted: Wanted,
    },
    /// A fault of ours, caught.
    #[error("internal server error")]
    ServerFault,
}

impl ApiError {
    /// The HTTP status, 400 to 503. No `_` arm: a new refusal does not compile without its own.
    pub fn status(&self) -> u16 {
        match self {
            Self::QueryTooLong { .. }
            | Self::QueryRepeated { .. }
            | Self::QueryNotUtf8
            | Self::Path
            | Self::BodyBroken
            | Self::BodyNotUtf8 { .. }
            | Self::TooDeep
            | Self::Json { .. }
            | Self::NotAnObject
            | Self::Missing { .. }
            | Self::FieldType { .. }
            | Self::NameEmpty
            | Self::NameTooLong { .. }
            | Self::NameReserved { .. }
            | Self::ChannelsEmpty
            | Self::ChannelsTooMany { .. }
            | Self::Channel { .. }
            | Self::SocketId
            | Self::InfoUnknown { .. }
            | Self::InfoNotApplicable { .. }
            | Self::InfoNotListed
            | Self::NotPresence { .. }
            | Self::BatchTooLong { .. } => 400,
            Self::AuthMissing { .. }
            | Self::AuthKey { .. }
            | Self::AuthVersion
            | Self::TimestampFormat
            | Self::TimestampWindow { .. }
            | Self::Signature { .. }
            | Self::BodyDigestMissing
            | Self::BodyDigest => 401,
            Self::AppDisabled { .. } => 403,
            Self::UnknownApp { .. } | Self::UnknownPath => 404,
            Self::Method { .. } => 405,
            Self::BodyTimeout { .. } => 408,
            Self::BodyTooLarge { .. } | Self::DataTooLarge { .. } => 413,
            Self::Item { error, .. } => error.status(),
            Self::RateLimit { .. } => 429,
            Self::ServerFault => 500,
            Self::OverCapacity | Self::Cluster { .. } => 503,
        }
    }

    /// What `Retry-After` says, seconds; `None` where a program that knows nothing of events should not send the same
    /// request again by itself.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        if let Self::Cluster { outage, wanted } = self {
            return outage.may_be_repeated(*wanted).then_some(1);
        }
        matches!(self, Self::RateLimit { .. }).then_some(1)
    }

    /// [`UnknownApp`](Self::UnknownApp) with an excerpt of the id in the path.
    pub fn unknown_app(id: &str) -> Self {
        Self::UnknownApp { id: excerpt(id, 60) }
    }
}

/// What the names of the server's own events start with. Source: Pusher docs, "Encrypted channels" and the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservedPrefix {
    /// `pusher:`
    Pusher,
    /// `pusher_internal:`
    PusherInternal,
}

impl ReservedPrefix {
    /// The one `name` starts with, if any.
    pub fn of(name: &str) -> Option<Self> {
        [Self::Pusher, Self::PusherInternal].into_iter().find(|prefix| name.starts_with(prefix.as_str()))
    }

    /// As it stands in names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pusher => "pusher:",
            Self::PusherInternal => "pusher_internal:",
        }
    }
}

fn body_size(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "too many bytes".to_owned(), |bytes| format!("{bytes} bytes"))
}

/// The first `chars_max` characters, with `…` where more follow: strangers choose how long their texts are.
pub(super) fn excerpt(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_door_refuses_has_its_status_and_one_line() {
        for (error, status, text) in [
            (ApiError::unknown_app("x\ny"), 404, r#"no app has the id "x\ny"; check the app id"#),
            (ApiError::UnknownPath, 404, "there is nothing at this path"),
            (ApiError::Method { allow: "POST" }, 405, "use POST on this path"),
            (
                ApiError::BodyBroken,
                400,
                "request body is not complete: it broke off, or its chunks are malformed",
            ),
            (ApiError::BodyTimeout { seconds: 10 }, 408, "request body did not arrive within 10 s"),
            (
                ApiError::BodyTooLarge {
                    bytes: Some(2_000_000),
                    bytes_max: 1_245_184,
                    setting: "event_data_bytes_max",
                },
                413,
                "request body has 2000000 bytes, more than 1245184 (event_data_bytes_max)",
            ),
            (
                ApiError::BodyTooLarge { bytes: None, bytes_max: 10_000, setting: "REVERB_MAX_REQUEST_SIZE" },
                413,
                "request body has too many bytes, more than 10000 (REVERB_MAX_REQUEST_SIZE)",
            ),
            (
                ApiError::QueryRepeated { key: "a\nb".to_owned() },
                400,
                r#"query parameter "a\nb" is given more than once; a list is written k[]=a&k[]=b"#,
            ),
            (
                ApiError::RateLimit { per_second: 5 },
                429,
                "more than 5 requests a second (requests_per_second); try again in a second",
            ),
            (ApiError::ServerFault, 500, "internal server error"),
            (ApiError::OverCapacity, 503, "the server is over capacity; try again later"),
            (
                ApiError::InfoNotApplicable { attribute: Attribute::UserCount },
                400,
                "info asks for user_count, which only presence channels have",
            ),
            (
                ApiError::InfoNotListed,
                400,
                "info asks for cache, which the list of channels does not give; ask for one channel",
            ),
        ] {
            assert_eq!((error.status(), error.to_string().as_str()), (status, text));
        }
    }

    #[test]
    fn strangers_are_quoted_in_excerpts() {
        assert_eq!(excerpt("héllo", 5), "héllo");
        assert_eq!(excerpt("héllo", 2), "hé…");
        assert!(ApiError::unknown_app(&"x".repeat(10_000)).to_string().len() < 200);
    }
}
