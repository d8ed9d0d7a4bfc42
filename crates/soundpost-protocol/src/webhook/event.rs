//! The events that webhooks tell of, and the body they are sent in.
//!
//! Source: Pusher docs, "Webhooks", "Events"; for `cache_miss` "Cache channels", for `subscription_count`
//! "Events", "Subscription count".

mod id;

use std::borrow::Cow;

use bytes::Bytes;

pub use id::EventId;

use crate::{channel::ChannelName, json, presence::UserId, socket_id::SocketId};

/// Bytes an event takes beside its names and its data, with room to spare.
const ENVELOPE_BYTES: usize = 128;

/// What an event tells: the word in its `name`, which is also the word in a webhook's `events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKind {
    /// `channel_occupied`: the first subscriber has come.
    ChannelOccupied,
    /// `channel_vacated`: the last subscriber has gone.
    ChannelVacated,
    /// `member_added`: a user has come to a presence channel.
    MemberAdded,
    /// `member_removed`: a user has left a presence channel.
    MemberRemoved,
    /// `client_event`: a client event was accepted.
    ClientEvent,
    /// `cache_miss`: a subscriber of a cache channel found no event there.
    CacheMiss,
    /// `subscription_count`: there are so many subscribers now.
    SubscriptionCount,
}

impl EventKind {
    /// Every kind, in the order of declaration.
    pub const ALL: [Self; 7] = [
        Self::ChannelOccupied,
        Self::ChannelVacated,
        Self::MemberAdded,
        Self::MemberRemoved,
        Self::ClientEvent,
        Self::CacheMiss,
        Self::SubscriptionCount,
    ];

