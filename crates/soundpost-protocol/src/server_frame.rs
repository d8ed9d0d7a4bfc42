//! What the server sends: each event of the protocol as a ready WebSocket frame.
//!
//! `data` is JSON inside a JSON string, except for `pusher:error`, `pusher:subscription_error` (objects, as Pusher
//! documents them) and client events (in the form they arrived). Source: Pusher protocol, "Double encoding".

use std::sync::LazyLock;

use serde::Serialize;

use crate::{
    channel::{ChannelName, ChannelNameError},
    close::{CloseReason, Refusal},
    json::{push, push_string},
    presence::{Member, MemberError, Roster, UserId},
    socket_id::SocketId,
    websocket::Frame,
};

/// Bytes a frame holds beside its names and data, with room to spare.
const ENVELOPE_BYTES: usize = 80;

/// `{"event":"pusher:connection_established","data":"{\"socket_id\":\"1.2\",\"activity_timeout\":30}"}`
///
/// `activity_timeout`: seconds, never 0; without it pusher-js does not connect.
pub fn connection_established(socket_id: SocketId, activity_timeout: u64) -> Frame {
    let data = format!(r#"{{"socket_id":"{socket_id}","activity_timeout":{activity_timeout}}}"#);
    internal("pusher:connection_established", None, &data)
}

/// `{"event":"pusher:pong","data":"{}"}`
pub fn pong() -> Frame {
    static FRAME: LazyLock<Frame> = LazyLock::new(|| internal("pusher:pong", None, "{}"));
    FRAME.clone()
}

/// `{"event":"pusher:ping","data":"{}"}`
pub fn ping() -> Frame {
    static FRAME: LazyLock<Frame> = LazyLock::new(|| internal("pusher:ping", None, "{}"));
    FRAME.clone()
}

/// The `pusher:error` that says why the connection now closes.
pub fn closing(reason: CloseReason) -> Frame {
    let (code, message) = reason.wire();
    error(code, message, None)
}

/// The `pusher:error` that says why a message was refused; the connection stays. `channel`: as the client sent it.
pub fn refusal(refusal: &Refusal, channel: Option<&str>) -> Frame {
    let (code, message) = refusal.wire();
    error(code, message, channel)
}

/// `{"event":"pusher:error","data":{"code":4009,"message":"…"}}`, with `channel` beside `data` where it is about one.
fn error(code: u16, message: &str, channel: Option<&str>) -> Frame {
    #[derive(Serialize)]
    struct ErrorData<'a> {
        code: u16,
        message: &'a str,
    }
    let channel_bytes = channel.map_or(0, str::len);
    Frame::text(ENVELOPE_BYTES + message.len() + channel_bytes, |out| {
        open(out, "pusher:error", channel);
        push(out, &ErrorData { code, message });
        out.push(b'}');
    })
}

/// Why a subscription was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscriptionFailure {
    /// The signature is not good, or a presence channel came without `channel_data`.
    Unauthorized,
    /// The name is none.
    Name(ChannelNameError),
    /// The signed `channel_data` describes no member.
    Member(MemberError),
    /// The connection is already on this presence channel as somebody else.
    OtherUser,
    /// The channel has as many users as it may.
    MembersMax(u32),
    /// The connection has as many channels as it may.
    ChannelsMax(u32),
    /// The server has too much to do; try again.
    Busy,
}

impl SubscriptionFailure {
    /// `type`, `status` and `error` of the `pusher:subscription_error`; code of the `pusher:error` behind it.
    fn wire(&self) -> (&'static str, u16, String, u16) {
        match self {
            Self::Unauthorized => ("AuthError", 401, "The connection is unauthorized.".to_owned(), 4009),
            Self::Name(error) => ("InvalidChannelName", 400, error.to_string(), 4200),
            Self::Member(error) => ("AuthError", 401, error.to_string(), 4009),
            Self::OtherUser => {
                let text = "The connection is already subscribed to this channel as another user.";
                ("AuthError", 401, text.to_owned(), 4009)
            }
            Self::MembersMax(max) => {
                ("LimitReached", 4100, format!("The channel has {max} members (presence_members_max)."), 4100)
            }
            Self::ChannelsMax(max) => {
                let text = format!("The connection has {max} channels (channels_per_connection_max).");
                ("LimitReached", 4100, text, 4100)
            }
            Self::Busy => ("ServerError", 503, "The server is busy, try again.".to_owned(), 4100),
        }
    }

