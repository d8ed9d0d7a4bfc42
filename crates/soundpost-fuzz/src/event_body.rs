//! Bodies of `POST /events` and `POST /batch_events`: what is accepted passes through as it was written.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::value::RawValue;
use soundpost_protocol::{
    api::{ApiError, BATCH_ITEMS_MAX, CHANNELS_MAX, Trigger, parse_batch, parse_trigger},
    app::{App, AppId, AppKey, AppSecret, Limits},
    channel::ChannelName,
    server_frame,
};

use crate::Outcome;

/// Limits that short inputs reach.
static APP: LazyLock<Option<App>> = LazyLock::new(|| {
    let mut app = App::new(AppId::parse("a").ok()?, AppKey::parse("k").ok()?, AppSecret::new("s"));
    app.limits.event_data_bytes_max = 200;
    app.limits.event_name_chars_max = 40;
    Some(app)
});

/// The input is a body, read as one event and as a batch.
pub fn event_body(data: &[u8]) -> Outcome {
    let Some(app) = APP.as_ref() else { return Outcome::Refused };
    let trigger = parse_trigger(data, app);
    let batch = parse_batch(data, app);
    for error in [trigger.as_ref().err(), batch.as_ref().err()].into_iter().flatten() {
        check_error(error);
    }
    let Ok(text) = str::from_utf8(data) else {
        assert!(trigger.is_err() && batch.is_err());
        return Outcome::Refused;
    };
    if let Ok(trigger) = &trigger {
        check(trigger, text, &app.limits);
        let batch = format!("{{\"batch\":[{text}]}}");
        match parse_batch(batch.as_bytes(), app) {
            Ok(items) => assert_eq!(items, std::slice::from_ref(trigger)),
            Err(error) => assert_eq!(error, ApiError::TooDeep),
        }
    }
    if let Ok(batch) = &batch {
        assert!(batch.len() <= BATCH_ITEMS_MAX);
        let items =
            fields(text).get("batch").map(|items| serde_json::from_str::<Vec<&RawValue>>(items.get()));
        assert!(matches!(&items, Some(Ok(items)) if items.len() == batch.len()), "{text}");
        for (trigger, item) in batch.iter().zip(items.into_iter().flatten().flatten()) {
            check(trigger, item.get(), &app.limits);
        }
    }
    if trigger.is_ok() || batch.is_ok() { Outcome::Accepted } else { Outcome::Refused }
}

fn fields(text: &str) -> BTreeMap<String, &RawValue> {
    serde_json::from_str(text).unwrap_or_default()
}

fn check(trigger: &Trigger<'_>, text: &str, limits: &Limits) {
    let fields = fields(text);
    let written = fields.get("data").map_or("", |data| data.get());
    let literal = trigger.data.json();
    if written.starts_with('"') {
        assert_eq!(literal, written, "a string passes through");
    } else {
        let decoded = serde_json::from_str::<String>(literal).ok();
        assert_eq!(decoded.as_deref(), Some(written), "anything else becomes the string of its text");
    }
    if let Ok(decoded) = serde_json::from_str::<String>(literal) {
        assert_eq!(trigger.data.decoded_bytes(), decoded.len(), "{literal}");
    }
    assert!(trigger.data.decoded_bytes() <= limits.event_data_bytes_max, "{literal}");
    let name = fields.get("name").and_then(|name| serde_json::from_str::<String>(name.get()).ok());
    assert_eq!(name.as_deref(), Some(&*trigger.name));
    assert!((1..=limits.event_name_chars_max).contains(&trigger.name.chars().count()), "{text}");
    assert!(!trigger.name.starts_with("pusher:") && !trigger.name.starts_with("pusher_internal:"), "{text}");
    assert!((1..=CHANNELS_MAX).contains(&trigger.channels.len()), "{text}");
    for channel in &trigger.channels {
        assert_eq!(ChannelName::parse(channel.as_str(), limits).as_ref(), Ok(channel));
        check_frame(trigger, channel);
    }
}

/// The frame that subscribers get is JSON and holds the very data.
fn check_frame(trigger: &Trigger<'_>, channel: &ChannelName) {
    let frame = server_frame::event(channel, &trigger.name, trigger.data.json());
    let text = str::from_utf8(frame.payload()).unwrap_or_default();
    let fields = fields(text);
    let decoded =
        |field: &str| fields.get(field).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    assert_eq!(decoded("event").as_deref(), Some(&*trigger.name), "{text}");
    assert_eq!(decoded("channel").as_deref(), Some(channel.as_str()), "{text}");
    assert_eq!(fields.get("data").map(|data| data.get()), Some(trigger.data.json()), "{text}");
}

/// One line of a bounded length, whatever was sent.
fn check_error(error: &ApiError) {
    let text = error.to_string();
    assert!(!text.contains(['\n', '\r']) && text.len() < 1000, "{text:?}");
    assert!(matches!(error.status(), 400 | 413), "{text}");
}
