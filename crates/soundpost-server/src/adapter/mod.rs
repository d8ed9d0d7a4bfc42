//! What leaves the node: accepted events on their way to every node of the cluster, this one included.
//!
//! Knows the protocol and nothing of delivery: what an adapter hears it gives to the callback it was built with.

mod census;
mod cluster;
mod local;
pub mod redis;

use std::sync::Arc;

use soundpost_protocol::{socket_id::SocketId, webhook::event::Encoded, websocket::Frame};
use tokio::sync::oneshot;

pub use census::{Census, next_beat, wants_beat};
pub use cluster::{Ask, Cluster, HeardEvent, Hearing, KeptFrame, Subject};
pub use local::Local;
use redis::RedisMetrics;

use crate::{
    apps::{ChannelKey, UserKey},
    cache::Cache,
};

/// One event for the subscribers of one channel.
#[derive(Clone, Debug)]
pub struct Broadcast {
    /// Where to.
    pub key: ChannelKey,
    /// The event as clients get it.
    pub frame: Frame,
    /// The connection that does not get it, wherever it is.
    pub exclude: Option<SocketId>,
    /// For cache channels, when it came over the HTTP API: keep it for those who come later.
    pub keep: Option<Keep>,
    /// What webhooks are told of it. It is noted, or stands in their streams, before anybody can hear the event: so an
    /// answer to it is told after it.
    pub told: Option<Arc<Encoded>>,
}

/// How an event of a cache channel is kept.
#[derive(Clone, Debug)]
pub struct Keep {
    /// Bytes of its `data` as it stands in the frame.
    pub data_bytes: usize,
    /// Where.
    pub cache: Arc<Cache>,
}

/// What the HTTP API asks about a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelCounts {
    /// Connections on the channel.
    pub subscriptions: u32,
    /// Distinct users, on presence channels.
    pub users: Option<u32>,
}

/// Why events were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A queue on the way is full. Events before the one that found it full may have been delivered.
    #[error("a queue is full")]
    Full,
    /// The store that carries events to all nodes is away. None was delivered.
    #[error("redis is away")]
    Away,
    /// The store took them, perhaps, but did not say so in time. They may be delivered.
    #[error("redis did not answer in time")]
    Unconfirmed,
}

/// What becomes of published events, once the store that carries them says so. Ends within a second.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Result<(), Refused>>);

impl Receipt {
    /// For an adapter: to be completed by the other side. One that is dropped counts as [`Refused::Unconfirmed`].
    pub fn new() -> (oneshot::Sender<Result<(), Refused>>, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self(receiver))
    }

    /// Waits for it. Errors: [`Refused`].
    pub async fn confirmed(self) -> Result<(), Refused> {
        self.0.await.unwrap_or(Err(Refused::Unconfirmed))
    }
}

/// Carries events to the nodes of one cluster. Never blocks: what cannot be queued is refused at once.
///
/// Delivery is at most once. The events of one channel reach every node, this one included, in one order; nothing is
/// promised across channels.
#[derive(Debug)]
pub enum Adapter {
    /// One node is the whole cluster.
    Local(Local),
    /// The cluster meets at a Redis.
    Redis(redis::Redis),
}

impl Adapter {
    /// Whether this node is the whole cluster: then what nobody here hears, nobody hears.
    pub const fn is_alone(&self) -> bool {
        match self {
            Self::Local(_) => true,
            Self::Redis(_) => false,
        }
    }

    /// Whether the store that carries events to all nodes is away.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Local(_) => false,
            Self::Redis(redis) => redis.is_away(),
        }
    }

    /// Whether the node has not found out yet if the store is there.
    pub fn is_starting(&self) -> bool {
        match self {
            Self::Local(_) => false,
            Self::Redis(redis) => redis.is_starting(),
        }
    }

    /// What it has counted; a node that is alone counts nothing here.
    pub fn redis_metrics(&self) -> Option<&RedisMetrics> {
        match self {
            Self::Local(_) => None,
            Self::Redis(redis) => Some(redis.metrics()),
        }
    }

    /// Takes the events of one request, in their order. Without a receipt they have been handed to the workers.
    ///
    /// Errors: [`Refused`].
    pub fn publish(&self, broadcasts: &[Broadcast]) -> Result<Option<Receipt>, Refused> {
        match self {
            Self::Local(local) => local.deliver(broadcasts).map(|()| None),
            Self::Redis(redis) => redis.publish(broadcasts),
        }
    }

    /// Takes a client event, and what webhooks are told of it: they are told if anybody gets it. Nobody waits for a
    /// receipt: where one would have said no, its sender is told by [`Hearing::relay_failed`].
    ///
    /// Errors: [`Refused`].
    pub fn relay(&self, broadcast: &Broadcast) -> Result<(), Refused> {
        match self {
            Self::Local(local) => local.deliver(std::slice::from_ref(broadcast)),
            Self::Redis(redis) => redis.relay(broadcast),
        }
    }

    /// Ends every connection of the user on all nodes; with `present`, those on presence channels as this user, too.
    /// Without a receipt it is done; with one, every node that is connected hears of it.
    ///
    /// Errors: [`Refused`].
    pub fn terminate(&self, user: &UserKey, present: bool) -> Result<Option<Receipt>, Refused> {
        match self {
            Self::Local(local) => {
                local.terminate(user, present);
                Ok(None)
            }
            Self::Redis(redis) => redis.terminate(user, present),
        }
    }
}
