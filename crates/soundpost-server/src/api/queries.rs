//! What publishers ask: which channels are occupied, by how many, by whom; and that a user be disconnected.

use std::time::Instant;

use soundpost_protocol::{
    api::{
        ApiError, ChannelsQuery, Info, Query, channel_info, parse_channel, parse_presence_channel,
        percent_decode, replies,
        replies::{Cache, Counts},
    },
    presence::UserId,
};

use super::events::refusal;
use crate::{
    adapter::ChannelCounts,
    apps::{ChannelKey, RunningApp, UserKey},
    node::Node,
};

/// `GET /apps/{id}/channels`
pub(super) fn channels(node: &Node, app: &RunningApp, query: &Query<'_>) -> Result<String, ApiError> {
    let ChannelsQuery { filter_by_prefix, info } = ChannelsQuery::parse(query, &app.app)?;
    let occupied = node.delivery.directory.channels(app.index, filter_by_prefix.unwrap_or_default());
    let told: Vec<_> = occupied
        .into_iter()
        .map(|(channel, counts)| {
            let info = info.applicable_to(channel.kind());
            (channel, asked(counts, info))
        })
        .collect();
    Ok(replies::channels(&told))
}

/// `GET /apps/{id}/channels/{channel}`
pub(super) fn channel(
    node: &Node,
    app: &RunningApp,
    name: &str,
    query: &Query<'_>,
) -> Result<String, ApiError> {
    let name = parse_channel(name, &app.app)?;
    let info = channel_info(query, &app.app, &name)?;
    let is_presence = name.kind().is_presence();
    let key = ChannelKey { app: app.index, name };
    let found = node.delivery.directory.counts(&key);
    let counts = found.unwrap_or(ChannelCounts { subscriptions: 0, users: is_presence.then_some(0) });
    let kept = info.cache.then(|| app.cache.event(&key.name, Instant::now()));
    let cache = match &kept {
        None => Cache::Unasked,
        Some(None) => Cache::Empty,
        Some(Some(kept)) => Cache::Event { data: &kept.data, ttl_seconds: kept.ttl.as_secs() },
    };
    Ok(replies::channel(found.is_some(), asked(counts, info), cache))
}

/// `GET /apps/{id}/channels/{channel}/users`
pub(super) fn users(node: &Node, app: &RunningApp, name: &str) -> Result<String, ApiError> {
    let name = parse_presence_channel(name, &app.app)?;
    let users = node.delivery.directory.users(&ChannelKey { app: app.index, name });
    let ids: Vec<_> = users.iter().map(UserId::as_str).collect();
    Ok(replies::users(&ids))
}

/// `GET /apps/{id}/connections`
pub(super) fn connections(app: &RunningApp) -> String {
    replies::connections(app.quota.open_anywhere())
}

/// `POST /apps/{id}/users/{user_id}/terminate_connections`
pub(super) async fn terminate(node: &Node, app: &RunningApp, user_id: &str) -> Result<String, ApiError> {
    let id = percent_decode(user_id).ok_or(ApiError::Path)?;
    let user = UserKey { app: app.index, id: UserId::from_text(&id) };
    let receipt = node.adapter.terminate(&user, app.app.terminate_presence).map_err(refusal)?;
    if let Some(receipt) = receipt {
        receipt.confirmed().await.map_err(refusal)?;
    }
    Ok(replies::EMPTY.to_owned())
}

/// Of what is known, what `info` asks for.
pub(super) fn asked(counts: ChannelCounts, info: Info) -> Counts {
    Counts {
        user_count: counts.users.filter(|_| info.user_count),
        subscription_count: Some(counts.subscriptions).filter(|_| info.subscription_count),
    }
}
