//! What clients send: one JSON object a text frame, with an `event` that says what it is.
//!
//! Source: Pusher protocol, "Channel events" and "Client events"; the shapes pusher-js 8 and Echo really send.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::close::Refusal;

/// One message of a client, parsed but not yet judged.
#[derive(Debug)]
pub enum ClientFrame<'a> {
    /// `{"event":"pusher:ping"}`, whatever its data.
    Ping,
    /// `{"event":"pusher:pong"}`, whatever its data.
    Pong,
    /// `{"event":"pusher:subscribe","data":{"channel":"c","auth":"key:mac","channel_data":"{…}"}}`
    Subscribe(Subscribe<'a>),
    /// `{"event":"pusher:unsubscribe","data":{"channel":"c"}}`
    Unsubscribe {
        /// As sent, unchecked.
        channel: Cow<'a, str>,
    },
    /// `{"event":"pusher:signin","data":{"auth":"key:mac","user_data":"{…}"}}`
    SignIn(SignIn<'a>),
    /// `{"event":"client-…","channel":"c","data":…}`
    ClientEvent(ClientEvent<'a>),
    /// An event of some other name: ignored without an answer, as all servers of the family do.
    Other,
}

/// The data of a `pusher:subscribe`. Unknown fields (`filter`, `tags`, `delta` ...) are ignored.
#[derive(Debug, Deserialize)]
pub struct Subscribe<'a> {
    /// As sent, unchecked.
    #[serde(borrow)]
    pub channel: Cow<'a, str>,
    /// `KEY:hex`; pusher-js sends an empty one for public channels.
    #[serde(borrow, default)]
    pub auth: Option<Cow<'a, str>>,
    /// The very string that was signed.
    #[serde(borrow, default)]
    pub channel_data: Option<Cow<'a, str>>,
}

/// The data of a `pusher:signin`.
#[derive(Debug, Deserialize)]
pub struct SignIn<'a> {
    /// `KEY:hex`
    #[serde(borrow)]
    pub auth: Cow<'a, str>,
    /// The very string that was signed.
    #[serde(borrow)]
    pub user_data: Cow<'a, str>,
}

/// A client event as sent.
#[derive(Debug)]
pub struct ClientEvent<'a> {
    /// Begins with `client-`.
    pub event: Cow<'a, str>,
    /// As sent, unchecked.
    pub channel: Cow<'a, str>,
    /// JSON text in the form it arrived; absent if it was.
    pub data: Option<&'a str>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    channel: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
}

/// A field that is there, even if it is `null`, which is a value that client events may carry.
fn present<'a, D: Deserializer<'a>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    Deserialize::deserialize(from).map(Some)
}

#[derive(Deserialize)]
struct Unsubscribe<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
}

impl<'a> ClientFrame<'a> {
    /// Reads one text frame. `text` must be borrowed for as long as the result lives: nothing is copied that needs
    /// no unescaping.
    ///
    /// Errors: [`Refusal::InvalidMessage`] for what is not JSON, has no `event`, is an unknown `pusher:` event, or
    /// has data that its event cannot use.
    pub fn parse(text: &'a str) -> Result<Self, Refusal> {
        if !text.trim_start().starts_with('{') {
            // Serde would read the fields of a struct from an array, too.
            return Err(Refusal::InvalidMessage);
        }
        let envelope: Envelope<'a> = serde_json::from_str(text).map_err(|_| Refusal::InvalidMessage)?;
        let data = envelope.data.map(RawValue::get);
        match envelope.event.as_ref() {
            "pusher:ping" => Ok(Self::Ping),
            "pusher:pong" => Ok(Self::Pong),
            "pusher:subscribe" => parse_data(data, serde_json::from_str).map(Self::Subscribe),
            "pusher:unsubscribe" => parse_data(data, serde_json::from_str)
                .map(|Unsubscribe { channel }| Self::Unsubscribe { channel }),
            "pusher:signin" => parse_data(data, serde_json::from_str).map(Self::SignIn),
            name if name.starts_with("pusher:") => Err(Refusal::InvalidMessage),
            name if name.starts_with("client-") => {
                let channel = envelope.channel.map(RawValue::get).unwrap_or_default();
                let channel =
                    serde_json::from_str::<Text<'a>>(channel).map_err(|_| Refusal::InvalidMessage)?.0;
                Ok(Self::ClientEvent(ClientEvent { event: envelope.event, channel, data }))
            }
            _ => Ok(Self::Other),
        }
    }
}

/// Text that is borrowed where it needs no unescaping.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// `data` is an object, or (Reverb accepts it) a string that holds one; then nothing can be borrowed from the frame.
fn parse_data<'a, T: Owned<'a>>(
    data: Option<&'a str>,
    parse: impl Fn(&'a str) -> serde_json::Result<T>,
) -> Result<T, Refusal> {
    let data = data.ok_or(Refusal::InvalidMessage)?;
    if data.starts_with('{') {
        return parse(data).map_err(|_| Refusal::InvalidMessage);
    }
    let inner: String = serde_json::from_str(data).map_err(|_| Refusal::InvalidMessage)?;
    if !inner.trim_start().starts_with('{') {
        return Err(Refusal::InvalidMessage);
    }
    T::from_inner(&inner).map_err(|_| Refusal::InvalidMessage)
}

/// Frames whose data may arrive inside a string and must outlive it.
trait Owned<'a>: Sized {
    fn from_inner(inner: &str) -> serde_json::Result<Self>;
}

