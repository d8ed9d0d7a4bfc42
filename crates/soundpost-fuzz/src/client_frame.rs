//! What clients send, compared with what a JSON parser that knows nothing of it says.

use serde_json::{Value, value::RawValue};
use soundpost_protocol::{
    client_frame::{ClientEvent, ClientFrame},
    close::Refusal,
};

use crate::Outcome;

/// The input is one text message.
pub fn client_frame(data: &[u8]) -> Outcome {
    let Ok(text) = str::from_utf8(data) else { return Outcome::Refused };
    let frame = match ClientFrame::parse(text) {
        Ok(frame) => frame,
        Err(refusal) => {
            assert!(matches!(refusal, Refusal::InvalidMessage), "{refusal:?}");
            return Outcome::Refused;
        }
    };
    // A parser into values refuses what nobody looks at here: deep nesting, numbers too large, half a surrogate pair.
    let value = serde_json::from_str::<Value>(text).ok();
    if let Some(value) = &value {
        assert!(value.is_object(), "{text}");
        compare(&frame, value);
    }
    if let ClientFrame::ClientEvent(event) = &frame {
        check_event(event, text);
    }
    Outcome::Accepted
}

fn compare(frame: &ClientFrame<'_>, value: &Value) {
    let string = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let name = string(value.get("event"));
    let data = match value.get("data") {
        Some(Value::String(inner)) => serde_json::from_str(inner).ok(),
        other => other.cloned(),
    };
    let field = |field: &str| string(data.as_ref().and_then(|data| data.get(field)));
    let expected = match frame {
        ClientFrame::Ping => "pusher:ping",
        ClientFrame::Pong => "pusher:pong",
        ClientFrame::Subscribe(subscribe) => {
            // What stands inside a string may be what no value can be made of.
            if data.is_some() {
                assert_eq!(field("channel").as_deref(), Some(&*subscribe.channel));
                assert_eq!(field("auth").as_deref(), subscribe.auth.as_deref());
                assert_eq!(field("channel_data").as_deref(), subscribe.channel_data.as_deref());
            }
            "pusher:subscribe"
        }
        ClientFrame::Unsubscribe { channel } => {
            if data.is_some() {
                assert_eq!(field("channel").as_deref(), Some(&**channel));
            }
            "pusher:unsubscribe"
        }
        ClientFrame::SignIn(sign_in) => {
            if data.is_some() {
                assert_eq!(field("auth").as_deref(), Some(&*sign_in.auth));
                assert_eq!(field("user_data").as_deref(), Some(&*sign_in.user_data));
            }
            "pusher:signin"
        }
        ClientFrame::ClientEvent(event) => {
            assert_eq!(string(value.get("channel")).as_deref(), Some(&*event.channel));
            &*event.event
        }
        ClientFrame::Other => {
            let name = name.unwrap_or_default();
            return assert!(!name.starts_with("pusher:") && !name.starts_with("client-"), "{name}");
        }
    };
    assert_eq!(name.as_deref(), Some(expected));
}

/// The data is a piece of the frame as it came, and JSON.
fn check_event(event: &ClientEvent<'_>, text: &str) {
    assert!(event.event.starts_with("client-"), "{event:?}");
    if let Some(data) = event.data {
        assert!(text.as_bytes().as_ptr_range().contains(&data.as_ptr()), "copied: {data}");
        let value = serde_json::from_str::<&RawValue>(data).map(RawValue::get);
        assert_eq!(value.ok(), Some(data), "{text}");
    }
}