    /// Its name on the wire, in the configuration and in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ChannelOccupied => "channel_occupied",
            Self::ChannelVacated => "channel_vacated",
            Self::MemberAdded => "member_added",
            Self::MemberRemoved => "member_removed",
            Self::ClientEvent => "client_event",
            Self::CacheMiss => "cache_miss",
            Self::SubscriptionCount => "subscription_count",
        }
    }

    /// The kind of this name.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// Something that happened on a channel, as a webhook tells it.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// `{"name":"channel_occupied","channel":"c"}`
    ChannelOccupied,
    /// `{"name":"channel_vacated","channel":"c"}`
    ChannelVacated,
    /// `{"name":"member_added","channel":"presence-c","user_id":"42"}`; the id in its string form.
    MemberAdded(&'a UserId),
    /// `{"name":"member_removed","channel":"presence-c","user_id":"42"}`
    MemberRemoved(&'a UserId),
    /// `{"name":"client_event","channel":"presence-c","event":"client-x","data":"{\"on\":true}","socket_id":"1.2","user_id":"42"}`
    ClientEvent {
        /// The event's name.
        event: &'a str,
        /// JSON text in the form it arrived. A string goes on as it is, anything else as the string of its text; without
        /// data the string is empty.
        data: Option<&'a str>,
        /// Who sent it.
        socket_id: SocketId,
        /// The sender as a member; on presence channels only.
        user_id: Option<&'a UserId>,
    },
    /// `{"name":"cache_miss","channel":"cache-c"}`
    CacheMiss,
    /// `{"name":"subscription_count","channel":"c","subscription_count":3}`
    SubscriptionCount(u64),
}

impl Event<'_> {
    /// What it tells.
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::ChannelOccupied => EventKind::ChannelOccupied,
            Self::ChannelVacated => EventKind::ChannelVacated,
            Self::MemberAdded(_) => EventKind::MemberAdded,
            Self::MemberRemoved(_) => EventKind::MemberRemoved,
            Self::ClientEvent { .. } => EventKind::ClientEvent,
            Self::CacheMiss => EventKind::CacheMiss,
            Self::SubscriptionCount(_) => EventKind::SubscriptionCount,
        }
    }

    /// The event as it stands in the list of a body.
    ///
    /// At most about twice the bytes of the client's message: of what JSON lets stand in a string, a quote grows most.
    pub fn encode(&self, id: EventId, channel: &ChannelName) -> Encoded {
        let mut out = Vec::with_capacity(ENVELOPE_BYTES + channel.as_str().len() + self.data_bytes());
        out.extend_from_slice(br#"{"name":""#);
        out.extend_from_slice(self.kind().word().as_bytes());
        out.extend_from_slice(br#"","channel":""#);
        // A channel's name holds nothing that JSON would escape.
        out.extend_from_slice(channel.as_str().as_bytes());
        out.push(b'"');
        self.push_rest(&mut out);
        out.push(b'}');
        Encoded { id, kind: self.kind(), channel: channel.clone(), json: out.into() }
    }

    fn data_bytes(&self) -> usize {
        match self {
            Self::ClientEvent { event, data, .. } => event.len() + data.map_or(0, str::len) * 5 / 4,
            Self::MemberAdded(user_id) | Self::MemberRemoved(user_id) => user_id.as_str().len(),
            Self::ChannelOccupied | Self::ChannelVacated | Self::CacheMiss | Self::SubscriptionCount(_) => 0,
        }
    }

    /// What stands behind the channel.
    fn push_rest(&self, out: &mut Vec<u8>) {
        match self {
            Self::ChannelOccupied | Self::ChannelVacated | Self::CacheMiss => {}
            Self::MemberAdded(user_id) | Self::MemberRemoved(user_id) => push_user_id(out, user_id),
            Self::ClientEvent { event, data, socket_id, user_id } => {
                out.extend_from_slice(br#","event":"#);
                json::push_string(out, event);
                out.extend_from_slice(br#","data":"#);
                push_text(out, data.unwrap_or(r#""""#));
                out.extend_from_slice(format!(r#","socket_id":"{socket_id}""#).as_bytes());
                if let Some(user_id) = user_id {
                    push_user_id(out, user_id);
                }
            }
            Self::SubscriptionCount(count) => {
                out.extend_from_slice(format!(r#","subscription_count":{count}"#).as_bytes());
            }
        }
    }
}

fn push_user_id(out: &mut Vec<u8>, user_id: &UserId) {
    out.extend_from_slice(br#","user_id":"#);
    json::push_string(out, user_id.as_str());
}

/// Appends JSON text as a JSON string: a string as it is, anything else quoted.
fn push_text(out: &mut Vec<u8>, data: &str) {
    if data.starts_with('"') {
        out.extend_from_slice(readable(data).as_bytes());
    } else {
        json::push_string(out, data);
    }
}

/// A JSON string with `\ufffd` for each escape of half a surrogate pair. Such an escape is JSON, and stands for no
/// character: PHP and Redis' cjson refuse the whole text it stands in, so one client could make a batch unreadable.
fn readable(literal: &str) -> Cow<'_, str> {
    if !literal.contains("\\u") || serde_json::from_str::<Cow<'_, str>>(literal).is_ok() {
        return Cow::Borrowed(literal);
    }
    let mut out = String::with_capacity(literal.len());
    let mut rest = literal;
    while let Some((plain, escape)) = rest.split_once('\\') {
        let (written, is_half) = match unit(escape) {
            // One of the short ones, `\n` and kin, all ASCII.
            None => (1, false),
            Some(0xD800..0xDC00) => {
                let low = escape.get(5..).and_then(|next| next.strip_prefix('\\')).and_then(unit);
                if matches!(low, Some(0xDC00..0xE000)) { (11, false) } else { (5, true) }
            }
            Some(0xDC00..0xE000) => (5, true),
            Some(_) => (5, false),
        };
        out.push_str(plain);
        out.push('\\');
        out.push_str(if is_half { "ufffd" } else { escape.get(..written).unwrap_or_default() });
        rest = escape.get(written..).unwrap_or_default();
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The UTF-16 unit of a `uXXXX`.
fn unit(escape: &str) -> Option<u16> {
    u16::from_str_radix(escape.strip_prefix('u')?.get(..4)?, 16).ok()
}

/// An event that is written, with what decides about it. Cloning it copies no text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Which.
    pub id: EventId,
    /// What it tells.
    pub kind: EventKind,
    /// Where it happened: order is kept among the events of one channel.
    pub channel: ChannelName,
    /// The JSON object, as [`Event::encode`] has written it.
    pub json: Bytes,
}

/// `{"time_ms":1327078148132,"events":[{"name":"channel_occupied","channel":"orders"}]}`
///
/// `time_ms`: the Unix time at which the body was made, milliseconds. A body that is sent again is sent as it is.
pub fn body<'a>(time_ms: u64, events: impl IntoIterator<Item = &'a Encoded> + Clone) -> Bytes {
    let bytes: usize = events.clone().into_iter().map(|event| event.json.len() + 1).sum();
    let mut out = Vec::with_capacity(bytes + 48);
    out.extend_from_slice(format!(r#"{{"time_ms":{time_ms},"events":["#).as_bytes());
    for (at, event) in events.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&event.json);
    }
    out.extend_from_slice(b"]}");
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{app::Limits, presence::NodeId};
    use proptest::prelude::*;

    const ID: EventId = EventId { life: NodeId(0x2f), number: 26 };

    fn encoded(channel: &str, event: Event<'_>) -> Encoded {
        event.encode(ID, &ChannelName::parse(channel, &Limits::default()).unwrap())
    }

    fn client_event<'a>(data: Option<&'a str>, user_id: Option<&'a UserId>) -> Event<'a> {
        Event::ClientEvent { event: "client-x", data, socket_id: SocketId { left: 1, right: 2 }, user_id }
    }

    #[test]
    fn each_event_is_written_as_pusher_writes_it() {
        let zoe = UserId::from_text("Zo\"é");
        for (channel, event, expected) in [
            ("orders", Event::ChannelOccupied, r#"{"name":"channel_occupied","channel":"orders"}"#),
            ("orders", Event::ChannelVacated, r#"{"name":"channel_vacated","channel":"orders"}"#),
            (
                "presence-c",
                Event::MemberAdded(&zoe),
                r#"{"name":"member_added","channel":"presence-c","user_id":"Zo\"é"}"#,
            ),
            (
                "presence-c",
                Event::MemberRemoved(&zoe),
                r#"{"name":"member_removed","channel":"presence-c","user_id":"Zo\"é"}"#,
            ),
            (
                "private-c",
                client_event(Some(r#"{"on": true}"#), None),
                r#"{"name":"client_event","channel":"private-c","event":"client-x","data":"{\"on\": true}","socket_id":"1.2"}"#,
            ),
            (
                "presence-c",
                client_event(Some(r#""a\/b""#), Some(&zoe)),
                r#"{"name":"client_event","channel":"presence-c","event":"client-x","data":"a\/b","socket_id":"1.2","user_id":"Zo\"é"}"#,
            ),
            ("cache-c", Event::CacheMiss, r#"{"name":"cache_miss","channel":"cache-c"}"#),
            (
                "orders",
                Event::SubscriptionCount(3),
                r#"{"name":"subscription_count","channel":"orders","subscription_count":3}"#,
            ),
        ] {
            let encoded = encoded(channel, event);
            assert_eq!(encoded.json, expected);
            assert_eq!((encoded.kind, encoded.channel.as_str()), (event.kind(), channel));
        }
        let number: crate::presence::Member =
            crate::presence::Member::parse(r#"{"user_id":42}"#, &Limits::default()).unwrap();
        let added = encoded("presence-c", Event::MemberAdded(&number.user_id));
        assert_eq!(added.json, r#"{"name":"member_added","channel":"presence-c","user_id":"42"}"#);
    }

    #[test]
    fn data_is_a_text_whatever_it_was() {
        for (data, text) in [
            (None, r#""""#),
            (Some("null"), r#""null""#),
            (Some("1.0"), r#""1.0""#),
            (Some("[1,\n2]"), r#""[1,\n2]""#),
            (Some(r#""\u007b\"\\u""#), r#""\u007b\"\\u""#),
            (Some(r#""\ud83d\ude00""#), r#""\ud83d\ude00""#),
            // Half a pair stands for no character.
            (Some(r#""a\ud83db""#), r#""a\ufffdb""#),
            (Some(r#""\uDE00\uD83D\n""#), r#""\ufffd\ufffd\n""#),
            (Some(r#""\ud83d\ud83d\ude00é""#), r#""\ufffd\ud83d\ude00é""#),
            (Some(r#""\\ud83d\ud83d""#), r#""\\ud83d\ufffd""#),
            // Inside an object it is text of the text.
            (Some(r#"{"a":"\ud83d"}"#), r#""{\"a\":\"\\ud83d\"}""#),
        ] {
            let expected = format!(
                r#"{{"name":"client_event","channel":"private-c","event":"client-x","data":{text},"socket_id":"1.2"}}"#
            );
            assert_eq!(encoded("private-c", client_event(data, None)).json, expected);
        }
    }

    #[test]
    fn a_body_lists_its_events_in_order() {
        let (occupied, miss) =
            (encoded("cache-a", Event::ChannelOccupied), encoded("cache-a", Event::CacheMiss));
        assert_eq!(body(0, []), r#"{"time_ms":0,"events":[]}"#);
        assert_eq!(
            body(1_327_078_148_132, [&occupied, &miss]),
            r#"{"time_ms":1327078148132,"events":[{"name":"channel_occupied","channel":"cache-a"},{"name":"cache_miss","channel":"cache-a"}]}"#
        );
    }

    #[test]
    fn words_name_kinds() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::of(kind.word()), Some(kind));
        }
        assert_eq!(EventKind::of("Channel_Occupied"), None);
    }

    proptest! {
        #[test]
        fn every_body_can_be_read(data in "\\PC{0,40}|(\\\\u(d8|dc|DF|00)[0-9]{2}|\\\\n|\\\\\\\\|é|x){0,12}", name in "\\PC{0,20}", as_string: bool) {
            let json = if as_string { format!("\"{data}\"") } else { json_of(&data) };
            prop_assume!(serde_json::from_str::<&serde_json::value::RawValue>(&json).is_ok());
            let event = Event::ClientEvent { event: &name, data: Some(&json), socket_id: SocketId { left: 1, right: 2 }, user_id: None };
            let body = body(1, [&encoded("private-c", event)]);
            let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(value["events"][0]["event"].as_str(), Some(&*name));
            prop_assert!(value["events"][0]["data"].is_string());
        }
    }

    /// An object with the text in it.
    fn json_of(text: &str) -> String {
        let mut out = br#"{"a":"#.to_vec();
        json::push_string(&mut out, text);
        out.push(b'}');
        String::from_utf8(out).unwrap()
    }
}
