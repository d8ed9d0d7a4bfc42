//! Delivery: from an accepted event, join or leave to every subscriber's socket on this node.
//!
//! Delivering never waits: what can be waited for in here is only that there is something to do. Nothing knows HTTP,
//! Redis or configuration files.

mod cluster;
mod counts;
mod directory;
mod fan_out;
mod hears;
mod hub;
mod inbox;
mod membership;
mod outlet;
mod slab;
mod subscribers;
mod ticker;
mod trigger;
mod users;
mod wheel;

use std::sync::{Arc, atomic::AtomicUsize};

use soundpost_protocol::{presence::NodeId, socket_id::SocketId};

pub use directory::Directory;
pub use fan_out::Delivering;
pub use hears::Hears;
pub use hub::{Arrival, Hub, Seat};
pub use inbox::{Inbox, Inboxes, Item, Wakes};
pub use membership::{Company, Joiner, Joining, Leaving};
pub use outlet::{Outlet, Queued, Sent, WorkerQueues};
pub use slab::Slab;
pub use subscribers::Subscriber;
pub use ticker::{Due, Ticker};
pub use users::{SigningIn, Users};

use crate::{adapter, apps::WorkerId, webhook};

/// Names a connection on its worker: the slot it lives in, and which of the slot's tenants it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionRef(u64);

impl ConnectionRef {
    /// Nobody; what a subscriber who left leaves behind.
    pub const NONE: Self = Self(u64::MAX);

    const fn new(slot: u32, generation: u32) -> Self {
        Self((slot as u64) << 32 | generation as u64)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
    const fn parts(self) -> (u32, u32) {
        ((self.0 >> 32) as u32, self.0 as u32)
    }

    /// The public name of this connection: the left half says where it lives, the right half is `random` and makes
    /// it unique in the cluster and over restarts.
    pub fn socket_id(self, worker: WorkerId, random: u64) -> SocketId {
        // A slot fits 24 bits: see `SLOTS_MAX`.
        SocketId { left: u64::from(worker.0) << 56 | self.0, right: random >> 1 | 1 }
    }

    /// Where the connection with this public name lives, if it is one of ours; the slot there must compare the
    /// whole name.
    pub fn of(socket_id: SocketId) -> (WorkerId, Self) {
        let [worker, ..] = socket_id.left.to_be_bytes();
        (WorkerId(worker), Self(socket_id.left & (u64::MAX >> 8)))
    }
}

/// How far the picture of who is there reaches.
#[derive(Debug)]
pub enum Reach {
    /// This node alone: this life of it, the writer of every roster.
    Local(NodeId),
    /// All nodes of a cluster.
    Cluster(Arc<adapter::Cluster>),
}

/// Everything the workers of a node share for delivery.
#[derive(Debug)]
pub struct Delivery {
    /// Who is subscribed, by worker.
    pub directory: Directory,
    /// Who is signed in, and who watches whom.
    users: Users,
    /// What was put off.
    pub ticker: Ticker,
    /// The workers' inboxes.
    pub inboxes: Inboxes,
    /// Clients that have a seat on some worker, those that are closing too.
    pub seats: AtomicUsize,
    /// What webhooks tell of.
    pub webhooks: Arc<webhook::Inbox>,
    /// This life of this node, the writer of every roster of a node that is alone.
    node: NodeId,
    /// The other nodes, if there may be any.
    cluster: Option<Arc<adapter::Cluster>>,
}

impl Delivery {
    /// For `workers` workers.
    pub fn new(workers: usize, reach: Reach) -> Self {
        let (node, cluster) = match reach {
            Reach::Local(node) => (node, None),
            Reach::Cluster(cluster) => (cluster.life(), Some(cluster)),
        };
        Self {
            directory: Directory::default(),
            users: Users::default(),
            ticker: Ticker::default(),
            inboxes: Inboxes::new(workers),
            seats: AtomicUsize::new(0),
            webhooks: Arc::new(webhook::Inbox::new(node)),
            node,
            cluster,
        }
    }

    /// Whether there may be other nodes.
    pub const fn is_clustered(&self) -> bool {
        self.cluster.is_some()
    }

    /// Collects wake-ups; drop it when all that belongs together is put in.
    pub const fn wakes(&self) -> Wakes<'_> {
        Wakes::new(&self.inboxes)
    }
}

#[cfg(test)]
mod tests;
