//! The headers that tell an app that a webhook is ours, and which events it has had already.
//!
//! Source: Pusher docs, "Webhooks", "Authentication"; `Content-Type` by the Node SDK, which compares it as a whole and
//! takes `application/json; charset=utf-8` for no webhook.

use super::event::Encoded;
use crate::{
    app::{AppKey, AppSecret},
    auth,
};

/// `Content-Type`, which is [`JSON`].
pub const CONTENT_TYPE: &str = "Content-Type";
/// The app's key.
pub const KEY: &str = "X-Pusher-Key";
/// Lowercase hex HMAC-SHA256 of the body with the app's secret.
pub const SIGNATURE: &str = "X-Pusher-Signature";
/// The ids of the events of the body, in their order, joined by `,`. A body that is made anew may hold other events
/// beside one that was sent before; the ids tell.
pub const EVENT_IDS: &str = "X-Soundpost-Event-Ids";

/// The value of [`CONTENT_TYPE`], and nothing behind it.
pub const JSON: &str = "application/json";

/// The headers of a request that sends `body`, exactly these bytes.
///
/// Signed with the app's secret, never with the one before it: who changes a secret lets the receiver take both before.
pub fn headers(key: &AppKey, secret: &AppSecret, body: &[u8]) -> [(&'static str, String); 3] {
    [
        (CONTENT_TYPE, JSON.to_owned()),
        (KEY, key.as_str().to_owned()),
        (SIGNATURE, auth::sign(secret, &[body])),
    ]
}

/// The value of [`EVENT_IDS`]: `2f.1,2f.2`.
pub fn event_ids<'a>(events: impl IntoIterator<Item = &'a Encoded>) -> String {
    let mut text = String::new();
    for event in events {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&event.id.to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        app::Limits,
        channel::ChannelName,
        presence::{NodeId, UserId},
        socket_id::SocketId,
        webhook::{
            event::{Event, EventId, body},
            target::Batching,
        },
    };

    fn encoded(channel: &str, events: &[Event<'_>]) -> Vec<Encoded> {
        let channel = ChannelName::parse(channel, &Limits::default()).unwrap();
        let id = |at: usize| EventId { life: NodeId(47), number: at as u64 + 1 };
        events.iter().enumerate().map(|(at, event)| event.encode(id(at), &channel)).collect()
    }

    /// Each of these the webhook helper of the npm package `pusher` 5.3.4 has found valid.
    #[test]
    fn the_signature_is_the_one_that_sdks_verify() {
        let zoe = UserId::from_text("Zoë");
        let typing = Event::ClientEvent {
            event: "client-typing",
            data: Some(r#"{"on":true}"#),
            socket_id: SocketId { left: 123_456_789, right: 987_654_321 },
            user_id: Some(&zoe),
        };
        for (events, signature) in [
            (
                encoded("private-orders.1", &[Event::ChannelOccupied]),
                "b300680d0c97f69e23bcd80eee4947d1fcaebe884ee8ee627aeb0a5d53944efa",
            ),
            (
                encoded("presence-room.7", &[Event::MemberAdded(&zoe), typing]),
                "c1e3414389f6c2b890cd9630a232277c45d3da8d813f70e9e14aad14bc09d7a8",
            ),
            (vec![], "38cd6b8b5b7b870dfb5c511565ab723aed9d321048ed32c35cd19001d6bd882f"),
        ] {
            let body = body(1_700_000_000_000, &events);
            let key = AppKey::parse("soundpost-key").unwrap();
            assert_eq!(
                headers(&key, &AppSecret::new("soundpost-secret"), &body),
                [
                    ("Content-Type", "application/json".to_owned()),
                    ("X-Pusher-Key", "soundpost-key".to_owned()),
                    ("X-Pusher-Signature", signature.to_owned()),
                ],
            );
        }
    }

    #[test]
    fn ids_stand_in_the_order_of_the_body() {
        let events = encoded("orders", &[Event::ChannelOccupied, Event::ChannelVacated]);
        assert_eq!(event_ids(&events), "2f.1,2f.2");
        assert_eq!(event_ids([]), "");
    }

    /// nginx and Apache refuse a line of 8 kB.
    #[test]
    fn the_ids_of_the_largest_body_fit_a_header() {
        assert!(Batching::EVENTS_MAX * (EventId::BYTES_MAX + 1) + EVENT_IDS.len() < 8000);
    }
}
