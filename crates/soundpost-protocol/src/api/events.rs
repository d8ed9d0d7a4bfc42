//! Bodies of `POST /events` and `POST /batch_events`: events to publish, checked whole before any is published.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{
    ApiError, EventData, Info, ReservedPrefix,
    json::{self, Capped},
};
use crate::{
    app::{App, Limits},
    channel::ChannelName,
    socket_id::SocketId,
};

/// Channels of one event, counted as written. Source: Pusher docs, "HTTP API reference", `channels`.
pub const CHANNELS_MAX: usize = 100;

/// Events of one batch. Source: Pusher docs, "HTTP API reference", "Batch events".
pub const BATCH_ITEMS_MAX: usize = 10;

/// One event to publish, checked.
///
/// Shape: `{"name":"order.updated","channels":["a","b"],"data":"{\"id\":1}","socket_id":"1234.5678",
/// "info":"user_count,subscription_count"}`. Of `channels` and `channel` each may be one name or an array of them, and
/// `channels` wins. All but `data` count as missing when they are `null`. Unknown fields are ignored; a known one that
/// is given twice is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger<'a> {
    /// 1 to `event_name_chars_max` characters, not one of the server's own; may start with `client-`.
    pub name: Cow<'a, str>,
    /// 1 to [`CHANNELS_MAX`], each once, in the order written.
    pub channels: Vec<ChannelName>,
    /// At most `event_data_bytes_max` bytes once decoded.
    pub data: EventData<'a>,
    /// The one connection that does not get the event.
    pub socket_id: Option<SocketId>,
    /// What the answer should say about the channels; see [`Info::applicable_to`].
    pub info: Info,
}

/// Reads the body of `POST /events`.
///
/// Errors: [`ApiError`], from [`BodyNotUtf8`](ApiError::BodyNotUtf8) on; 400, or 413 for
/// [`DataTooLarge`](ApiError::DataTooLarge).
pub fn parse_trigger<'a>(body: &'a [u8], app: &App) -> Result<Trigger<'a>, ApiError> {
    object::<Written<'a>>(checked_text(body)?)?.check(&app.limits)
}

/// Reads the body of `POST /batch_events`: `{"batch":[…]}` with at most [`BATCH_ITEMS_MAX`] events, none of which is
/// given back unless all are good.
///
/// Errors: as [`parse_trigger`], what concerns one event in an [`ApiError::Item`]; and [`ApiError::BatchTooLong`].
pub fn parse_batch<'a>(body: &'a [u8], app: &App) -> Result<Vec<Trigger<'a>>, ApiError> {
    let written: WrittenBatch<'a> = object(checked_text(body)?)?;
    let batch = written.batch.ok_or(ApiError::Missing { field: "batch" })?;
    let batch: Capped<&'a RawValue, BATCH_ITEMS_MAX> = serde_json::from_str(batch.get())
        .map_err(|_| ApiError::FieldType { field: "batch", expected: "an array of events" })?;
    if batch.count > BATCH_ITEMS_MAX {
        return Err(ApiError::BatchTooLong { items: batch.count, items_max: BATCH_ITEMS_MAX });
    }
    let item = |(index, item): (usize, &'a RawValue)| {
        object::<Written<'a>>(item.get())
            .and_then(|written| written.check(&app.limits))
            .map_err(|error| ApiError::Item { index, error: Box::new(error) })
    };
    batch.items.into_iter().enumerate().map(item).collect()
}

/// The fields as they stand in the body. Raw, so that each is refused under its own name and `data` is never rebuilt.
#[derive(Deserialize)]
struct Written<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    channels: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "even_null")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    socket_id: Option<&'a RawValue>,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WrittenBatch<'a> {
    #[serde(borrow)]
    batch: Option<&'a RawValue>,
}

/// `null` is a value of `data` like any other, not its absence.
fn even_null<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// The body as text that no parser can trip over.
fn checked_text(body: &[u8]) -> Result<&str, ApiError> {
    let text =
        str::from_utf8(body).map_err(|error| ApiError::BodyNotUtf8 { bytes_valid: error.valid_up_to() })?;
    if json::is_too_deep(text) { Err(ApiError::TooDeep) } else { Ok(text) }
}

