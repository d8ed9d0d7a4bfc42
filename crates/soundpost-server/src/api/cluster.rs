//! What all nodes know together, whether there is one or many: the handlers read the same for both. No node is ever asked
//! by another: what this one does not know, the adapter reads where all write it down.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use soundpost_protocol::{
    api::{ApiError, Outage, Wanted},
    channel::ChannelName,
    presence::UserId,
};

use crate::{
    adapter::{Adapter, ChannelCounts, KeptFrame, Refused},
    apps::{ChannelKey, RunningApp},
    cache::KeptEvent,
    node::Node,
};

/// The counts of each channel, in the order of `keys`; `None` for one that is not occupied. Of the channels that this node
/// hears everything about, nothing is read.
pub(super) async fn counts(
    node: &Node,
    keys: &[Arc<ChannelKey>],
) -> Result<Vec<Option<ChannelCounts>>, Refused> {
    let directory = &node.delivery.directory;
    match &*node.adapter {
        Adapter::Local(_) => Ok(keys.iter().map(|key| directory.counts(key)).collect()),
        Adapter::Redis(redis) => {
            let known: Vec<_> = keys.iter().map(|key| directory.cluster_counts(key)).collect();
            let asked = keys.iter().zip(&known).filter(|(_, known)| known.is_none());
            let asked: Vec<_> = asked.map(|(key, _)| Arc::clone(key)).collect();
            let mut answers = match asked.as_slice() {
                [] => Vec::new(),
                asked => redis.counts(asked).await?,
            }
            .into_iter();
            let occupied = |counts: &ChannelCounts| counts.subscriptions > 0;
            let found = |known: Option<ChannelCounts>| known.or_else(|| answers.next().flatten());
            Ok(known.into_iter().map(found).map(|counts| counts.filter(occupied)).collect())
        }
    }
}

/// Every occupied channel of the app whose name begins with `prefix`.
pub(super) async fn channels(
    node: &Node,
    app: &RunningApp,
    prefix: &str,
) -> Result<Vec<(ChannelName, ChannelCounts)>, Refused> {
    match &*node.adapter {
        Adapter::Local(_) => Ok(node.delivery.directory.channels(app.index, prefix)),
        Adapter::Redis(redis) => redis.channels(&app.app.id, prefix).await,
    }
}

/// The users of a presence channel; none if it is not occupied.
pub(super) async fn users(node: &Node, key: &ChannelKey) -> Result<Vec<UserId>, Refused> {
    match &*node.adapter {
        Adapter::Local(_) => Ok(node.delivery.directory.users(key)),
        Adapter::Redis(redis) => match node.delivery.directory.cluster_users(key) {
            Some(users) => Ok(users),
            None => redis.users(key).await,
        },
    }
}

/// The event that newcomers of a cache channel get, if one is kept.
pub(super) async fn kept(
    node: &Node,
    app: &RunningApp,
    key: &ChannelKey,
) -> Result<Option<KeptEvent>, Refused> {
    match &*node.adapter {
        Adapter::Local(_) => Ok(app.cache.event(&key.name, Instant::now())),
        Adapter::Redis(redis) => {
            let kept = redis.kept(key).await?;
            let ttl = |kept: &KeptFrame| Duration::from_millis(kept.milliseconds);
            Ok(kept.and_then(|kept| KeptEvent::of(&kept.frame, kept.data_bytes, ttl(&kept))))
        }
    }
}

/// What the publisher is told.
pub(super) const fn refusal(refused: Refused, wanted: Wanted) -> ApiError {
    match refused {
        Refused::Full => ApiError::OverCapacity,
        Refused::Away => ApiError::Cluster { outage: Outage::Away, wanted },
        Refused::Unconfirmed => ApiError::Cluster { outage: Outage::Silent, wanted },
    }
}
