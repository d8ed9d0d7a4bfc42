//! What publishers ask: which channels are occupied, by how many, by whom; and that a user be disconnected.

use std::sync::Arc;

use soundpost_protocol::{
    api::{
        ApiError, ChannelsQuery, Info, Query, Wanted, channel_info, parse_channel, parse_presence_channel,
        percent_decode, replies,
        replies::{Cache, Counts},
    },
    presence::UserId,
};

use super::cluster;
use crate::{
    adapter::{ChannelCounts, Refused},
    apps::{ChannelKey, RunningApp, UserKey},
    node::Node,
};

/// `GET /apps/{id}/channels`
pub(super) async fn channels(node: &Node, app: &RunningApp, query: &Query<'_>) -> Result<String, ApiError> {
    let ChannelsQuery { filter_by_prefix, info } = ChannelsQuery::parse(query, &app.app)?;
    let prefix = filter_by_prefix.unwrap_or_default();
    let occupied = cluster::channels(node, app, prefix).await.map_err(unanswered)?;
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
pub(super) async fn channel(
    node: &Node,
    app: &RunningApp,
    name: &str,
    query: &Query<'_>,
) -> Result<String, ApiError> {
    let name = parse_channel(name, &app.app)?;
    let info = channel_info(query, &app.app, &name)?;
    let is_presence = name.kind().is_presence();
    let key = Arc::new(ChannelKey { app: app.index, name });
    let counts = cluster::counts(node, std::slice::from_ref(&key));
    let kept = async { if info.cache { cluster::kept(node, app, &key).await.map(Some) } else { Ok(None) } };
    let (counts, kept) = tokio::try_join!(counts, kept).map_err(unanswered)?;
    let found = counts.into_iter().next().flatten();
    let counts = found.unwrap_or(ChannelCounts { subscriptions: 0, users: is_presence.then_some(0) });
    let cache = match &kept {
        None => Cache::Unasked,
        Some(None) => Cache::Empty,
        Some(Some(kept)) => Cache::Event { data: &kept.data, ttl_seconds: kept.ttl.as_secs() },
    };
    Ok(replies::channel(found.is_some(), asked(counts, info), cache))
}

/// `GET /apps/{id}/channels/{channel}/users`
pub(super) async fn users(node: &Node, app: &RunningApp, name: &str) -> Result<String, ApiError> {
    let name = parse_presence_channel(name, &app.app)?;
    let key = ChannelKey { app: app.index, name };
    let users = cluster::users(node, &key).await.map_err(unanswered)?;
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
    let refusal = |refused| cluster::refusal(refused, Wanted::Ending);
    let receipt = node.adapter.terminate(&user, app.app.terminate_presence).map_err(refusal)?;
    if let Some(receipt) = receipt {
        receipt.confirmed().await.map_err(refusal)?;
    }
    Ok(replies::EMPTY.to_owned())
}

const fn unanswered(refused: Refused) -> ApiError {
    cluster::refusal(refused, Wanted::Answer)
}

/// Of what is known, what `info` asks for.
pub(super) fn asked(counts: ChannelCounts, info: Info) -> Counts {
    Counts {
        user_count: counts.users.filter(|_| info.user_count),
        subscription_count: Some(counts.subscriptions).filter(|_| info.subscription_count),
    }
}
