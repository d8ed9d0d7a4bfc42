//! Publishing: one event to up to a hundred channels, or a batch of ten.

use std::sync::Arc;

use soundpost_protocol::{
    api::{ApiError, Info, Trigger, parse_batch, parse_trigger, replies, replies::Counts},
    channel::ChannelName,
    server_frame,
};

use crate::{
    adapter::{Broadcast, ChannelCounts, Keep, Refused},
    apps::{ChannelKey, RunningApp},
    node::Node,
};

/// `POST /apps/{id}/events`
pub(super) async fn events(node: &Node, app: &RunningApp, body: &[u8]) -> Result<String, ApiError> {
    let trigger = parse_trigger(body, &app.app)?;
    publish(node, app, std::slice::from_ref(&trigger)).await?;
    if trigger.info.is_empty() {
        return Ok(replies::EMPTY.to_owned());
    }
    let channels = trigger.channels.into_iter();
    let counts: Vec<_> =
        channels.map(|channel| (channel.clone(), counts(node, app, channel, trigger.info))).collect();
    Ok(replies::channels(&counts))
}

/// `POST /apps/{id}/batch_events`
pub(super) async fn batch_events(node: &Node, app: &RunningApp, body: &[u8]) -> Result<String, ApiError> {
    let batch = parse_batch(body, &app.app)?;
    publish(node, app, &batch).await?;
    if batch.iter().all(|trigger| trigger.info.is_empty()) {
        return Ok(replies::EMPTY.to_owned());
    }
    let first = |trigger: Trigger<'_>| {
        let channel = trigger.channels.into_iter().next();
        channel.map_or_else(Counts::default, |channel| counts(node, app, channel, trigger.info))
    };
    Ok(replies::batch(&batch.into_iter().map(first).collect::<Vec<_>>()))
}

async fn publish(node: &Node, app: &RunningApp, triggers: &[Trigger<'_>]) -> Result<(), ApiError> {
    let mut broadcasts = Vec::new();
    for trigger in triggers {
        for channel in &trigger.channels {
            let key = ChannelKey { app: app.index, name: channel.clone() };
            let keep = key
                .name
                .kind()
                .is_cache()
                .then(|| Keep { data_bytes: trigger.data.json().len(), cache: Arc::clone(&app.cache) });
            // What nobody on the only node hears, now or later, is not even encoded.
            if keep.is_some() || node.delivery.directory.has_subscribers(&key) {
                let frame = server_frame::event(channel, &trigger.name, trigger.data.json());
                broadcasts.push(Broadcast { key, frame, exclude: trigger.socket_id, keep });
            }
        }
    }
    let receipt = node.adapter.publish(&broadcasts).map_err(refusal)?;
    match receipt {
        Some(receipt) => receipt.confirmed().await.map_err(refusal),
        None => Ok(()),
    }
}

/// What a publisher is told of what the adapter did not take.
pub(super) const fn refusal(refused: Refused) -> ApiError {
    match refused {
        Refused::Full | Refused::Away | Refused::Unconfirmed => ApiError::OverCapacity,
    }
}

/// What `info` asks about a channel, as far as it applies.
pub(super) fn counts(node: &Node, app: &RunningApp, channel: ChannelName, info: Info) -> Counts {
    let info = info.applicable_to(channel.kind());
    match node.delivery.directory.counts(&ChannelKey { app: app.index, name: channel }) {
        Some(found) => super::queries::asked(found, info),
        // An unoccupied channel has nobody: a count of zero where one was asked for.
        None => super::queries::asked(ChannelCounts { subscriptions: 0, users: Some(0) }, info),
    }
}
