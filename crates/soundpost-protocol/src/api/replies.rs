//! Bodies of the answers, each a JSON object: the PHP SDK takes nothing else, and nothing but status 200.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::json;
use crate::channel::ChannelName;

/// The answer to an event or a batch without `info`, and to `terminate_connections`.
pub const EMPTY: &str = "{}";

/// What is said about one channel; only what was asked for and applies.
/// Shape: `{"user_count":2,"subscription_count":3}`, `{}` if nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Distinct users of a presence channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_count: Option<u32>,
    /// Subscribed connections of the whole cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_count: Option<u32>,
}

/// What is said about the cached event of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache<'a> {
    /// It was not asked for, or the channel keeps none: no `cache` in the answer.
    Unasked,
    /// `"cache":null`
    Empty,
    /// `"cache":{"data":"…","ttl":60}`
    Event {
        /// Its payload as a JSON string literal.
        data: &'a str,
        /// Time it still has, seconds.
        ttl_seconds: u64,
    },
}

impl Cache<'_> {
    fn is_unasked(&self) -> bool {
        matches!(self, Self::Unasked)
    }
}

impl Serialize for Cache<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Event<'a> {
            data: &'a RawValue,
            ttl: u64,
        }
        match self {
            Self::Unasked | Self::Empty => serializer.serialize_none(),
            Self::Event { data, ttl_seconds } => {
                let data = serde_json::from_str(data).map_err(serde::ser::Error::custom)?;
                Event { data, ttl: *ttl_seconds }.serialize(serializer)
            }
        }
    }
}

/// `GET /channels`, and an event with `info`: `{"channels":{"presence-room.7":{"user_count":2},"private-x":{}}}`.
/// An object also without channels, since the PHP SDK asks it for its variables.
pub fn channels(channels: &[(ChannelName, Counts)]) -> String {
    struct ByName<'a>(&'a [(ChannelName, Counts)]);
    impl Serialize for ByName<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.iter().map(|(name, counts)| (name.as_str(), counts)))
        }
    }
    #[derive(Serialize)]
    struct Reply<'a> {
        channels: ByName<'a>,
    }
    json::write(&Reply { channels: ByName(channels) })
}

/// A batch in which some event has `info`: `{"batch":[{"subscription_count":3},{}]}`, one object for each event in its
/// place, the default one for an event without `info`.
pub fn batch(items: &[Counts]) -> String {
    #[derive(Serialize)]
    struct Reply<'a> {
        batch: &'a [Counts],
    }
    json::write(&Reply { batch: items })
}

/// `GET /channels/{name}`, also for a channel nobody ever named:
/// `{"occupied":true,"user_count":2,"subscription_count":3,"cache":{"data":"…","ttl":60}}`.
pub fn channel(occupied: bool, counts: Counts, cache: Cache<'_>) -> String {
    #[derive(Serialize)]
    struct Reply<'a> {
        occupied: bool,
        #[serde(flatten)]
        counts: Counts,
        #[serde(skip_serializing_if = "Cache::is_unasked")]
        cache: Cache<'a>,
    }
    json::write(&Reply { occupied, counts, cache })
}

/// `GET /channels/{name}/users`: `{"users":[{"id":"1"},{"id":"2"}]}`; ids are strings, whatever the client sent.
pub fn users<S: AsRef<str>>(ids: &[S]) -> String {
    #[derive(Serialize)]
    struct User<'a> {
        id: &'a str,
    }
    struct Users<'a, S>(&'a [S]);
    impl<T: AsRef<str>> Serialize for Users<'_, T> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(self.0.iter().map(|id| User { id: id.as_ref() }))
        }
    }
    #[derive(Serialize)]
    struct Reply<U> {
        users: U,
    }
    json::write(&Reply { users: Users(ids) })
}

/// `GET /connections`: `{"connections":12}`, all open connections of the app. Source: Reverb.
pub fn connections(connections: u64) -> String {
    #[derive(Serialize)]
    struct Reply {
        connections: u64,
    }
    json::write(&Reply { connections })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Limits;

    fn counts(user_count: Option<u32>, subscription_count: Option<u32>) -> Counts {
        Counts { user_count, subscription_count }
    }

    #[test]
    fn answers_have_the_documented_shapes() {
        let name = |text| ChannelName::parse(text, &Limits::default()).unwrap();
        let three = [
            (name("presence-room.7"), counts(Some(2), None)),
            (name("orders"), counts(None, Some(3))),
            (name("private-x"), counts(None, None)),
        ];
        let data = r#""{\"a\":\u0031}""#;
        let event = Cache::Event { data, ttl_seconds: 60 };
        let none = Counts::default();
        for (reply, expected) in [
            (
                channels(&three),
                r#"{"channels":{"presence-room.7":{"user_count":2},"orders":{"subscription_count":3},"private-x":{}}}"#,
            ),
            (channels(&[]), r#"{"channels":{}}"#),
            (batch(&[counts(None, Some(3)), none]), r#"{"batch":[{"subscription_count":3},{}]}"#),
            (channel(false, none, Cache::Unasked), r#"{"occupied":false}"#),
            (
                channel(true, counts(Some(2), Some(3)), Cache::Unasked),
                r#"{"occupied":true,"user_count":2,"subscription_count":3}"#,
            ),
            (channel(true, none, Cache::Empty), r#"{"occupied":true,"cache":null}"#),
            (channel(true, none, event), r#"{"occupied":true,"cache":{"data":"{\"a\":\u0031}","ttl":60}}"#),
            (users(&["1", "a\"b"]), r#"{"users":[{"id":"1"},{"id":"a\"b"}]}"#),
            (users::<&str>(&[]), r#"{"users":[]}"#),
            (connections(12), r#"{"connections":12}"#),
        ] {
            assert_eq!(reply, expected);
        }
    }
}