    /// Both frames that tell the client, in their order: Echo's `.error()` hears the first, older clients the second.
    /// `channel`: as the client sent it.
    pub fn frames(&self, channel: &str) -> [Frame; 2] {
        #[derive(Serialize)]
        struct FailureData<'a> {
            r#type: &'a str,
            error: &'a str,
            status: u16,
        }
        let (kind, status, text, code) = self.wire();
        let failed = Frame::text(ENVELOPE_BYTES + text.len() + channel.len(), |out| {
            open(out, "pusher:subscription_error", Some(channel));
            push(out, &FailureData { r#type: kind, error: &text, status });
            out.push(b'}');
        });
        let unauthorized = *self == Self::Unauthorized;
        let message = if unauthorized { Refusal::Unauthorized.wire().1 } else { &text };
        [failed, error(code, message, Some(channel))]
    }
}

/// `{"event":"pusher_internal:subscription_succeeded","channel":"orders","data":"{}"}`
pub fn subscription_succeeded(channel: &ChannelName) -> Frame {
    internal("pusher_internal:subscription_succeeded", Some(channel), "{}")
}

/// The same with `data` `{"presence":{"count":2,"ids":["42","7"],"hash":{"42":{"name":"Zoe"},"7":null}}}`.
///
/// Every id has its entry in `hash`, `null` without user info: pusher-js reads only that.
pub fn subscription_succeeded_with(channel: &ChannelName, roster: &Roster) -> Frame {
    let mut data = format!(r#"{{"presence":{{"count":{},"ids":["#, roster.len()).into_bytes();
    for (at, member) in roster.members().enumerate() {
        if at > 0 {
            data.push(b',');
        }
        member.user_id.push_json(&mut data);
    }
    data.extend_from_slice(br#"],"hash":{"#);
    for (at, member) in roster.members().enumerate() {
        if at > 0 {
            data.push(b',');
        }
        push_string(&mut data, member.user_id.as_str());
        data.push(b':');
        data.extend_from_slice(member.user_info.as_deref().unwrap_or("null").as_bytes());
    }
    data.extend_from_slice(b"}}}");
    internal("pusher_internal:subscription_succeeded", Some(channel), &text(data))
}

/// `{"event":"pusher:cache_miss","channel":"cache-c","data":"{}"}`
pub fn cache_miss(channel: &ChannelName) -> Frame {
    internal("pusher:cache_miss", Some(channel), "{}")
}

/// `{"event":"pusher_internal:subscription_count","channel":"orders","data":"{\"subscription_count\":3}"}`
pub fn subscription_count(channel: &ChannelName, count: u32) -> Frame {
    internal(
        "pusher_internal:subscription_count",
        Some(channel),
        &format!(r#"{{"subscription_count":{count}}}"#),
    )
}

/// `{"event":"pusher:signin_success","data":"{\"user_data\":\"{…}\"}"}`; `user_data` is the very string that was sent.
pub fn signin_success(user_data: &str) -> Frame {
    #[derive(Serialize)]
    struct Success<'a> {
        user_data: &'a str,
    }
    let mut data = Vec::with_capacity(user_data.len() * 5 / 4);
    push(&mut data, &Success { user_data });
    internal("pusher:signin_success", None, &text(data))
}

/// `{"event":"pusher_internal:watchlist_events","data":"{\"events\":[{\"name\":\"online\",\"user_ids\":[\"7\"]}]}"}`
///
/// Groups without users are left out. Source: pusher-js, `core/watchlist.ts`.
pub fn watchlist_events(online: &[UserId], offline: &[UserId]) -> Frame {
    #[derive(Serialize)]
    struct Group<'a> {
        name: &'a str,
        user_ids: Vec<&'a str>,
    }
    #[derive(Serialize)]
    struct Events<'a> {
        events: Vec<Group<'a>>,
    }
    let events = [("online", online), ("offline", offline)]
        .into_iter()
        .filter(|(_, users)| !users.is_empty())
        .map(|(name, users)| Group { name, user_ids: users.iter().map(UserId::as_str).collect() })
        .collect();
    let mut data = Vec::new();
    push(&mut data, &Events { events });
    internal("pusher_internal:watchlist_events", None, &text(data))
}

/// `{"event":"pusher_internal:member_added","channel":"presence-c","data":"{\"user_id\":\"42\",\"user_info\":{…}}"}`
pub fn member_added(channel: &ChannelName, member: &Member) -> Frame {
    let mut data = br#"{"user_id":"#.to_vec();
    member.user_id.push_json(&mut data);
    if let Some(info) = &member.user_info {
        data.extend_from_slice(br#","user_info":"#);
        data.extend_from_slice(info.as_bytes());
    }
    data.push(b'}');
    internal("pusher_internal:member_added", Some(channel), &text(data))
}

/// `{"event":"pusher_internal:member_removed","channel":"presence-c","data":"{\"user_id\":\"42\"}"}`
pub fn member_removed(channel: &ChannelName, user_id: &UserId) -> Frame {
    let mut data = br#"{"user_id":"#.to_vec();
    user_id.push_json(&mut data);
    data.push(b'}');
    internal("pusher_internal:member_removed", Some(channel), &text(data))
}

/// `{"event":"App\\Events\\OrderShipped","channel":"orders","data":"{\"id\":1}"}`
///
/// `data`: a JSON string literal, quotes included, sent on byte for byte.
pub fn event(channel: &ChannelName, name: &str, data: &str) -> Frame {
    Frame::text(ENVELOPE_BYTES + channel.as_str().len() + name.len() + data.len(), |out| {
        open(out, name, Some(channel.as_str()));
        out.extend_from_slice(data.as_bytes());
        out.push(b'}');
    })
}

/// `{"event":"client-typing","channel":"presence-c","data":{"on":true},"user_id":"42"}`
///
/// `data`: JSON text in the form it arrived. `user_id` only on presence channels, from the server's own record.
pub fn client_event(
    channel: &ChannelName,
    name: &str,
    data: Option<&str>,
    user_id: Option<&UserId>,
) -> Frame {
    let data_bytes = data.map_or(0, str::len);
    Frame::text(ENVELOPE_BYTES + channel.as_str().len() + name.len() + data_bytes, |out| {
        out.extend_from_slice(br#"{"event":"#);
        push_string(out, name);
        out.extend_from_slice(br#","channel":""#);
        out.extend_from_slice(channel.as_str().as_bytes());
        out.push(b'"');
        if let Some(data) = data {
            out.extend_from_slice(br#","data":"#);
            out.extend_from_slice(data.as_bytes());
        }
        if let Some(user_id) = user_id {
            out.extend_from_slice(br#","user_id":"#);
            push_string(out, user_id.as_str());
        }
        out.push(b'}');
    })
}

/// An event whose data is a JSON text inside a string.
fn internal(name: &str, channel: Option<&ChannelName>, data: &str) -> Frame {
    let channel = channel.map(ChannelName::as_str);
    Frame::text(ENVELOPE_BYTES + name.len() + channel.map_or(0, str::len) + data.len() * 5 / 4, |out| {
        open(out, name, channel);
        push_string(out, data);
        out.push(b'}');
    })
}

/// Writes everything up to the value of `data`.
fn open(out: &mut Vec<u8>, name: &str, channel: Option<&str>) {
    out.extend_from_slice(br#"{"event":"#);
    push_string(out, name);
    if let Some(channel) = channel {
        out.extend_from_slice(br#","channel":"#);
        push_string(out, channel);
    }
    out.extend_from_slice(br#","data":"#);
}

#[expect(clippy::expect_used, reason = "put together from text alone")]
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text put together from text is text")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{app::Limits, presence::NodeId};

    fn shown(frame: &Frame) -> &str {
        std::str::from_utf8(frame.payload()).unwrap()
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name, &Limits::default()).unwrap()
    }

    fn member(data: &str) -> Member {
        Member::parse(data, &Limits::default()).unwrap()
    }

    #[test]
    fn frames_look_as_the_protocol_shows_them() {
        let orders = channel("orders");
        let room = channel("presence-room.7");
        let zoe = member(r#"{"user_id":"42","user_info":{"name":"Zoe"}}"#);
        let ten = member(r#"{"user_id":10}"#);
        for (frame, expected) in [
            (
                connection_established(SocketId { left: 123_456_789, right: 987_654_321 }, 30),
                r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"123456789.987654321\",\"activity_timeout\":30}"}"#,
            ),
            (pong(), r#"{"event":"pusher:pong","data":"{}"}"#),
            (ping(), r#"{"event":"pusher:ping","data":"{}"}"#),
            (
                closing(CloseReason::UnknownApp),
                r#"{"event":"pusher:error","data":{"code":4001,"message":"Application does not exist"}}"#,
            ),
            (
                refusal(&Refusal::RateLimit, Some("private-\"x")),
                r#"{"event":"pusher:error","channel":"private-\"x","data":{"code":4301,"message":"Rate limit exceeded"}}"#,
            ),
            (
                subscription_succeeded(&orders),
                r#"{"event":"pusher_internal:subscription_succeeded","channel":"orders","data":"{}"}"#,
            ),
            (
                member_added(&room, &zoe),
                r#"{"event":"pusher_internal:member_added","channel":"presence-room.7","data":"{\"user_id\":\"42\",\"user_info\":{\"name\":\"Zoe\"}}"}"#,
            ),
            (
                member_added(&room, &ten),
                r#"{"event":"pusher_internal:member_added","channel":"presence-room.7","data":"{\"user_id\":10}"}"#,
            ),
            (
                member_removed(&room, &ten.user_id),
                r#"{"event":"pusher_internal:member_removed","channel":"presence-room.7","data":"{\"user_id\":10}"}"#,
            ),
            (
                event(&orders, r"App\Events\OrderShipped", r#""{\"id\":1}""#),
                r#"{"event":"App\\Events\\OrderShipped","channel":"orders","data":"{\"id\":1}"}"#,
            ),
            (
                client_event(&room, "client-typing", Some(r#"{"on":true}"#), Some(&zoe.user_id)),
                r#"{"event":"client-typing","channel":"presence-room.7","data":{"on":true},"user_id":"42"}"#,
            ),
            (cache_miss(&orders), r#"{"event":"pusher:cache_miss","channel":"orders","data":"{}"}"#),
            (
                subscription_count(&orders, 3),
                r#"{"event":"pusher_internal:subscription_count","channel":"orders","data":"{\"subscription_count\":3}"}"#,
            ),
            (
                signin_success(r#"{"id":"42"}"#),
                r#"{"event":"pusher:signin_success","data":"{\"user_data\":\"{\\\"id\\\":\\\"42\\\"}\"}"}"#,
            ),
            (
                watchlist_events(
                    &[UserId::from_text("7")],
                    &[UserId::from_text("8"), UserId::from_text("9")],
                ),
                r#"{"event":"pusher_internal:watchlist_events","data":"{\"events\":[{\"name\":\"online\",\"user_ids\":[\"7\"]},{\"name\":\"offline\",\"user_ids\":[\"8\",\"9\"]}]}"}"#,
            ),
            (
                watchlist_events(&[], &[UserId::from_text("8")]),
                r#"{"event":"pusher_internal:watchlist_events","data":"{\"events\":[{\"name\":\"offline\",\"user_ids\":[\"8\"]}]}"}"#,
            ),
            (client_event(&orders, "client-x", None, None), r#"{"event":"client-x","channel":"orders"}"#),
        ] {
            assert_eq!(shown(&frame), expected);
        }
    }

    #[test]
    fn a_roster_names_every_member_in_its_hash() {
        let mut roster = Roster::default();
        let room = channel("presence-room.7");
        let start =
            r#"{"event":"pusher_internal:subscription_succeeded","channel":"presence-room.7","data":"#;
        assert_eq!(
            shown(&subscription_succeeded_with(&room, &roster)),
            format!(r#"{start}"{{\"presence\":{{\"count\":0,\"ids\":[],\"hash\":{{}}}}}}"}}"#)
        );
        let ten = member("{\"user_id\":10,\n\"user_info\":{\n\"a\": 1}}");
        roster.join(NodeId(1), SocketId { left: 1, right: 1 }, 1, Arc::new(ten));
        assert_eq!(
            shown(&subscription_succeeded_with(&room, &roster)),
            format!(
                r#"{start}"{{\"presence\":{{\"count\":1,\"ids\":[10],\"hash\":{{\"10\":{{\n\"a\": 1}}}}}}}}"}}"#
            )
        );
    }

    #[test]
    fn a_refused_subscription_is_told_twice() {
        let [first, second] = SubscriptionFailure::Unauthorized.frames("private-a");
        assert_eq!(
            shown(&first),
            r#"{"event":"pusher:subscription_error","channel":"private-a","data":{"type":"AuthError","error":"The connection is unauthorized.","status":401}}"#
        );
        assert_eq!(
            shown(&second),
            r#"{"event":"pusher:error","channel":"private-a","data":{"code":4009,"message":"Connection is unauthorized"}}"#
        );
    }
}
