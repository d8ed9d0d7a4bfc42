//! What the node wants published, between the workers that take it and the thread that writes it.
//!
//! What waits here can be taken back: Redis has not seen it. Whoever puts something in holds the lock for a push, and wakes the thread only if it sleeps.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;
use soundpost_protocol::{socket_id::SocketId, webhook::event::Encoded};
use tokio::sync::{Notify, oneshot};

use crate::{
    adapter::{Broadcast, Refused},
    apps::{AppIndex, ChannelKey},
};

/// Publishes that wait at most.
pub const PUBLISHES_MAX: usize = 65_536;
/// Their bytes at most; a single one may have more if it is alone.
pub const PUBLISH_BYTES_MAX: usize = 64 << 20;

/// How many are looked at to find whether one of them is for a topic.
const LATELY: usize = 1024;

/// One command that publishes.
#[derive(Debug)]
pub(super) struct Publish {
    /// The whole command.
    pub(super) command: Vec<u8>,
    /// Where in it the message stands; `None` if nothing counts it.
    pub(super) message_at: Option<usize>,
    /// The slot of its topic.
    pub(super) slot: u16,
    /// What stands for its topic where numbers are given.
    pub(super) topic: u64,
    /// Its number on the topic, once it is written.
    pub(super) sequence: u64,
    /// When it was taken.
    pub(super) taken_at: Instant,
    /// What is delivered on this node if Redis goes away, where the settings say so.
    pub(super) broadcast: Option<Box<Broadcast>>,
    /// What the command tells webhooks.
    pub(super) told: Option<Told>,
    /// Who is told.
    pub(super) done: Done,
}

/// What webhooks of an app are told of an event.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) app: AppIndex,
    pub(super) event: Arc<Encoded>,
}

/// Who is told what became of it.
#[derive(Debug)]
pub(super) enum Done {
    /// Nobody any more.
    Nobody,
    /// Whoever waits for this one.
    Alone(oneshot::Sender<Result<(), Refused>>),
    /// Whoever waits for all of a request.
    Batch(Arc<Batch>),
    /// The sender of a client event, if it failed.
    Sender(SocketId, Box<ChannelKey>),
}

/// The publishes of one request.
#[derive(Debug)]
pub(super) struct Batch {
    left: AtomicUsize,
    /// What has become of those that are done: a bit for each outcome.
    outcomes: AtomicU8,
    sender: Mutex<Option<oneshot::Sender<Result<(), Refused>>>>,
}

impl Batch {
    pub(super) fn new(publishes: usize, sender: oneshot::Sender<Result<(), Refused>>) -> Arc<Self> {
        let sender = Mutex::new(Some(sender));
        Arc::new(Self { left: AtomicUsize::new(publishes), outcomes: AtomicU8::new(0), sender })
    }

    fn complete(&self, outcome: Result<(), Refused>) {
        const DONE: u8 = 1;
        const FULL: u8 = 2;
        const AWAY: u8 = 4;
        const UNCONFIRMED: u8 = 8;
        let bit = match outcome {
            Ok(()) => DONE,
            Err(Refused::Full) => FULL,
            Err(Refused::Away) => AWAY,
            Err(Refused::Unconfirmed) => UNCONFIRMED,
        };
        self.outcomes.fetch_or(bit, Ordering::AcqRel);
        if self.left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let outcomes = self.outcomes.load(Ordering::Acquire);
        let outcome = match outcomes {
            DONE => Ok(()),
            AWAY => Err(Refused::Away),
            _ if outcomes & (AWAY | UNCONFIRMED) == 0 => Err(Refused::Full),
            // Beside one that was or may have been delivered, it does not matter that another was not.
            _ => Err(Refused::Unconfirmed),
        };
        if let Some(sender) = self.sender.lock().take() {
            sender.send(outcome).unwrap_or_default();
        }
    }
}

