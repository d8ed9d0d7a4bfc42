//! A worker's inbox: everything that other threads, and the worker itself, want done in one order.
//!
//! Room is reserved before anything is put in, so that an event reaches every worker that has subscribers or none.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use soundpost_protocol::{channel::ChannelName, socket_id::SocketId, websocket::Frame};
use tokio::sync::Notify;

use super::ConnectionRef;
use crate::apps::{ChannelKey, WorkerId};

/// What waits in one inbox may cost this much. An item costs its frame and [`ITEM_COST`]: about four thousand small
/// events, some seconds of work at worst, after which a quick 503 serves the publisher better than a long wait.
const COST_MAX: usize = 16 << 20;

/// Joins may go on where events are refused already: they come from clients that are connected.
const JOIN_COST_MAX: usize = 4 * COST_MAX;

/// The part of an item's cost that is not its frame.
const ITEM_COST: usize = 4096;

/// Something for a worker to do.
#[derive(Debug)]
pub enum Item {
    /// Hand the frame to every local subscriber of the channel but `exclude`.
    Event {
        /// Where to.
        channel: Arc<ChannelKey>,
        /// What.
        frame: Frame,
        /// Whom not, wherever that connection is.
        exclude: Option<SocketId>,
    },
    /// Tell every local subscriber who came or left, but those whose roster says so already.
    Notice {
        /// Where to.
        channel: Arc<ChannelKey>,
        /// What.
        frame: Frame,
        /// The version that this change gave the roster.
        roster_version: u64,
    },
    /// The connection is in the directory: tell it so and let it hear what follows.
    Join {
        /// Who.
        connection: ConnectionRef,
        /// What it asked for, and may have withdrawn since.
        ticket: u32,
        /// On cache channels what was kept when it joined, or that nothing was.
        cached: Option<Frame>,
    },
    /// The connection has asked again for a channel it holds: tell it again.
    Rejoin {
        /// Who.
        connection: ConnectionRef,
        /// What.
        channel: Arc<ChannelKey>,
    },
    /// The join of a connection was refused after it had waited; the directory knows why. Tell it.
    Refuse {
        /// Who.
        connection: SocketId,
        /// What it asked for, and may have withdrawn since.
        ticket: u32,
        /// Where it is not let in.
        channel: Arc<ChannelKey>,
    },
    /// A client event that was taken did not reach the cluster for certain: tell its sender.
    RelayFailed {
        /// Who.
        connection: SocketId,
        /// On which channel.
        channel: ChannelName,
    },
    /// Let those in who wait for a large roster.
    Admit,
    /// Send the frame to one connection.
    Tell {
        /// Whom.
        connection: SocketId,
        /// What.
        frame: Frame,
    },
    /// End one connection, as the application asked.
    Terminate {
        /// Which.
        connection: SocketId,
    },
}

impl Item {
    const fn cost(&self) -> usize {
        match self {
            Self::Event { frame, .. } | Self::Notice { frame, .. } | Self::Tell { frame, .. } => cost(frame),
            Self::Join { .. }
            | Self::Rejoin { .. }
            | Self::Refuse { .. }
            | Self::RelayFailed { .. }
            | Self::Terminate { .. }
            | Self::Admit => ITEM_COST,
        }
    }
}

const fn cost(frame: &Frame) -> usize {
    frame.bytes().len() + ITEM_COST
}

/// What is put in, which decides how much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// An event: refused when the inbox is full.
    Event,
    /// A join and its notice: refused much later.
    Join,
    /// What must not be lost, or the clients' picture would stay wrong: that a member left, that a watched user came or
    /// went, that a user is to be disconnected. Never refused; clients that come and go bound it.
    Leave,
}

/// One worker's inbox. Any thread puts in; only the worker takes.
#[derive(Debug, Default)]
pub struct Inbox {
    items: Mutex<VecDeque<Item>>,
    /// Cost of all that is inside or reserved.
    cost: AtomicUsize,
    filled: Notify,
}

impl Inbox {
    /// Reserves room for an item with this frame; false if there is none.
    pub(super) fn reserve(&self, frame: Option<&Frame>, urgency: Urgency) -> bool {
        let more = frame.map_or(ITEM_COST, cost);
        let max = match urgency {
            Urgency::Event => COST_MAX,
            Urgency::Join => JOIN_COST_MAX,
            Urgency::Leave => usize::MAX,
        };
        let before = self.cost.fetch_add(more, Ordering::Relaxed);
        let fits = before <= max.saturating_sub(more);
        if !fits {
            self.cost.fetch_sub(more, Ordering::Relaxed);
        }
        fits
    }

