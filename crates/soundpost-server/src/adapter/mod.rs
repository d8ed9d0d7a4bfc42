//! What leaves the node: accepted events on their way to every node of the cluster, this one included.
//!
//! Knows the protocol and nothing of delivery: what an adapter hears it gives to the callback it was built with.

mod local;

use std::sync::Arc;

use soundpost_protocol::{socket_id::SocketId, websocket::Frame};

pub use local::Local;

use crate::{apps::ChannelKey, cache::Cache};

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
}

/// How an event of a cache channel is kept.
#[derive(Clone, Debug)]
pub struct Keep {
    /// Bytes of its `data` as it stands in the frame.
    pub data_bytes: usize,
    /// Where.
    pub cache: Arc<Cache>,
}

/// Why events were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A queue on the way is full. Events before the one that found it full may have been delivered.
    #[error("a queue is full")]
    Full,
}

/// Carries events to the nodes of one cluster. Never blocks: what cannot be queued is refused at once.
///
/// Delivery is at most once. The events of one channel reach every node, this one included, in one order; nothing is
/// promised across channels.
#[derive(Debug)]
pub enum Adapter {
    /// One node is the whole cluster.
    Local(Local),
}

impl Adapter {
    /// Takes the events of one request, in their order.
    ///
    /// Errors: [`Refused::Full`].
    pub fn try_publish(&self, broadcasts: &[Broadcast]) -> Result<(), Refused> {
        match self {
            Self::Local(local) => local.try_publish(broadcasts),
        }
    }
}