impl Done {
    /// Says what became of it. Gives back the sender of a client event that must be told that it failed.
    pub(super) fn complete(self, outcome: Result<(), Refused>) -> Option<(SocketId, Box<ChannelKey>)> {
        match self {
            Self::Nobody => None,
            // Who does not wait any more does not need to know.
            Self::Alone(sender) => {
                sender.send(outcome).unwrap_or_default();
                None
            }
            Self::Batch(batch) => {
                batch.complete(outcome);
                None
            }
            Self::Sender(socket_id, channel) => outcome.is_err().then_some((socket_id, channel)),
        }
    }
}

/// What the node wants published. At first it is closed.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    put: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Whether there is anybody to write it.
    is_open: bool,
    publishes: VecDeque<Publish>,
    bytes: usize,
}

impl Outbox {
    /// Whether anything can be put in.
    pub(super) fn is_open(&self) -> bool {
        self.waiting.lock().is_open
    }

    /// Puts the publishes of one request in, one after the other without anything between them; or none, and gives them
    /// back.
    pub(super) fn put(&self, publishes: Vec<Publish>) -> Result<(), (Refused, Vec<Publish>)> {
        let bytes = publishes.iter().map(|publish| publish.command.len()).sum::<usize>();
        {
            let waiting = &mut *self.waiting.lock();
            if !waiting.is_open {
                return Err((Refused::Away, publishes));
            }
            let is_room = waiting.publishes.len() + publishes.len() <= PUBLISHES_MAX
                && waiting.bytes + bytes <= PUBLISH_BYTES_MAX;
            if !is_room && !waiting.publishes.is_empty() {
                return Err((Refused::Full, publishes));
            }
            waiting.bytes += bytes;
            waiting.publishes.extend(publishes);
        }
        self.put.notify_one();
        Ok(())
    }

    /// Waits until something was put in since the last call. Cancel safe.
    pub(super) async fn filled(&self) {
        self.put.notified().await;
    }

    /// There is something else to be done.
    pub(super) fn wake(&self) {
        self.put.notify_one();
    }

    /// Takes the first ones out, as long as they are within both bounds; at least one if `commands` is not 0. Without
    /// `tells` the first that tells webhooks anything stays, and all behind it.
    pub(super) fn take(&self, commands: usize, bytes: usize, tells: bool, into: &mut Vec<Publish>) {
        let waiting = &mut *self.waiting.lock();
        let mut taken = 0;
        while into.len() < commands
            && let Some(next) = waiting.publishes.front()
            && (into.is_empty() || taken + next.command.len() <= bytes)
            && (tells || next.told.is_none())
        {
            taken += next.command.len();
            into.extend(waiting.publishes.pop_front());
        }
        waiting.bytes -= taken;
    }

    /// Whether anything for this topic is among the last that were put in.
    pub(super) fn has_lately(&self, topic: u64) -> bool {
        let waiting = self.waiting.lock();
        waiting.publishes.iter().rev().take(LATELY).any(|publish| publish.topic == topic)
    }

    /// Takes back what was taken on before `taken_at`.
    pub(super) fn withdraw(&self, taken_at: Instant) -> Vec<Publish> {
        let waiting = &mut *self.waiting.lock();
        let late = waiting.publishes.iter().take_while(|publish| publish.taken_at <= taken_at).count();
        let late: Vec<_> = waiting.publishes.drain(..late).collect();
        waiting.bytes -= late.iter().map(|publish| publish.command.len()).sum::<usize>();
        late
    }

    /// Takes all that waits; when nothing did, nothing can be put in from now on.
    pub(super) fn close(&self) -> VecDeque<Publish> {
        let waiting = &mut *self.waiting.lock();
        waiting.is_open = !waiting.publishes.is_empty();
        waiting.bytes = 0;
        mem::take(&mut waiting.publishes)
    }

    /// From now on there is somebody to write it.
    pub(super) fn open(&self) {
        self.waiting.lock().is_open = true;
    }

    /// How many wait, and their bytes.
    pub(super) fn fill(&self) -> (usize, usize) {
        let waiting = self.waiting.lock();
        (waiting.publishes.len(), waiting.bytes)
    }
}

#[cfg(test)]
mod tests;
