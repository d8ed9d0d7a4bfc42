//! Publishing: one event to up to a hundred channels, or a batch of ten.

use soundpost_protocol::{
    api::{ApiError, Info, Trigger, parse_batch, parse_trigger, replies, replies::Counts},
    channel::ChannelName,
    server_frame,
};

use crate::{
    apps::RunningApp,
    delivery::{ChannelCounts, ChannelKey, Wakes},
    node::Node,
};

/// `POST /apps/{id}/events`
pub(super) fn events(node: &Node, app: &RunningApp, body: &[u8]) -> Result<String, ApiError> {
    let trigger = parse_trigger(body, &app.app)?;
    publish(node, app, &trigger, &mut node.delivery.wakes())?;
    if trigger.info.is_empty() {
        return Ok(replies::EMPTY.to_owned());
    }
    let channels = trigger.channels.into_iter();
    let counts: Vec<_> =
        channels.map(|channel| (channel.clone(), counts(node, app, channel, trigger.info))).collect();
    Ok(replies::channels(&counts))
}

/// `POST /apps/{id}/batch_events`
pub(super) fn batch_events(node: &Node, app: &RunningApp, body: &[u8]) -> Result<String, ApiError> {
    let batch = parse_batch(body, &app.app)?;
    let mut wakes = node.delivery.wakes();
    for trigger in &batch {
        publish(node, app, trigger, &mut wakes)?;
    }
    drop(wakes);
    if batch.iter().all(|trigger| trigger.info.is_empty()) {
        return Ok(replies::EMPTY.to_owned());
    }
    let first = |trigger: Trigger<'_>| {
        let channel = trigger.channels.into_iter().next();
        channel.map_or_else(Counts::default, |channel| counts(node, app, channel, trigger.info))
    };
    Ok(replies::batch(&batch.into_iter().map(first).collect::<Vec<_>>()))
}

fn publish(
    node: &Node,
    app: &RunningApp,
    trigger: &Trigger<'_>,
    wakes: &mut Wakes<'_>,
) -> Result<(), ApiError> {
    for channel in &trigger.channels {
        let key = ChannelKey { app: app.index, name: channel.clone() };
        if node.delivery.directory.counts(&key).is_none() {
            // Nobody to tell: the event is not even encoded.
            continue;
        }
        let frame = server_frame::event(channel, &trigger.name, trigger.data.json());
        let delivered = node.delivery.trigger(&key, &frame, trigger.socket_id, wakes);
        delivered.map_err(|_| ApiError::OverCapacity)?;
    }
    Ok(())
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