    /// Gives back room that [`Self::reserve`] gave for an item that will not come.
    pub(super) fn release(&self, frame: Option<&Frame>) {
        self.cost.fetch_sub(frame.map_or(ITEM_COST, cost), Ordering::Relaxed);
    }

    /// Puts in an item for which room was reserved. The worker sleeps on until it is woken.
    pub(super) fn put(&self, item: Item) {
        self.items.lock().push_back(item);
    }

    /// Whether events are taken.
    fn has_room(&self) -> bool {
        self.cost.load(Ordering::Relaxed) < COST_MAX
    }

    fn wake(&self) {
        self.filled.notify_one();
    }

    /// Takes all there is, in its order; `into` must be empty and its room is used for what comes next.
    pub fn take(&self, into: &mut VecDeque<Item>) {
        std::mem::swap(&mut *self.items.lock(), into);
        let taken = into.iter().map(Item::cost).sum();
        self.cost.fetch_sub(taken, Ordering::Relaxed);
    }

    /// Waits until something was put in since the last call. Cancel safe.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }
}

/// The inboxes of all workers of a node.
#[derive(Debug)]
pub struct Inboxes(Box<[Inbox]>);

impl Inboxes {
    /// One for each worker.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Inbox::default()).collect())
    }

    /// Whether no inbox is so full that it refuses events.
    pub(super) fn have_room(&self) -> bool {
        self.0.iter().all(Inbox::has_room)
    }

    /// The inbox of a worker somebody outside has named, if there is that worker.
    pub(super) fn get(&self, worker: WorkerId) -> Option<&Inbox> {
        self.0.get(worker.index())
    }

    /// The inbox of one worker.
    #[expect(clippy::indexing_slicing, reason = "there is one for each worker, and worker ids count from 0")]
    pub fn of(&self, worker: WorkerId) -> &Inbox {
        &self.0[worker.index()]
    }
}

/// Workers whose inboxes were filled and who are woken once, when this is dropped.
#[derive(Debug)]
pub struct Wakes<'a> {
    inboxes: &'a Inboxes,
    filled: [u64; crate::apps::WORKERS_MAX / 64],
}

impl<'a> Wakes<'a> {
    /// Nobody yet.
    pub const fn new(inboxes: &'a Inboxes) -> Self {
        Self { inboxes, filled: [0; crate::apps::WORKERS_MAX / 64] }
    }

    pub(super) fn add(&mut self, worker: WorkerId) {
        let (word, bit) = (worker.index() / 64, worker.index() % 64);
        if let Some(word) = self.filled.get_mut(word) {
            *word |= 1 << bit;
        }
    }
}

impl Drop for Wakes<'_> {
    fn drop(&mut self) {
        for (word, inboxes) in self.filled.iter().zip(self.inboxes.0.chunks(64)) {
            for (bit, inbox) in inboxes.iter().enumerate() {
                if word & (1 << bit) != 0 {
                    inbox.wake();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_inbox_refuses_events_first_and_leaves_never() {
        let inbox = Inbox::default();
        let frame = Frame::text(1 << 20, |out| out.resize(out.len() + (1 << 20), b'x'));
        let mut taken = VecDeque::new();
        for urgency in [Urgency::Event, Urgency::Join, Urgency::Leave] {
            let fit = (0..100).take_while(|_| inbox.reserve(Some(&frame), urgency)).count();
            taken.push_back(fit);
        }
        assert_eq!(taken, [15, 48, 100]);
        inbox.release(Some(&frame));
        assert!(!inbox.reserve(None, Urgency::Event));
    }

    #[test]
    fn what_is_taken_makes_room() {
        let inbox = Inbox::default();
        let connection = ConnectionRef::NONE;
        let mut items = VecDeque::new();
        for round in 0..3 {
            let mut put = 0;
            while inbox.reserve(None, Urgency::Event) {
                inbox.put(Item::Join { connection, ticket: put, cached: None });
                put += 1;
            }
            assert_eq!(put, 4096, "round {round}");
            inbox.take(&mut items);
            assert_eq!(items.len(), 4096);
            items.clear();
        }
    }
}