impl<'a> Owned<'a> for Subscribe<'a> {
    fn from_inner(inner: &str) -> serde_json::Result<Self> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        serde_json::from_str::<Subscribe<'_>>(inner).map(|subscribe| Self {
            channel: owned(subscribe.channel),
            auth: subscribe.auth.map(owned),
            channel_data: subscribe.channel_data.map(owned),
        })
    }
}

impl<'a> Owned<'a> for SignIn<'a> {
    fn from_inner(inner: &str) -> serde_json::Result<Self> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        serde_json::from_str::<SignIn<'_>>(inner)
            .map(|sign_in| Self { auth: owned(sign_in.auth), user_data: owned(sign_in.user_data) })
    }
}

impl<'a> Owned<'a> for Unsubscribe<'a> {
    fn from_inner(inner: &str) -> serde_json::Result<Self> {
        serde_json::from_str::<Unsubscribe<'_>>(inner)
            .map(|unsubscribe| Self { channel: Cow::Owned(unsubscribe.channel.into_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match ClientFrame::parse(text) {
            Err(refusal) => format!("{refusal:?}"),
            Ok(ClientFrame::Subscribe(s)) => {
                format!("subscribe {} {:?} {:?}", s.channel, s.auth, s.channel_data)
            }
            Ok(ClientFrame::SignIn(s)) => format!("sign in {} {}", s.auth, s.user_data),
            Ok(ClientFrame::ClientEvent(e)) => format!("{} on {} with {:?}", e.event, e.channel, e.data),
            Ok(other) => format!("{other:?}"),
        }
    }

    #[test]
    fn what_clients_really_send_is_understood() {
        for (text, expected) in [
            (r#"{"event":"pusher:ping","data":{}}"#, "Ping"),
            (r#"{"event":"pusher:ping"}"#, "Ping"),
            (r#"{"event":"pusher:ping","data":null}"#, "Ping"),
            (r#"{"event":"pusher:pong","data":"{}"}"#, "Pong"),
            (
                r#"{"event":"pusher:subscribe","data":{"auth":"","channel":"orders"}}"#,
                r#"subscribe orders Some("") None"#,
            ),
            (
                r#"{"data":{"channel":"orders","filter":{"a":1}},"event":"pusher:subscribe"}"#,
                "subscribe orders None None",
            ),
            (
                r#"{"event":"pusher:subscribe","data":"{\"auth\":\"k:m\",\"channel\":\"private-a\",\"channel_data\":\"{}\"}"}"#,
                r#"subscribe private-a Some("k:m") Some("{}")"#,
            ),
            (
                r#"{"event":"pusher:unsubscribe","data":{"channel":"orders"}}"#,
                r#"Unsubscribe { channel: "orders" }"#,
            ),
            (
                r#"{"event":"client-typing","data":{"on": true},"channel":"private-chat"}"#,
                r#"client-typing on private-chat with Some("{\"on\": true}")"#,
            ),
            (r#"{"event":"client-x","channel":"private-chat"}"#, "client-x on private-chat with None"),
            (r#"{"event":"client-x","channel":"c","data":null}"#, r#"client-x on c with Some("null")"#),
            (
                r#"{"event":"pusher:signin","data":{"auth":"k:m","user_data":"{\"id\":\"42\"}"}}"#,
                r#"sign in k:m {"id":"42"}"#,
            ),
            (r#"{"event":"something","data":[1]}"#, "Other"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let nested = "[".repeat(200_000);
        let nested_data = format!(r#"{{"event":"pusher:subscribe","data":{nested}"#);
        for text in [
            "",
            "hello",
            "null",
            "[]",
            "{}",
            r#"{"event":7}"#,
            r#"{"event":null}"#,
            r#"["pusher:ping"]"#,
            r#"{"event":"pusher:ping","#,
            r#"{"event":"pusher:nonsense","data":{}}"#,
            r#"{"event":"pusher:subscribe"}"#,
            r#"{"event":"pusher:subscribe","data":null}"#,
            r#"{"event":"pusher:subscribe","data":"orders"}"#,
            r#"{"event":"pusher:subscribe","data":"[\"orders\"]"}"#,
            r#"{"event":"pusher:subscribe","data":7}"#,
            r#"{"event":"pusher:subscribe","data":["orders"]}"#,
            r#"{"event":"pusher:subscribe","data":{}}"#,
            r#"{"event":"pusher:subscribe","data":{"channel":7}}"#,
            r#"{"event":"pusher:subscribe","data":{"channel":null}}"#,
            r#"{"event":"pusher:subscribe","data":{"channel":"c","auth":7}}"#,
            r#"{"event":"pusher:unsubscribe","data":{"channel":["c"]}}"#,
            r#"{"event":"pusher:signin","data":{}}"#,
            r#"{"event":"pusher:signin","data":{"auth":"k:m"}}"#,
            r#"{"event":"pusher:signin","data":{"auth":"k:m","user_data":{"id":"42"}}}"#,
            r#"{"event":"client-x","data":{}}"#,
            r#"{"event":"client-x","channel":7,"data":{}}"#,
            nested.as_str(),
            nested_data.as_str(),
        ] {
            assert_eq!(shown(text), "InvalidMessage", "{:.80}", text);
        }
    }
}