/// An object and nothing else: serde would take an array for the fields in their order.
fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, ApiError> {
    if !text.trim_start().starts_with('{') {
        return Err(ApiError::NotAnObject);
    }
    serde_json::from_str(text).map_err(|error| ApiError::Json { detail: error.to_string() })
}

impl<'a> Written<'a> {
    fn check(self, limits: &Limits) -> Result<Trigger<'a>, ApiError> {
        let name = checked_name(required(self.name, "name")?, limits)?;
        let channels = match (self.channels, self.channel) {
            (Some(channels), _) => checked_channels(channels, "channels", limits)?,
            (None, Some(channel)) => checked_channels(channel, "channel", limits)?,
            (None, None) => return Err(ApiError::Missing { field: "channels" }),
        };
        let data = EventData::of(required(self.data, "data")?);
        let bytes_max = limits.event_data_bytes_max;
        if let Some(bytes) = data.decoded_bytes_above(bytes_max) {
            return Err(ApiError::DataTooLarge { bytes, bytes_max });
        }
        let socket_id = match self.socket_id {
            Some(socket_id) => {
                Some(SocketId::parse(&string(socket_id, "socket_id")?).ok_or(ApiError::SocketId)?)
            }
            None => None,
        };
        let info = match self.info {
            Some(info) => Info::parse(&string(info, "info")?)?,
            None => Info::default(),
        };
        Ok(Trigger { name, channels, data, socket_id, info })
    }
}

fn required<'a>(value: Option<&'a RawValue>, field: &'static str) -> Result<&'a RawValue, ApiError> {
    value.ok_or(ApiError::Missing { field })
}

fn string<'a>(value: &'a RawValue, field: &'static str) -> Result<Cow<'a, str>, ApiError> {
    json::text(value).ok_or(ApiError::FieldType { field, expected: "a string" })
}

fn checked_name<'a>(value: &'a RawValue, limits: &Limits) -> Result<Cow<'a, str>, ApiError> {
    let name = string(value, "name")?;
    let chars_max = limits.event_name_chars_max;
    if name.is_empty() {
        return Err(ApiError::NameEmpty);
    }
    // Characters are at most as many as bytes, so a short name need not be counted.
    if name.len() > chars_max {
        let chars = name.chars().count();
        if chars > chars_max {
            return Err(ApiError::NameTooLong { chars, chars_max });
        }
    }
    match ReservedPrefix::of(&name) {
        Some(prefix) => Err(ApiError::NameReserved { prefix }),
        None => Ok(name),
    }
}

/// One name or an array of them, each once.
fn checked_channels(
    value: &RawValue,
    field: &'static str,
    limits: &Limits,
) -> Result<Vec<ChannelName>, ApiError> {
    let parse = |text: &str, index| {
        ChannelName::parse(text, limits).map_err(|error| ApiError::Channel { index, error })
    };
    if let Some(name) = json::text(value) {
        return Ok(vec![parse(&name, None)?]);
    }
    let wrong_type = || ApiError::FieldType { field, expected: "a channel name or an array of them" };
    let names: Capped<&RawValue, CHANNELS_MAX> =
        serde_json::from_str(value.get()).map_err(|_| wrong_type())?;
    if names.count == 0 {
        return Err(ApiError::ChannelsEmpty);
    }
    if names.count > CHANNELS_MAX {
        return Err(ApiError::ChannelsTooMany { channels: names.count, channels_max: CHANNELS_MAX });
    }
    let mut channels: Vec<ChannelName> = Vec::with_capacity(names.items.len());
    for (index, name) in names.items.into_iter().enumerate() {
        let name = json::text(name).ok_or_else(wrong_type)?;
        if !channels.iter().any(|channel| channel.as_str() == name) {
            channels.push(parse(&name, Some(index))?);
        }
    }
    Ok(channels)
}

#[cfg(test)]
mod tests;
