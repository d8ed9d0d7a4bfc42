//! Publishing: one event to up to a hundred channels, or a batch of ten.

use std::sync::Arc;

use soundpost_protocol::{
    api::{ApiError, Info, Trigger, Wanted, parse_batch, parse_trigger, replies, replies::Counts},
    channel::ChannelName,
    server_frame,
};
use tracing::debug;

use super::cluster;
use crate::{
    adapter::{Broadcast, ChannelCounts, Keep},
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
    let asked: Vec<_> = trigger.channels.iter().map(|channel| (Some(channel), trigger.info)).collect();
    let counts = told(node, app, &asked).await;
    Ok(replies::channels(&trigger.channels.iter().cloned().zip(counts).collect::<Vec<_>>()))
}

/// `POST /apps/{id}/batch_events`
pub(super) async fn batch_events(node: &Node, app: &RunningApp, body: &[u8]) -> Result<String, ApiError> {
    let batch = parse_batch(body, &app.app)?;
    publish(node, app, &batch).await?;
    if batch.iter().all(|trigger| trigger.info.is_empty()) {
        return Ok(replies::EMPTY.to_owned());
    }
    let asked: Vec<_> = batch.iter().map(|trigger| (trigger.channels.first(), trigger.info)).collect();
    Ok(replies::batch(&told(node, app, &asked).await))
}

async fn publish(node: &Node, app: &RunningApp, triggers: &[Trigger<'_>]) -> Result<(), ApiError> {
    let is_alone = node.adapter.is_alone();
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
            if !is_alone || keep.is_some() || node.delivery.directory.has_subscribers(&key) {
                let frame = server_frame::event(channel, &trigger.name, trigger.data.json());
                broadcasts.push(Broadcast { key, frame, exclude: trigger.socket_id, keep, told: None });
            }
        }
    }
    let refusal = |refused| cluster::refusal(refused, Wanted::Delivery);
    match node.adapter.publish(&broadcasts).map_err(refusal)? {
        Some(receipt) => receipt.confirmed().await.map_err(refusal),
        None => Ok(()),
    }
}

/// What `info` asks about each channel, as far as it applies. What cannot be had is left out: the event is accepted,
/// and a publisher who heard otherwise would send it again.
async fn told(node: &Node, app: &RunningApp, asked: &[(Option<&ChannelName>, Info)]) -> Vec<Counts> {
    let mut told = vec![Counts::default(); asked.len()];
    let mut wanted = Vec::new();
    for ((channel, info), counts) in asked.iter().zip(&mut told) {
        let Some(name) = channel else { continue };
        let info = info.applicable_to(name.kind());
        if info.user_count || info.subscription_count {
            let key = ChannelKey { app: app.index, name: ChannelName::clone(name) };
            wanted.push((Arc::new(key), info, counts));
        }
    }
    if wanted.is_empty() {
        return told;
    }
    let keys: Vec<_> = wanted.iter().map(|(key, ..)| Arc::clone(key)).collect();
    match cluster::counts(node, &keys).await {
        Ok(found) => {
            for ((_, info, counts), found) in wanted.into_iter().zip(found) {
                // An unoccupied channel has nobody: a count of zero where one was asked for.
                let found = found.unwrap_or(ChannelCounts { subscriptions: 0, users: Some(0) });
                *counts = super::queries::asked(found, info);
            }
        }
        Err(refused) => debug!(%refused, "info is left out"),
    }
    told
}
