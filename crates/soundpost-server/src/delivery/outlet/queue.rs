//! What waits for sockets, and how much of it may.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use bytes::Bytes;

use super::Sent;
use crate::apps::WorkerId;

/// The bounds of queues, and how much waits in all of a node's together.
#[derive(Debug)]
pub struct Queued {
    by_worker: Box<[AtomicUsize]>,
    /// Of one connection, behind the frame that is on its way.
    connection_bytes_max: AtomicUsize,
    /// Of all connections of the node.
    pub node_bytes_max: usize,
}

impl Queued {
    /// Nothing queued on any of `workers` workers.
    pub fn new(workers: usize, connection_bytes_max: usize, node_bytes_max: usize) -> Arc<Self> {
        let by_worker = (0..workers).map(|_| AtomicUsize::new(0)).collect();
        let connection_bytes_max = AtomicUsize::new(connection_bytes_max);
        Arc::new(Self { by_worker, connection_bytes_max, node_bytes_max })
    }

    /// From now on another bound of one connection's queue, for what is queued next.
    pub fn set_connection_bytes_max(&self, bytes: usize) {
        self.connection_bytes_max.store(bytes, Relaxed);
    }

    /// How much may wait for one connection, behind the frame that is on its way.
    fn connection_bytes_max(&self) -> usize {
        self.connection_bytes_max.load(Relaxed)
    }

    /// Bytes in all queues of the node.
    pub fn bytes(&self) -> usize {
        self.by_worker.iter().map(|bytes| bytes.load(Relaxed)).sum()
    }

    /// Whether the node has too much queued, and this worker no less of it than the others on average.
    pub(in crate::delivery) fn asks_too_much(&self, worker: WorkerId) -> bool {
        let bytes = self.bytes();
        bytes > self.node_bytes_max && self.of(worker).load(Relaxed) >= bytes / self.by_worker.len()
    }

    #[expect(clippy::indexing_slicing, reason = "there is one for each worker, and worker ids count from 0")]
    fn of(&self, worker: WorkerId) -> &AtomicUsize {
        &self.by_worker[worker.index()]
    }
}

/// The queues of one worker, among those of all.
#[derive(Clone, Debug)]
pub struct WorkerQueues {
    /// Of all workers.
    pub(in crate::delivery) all: Arc<Queued>,
    /// Which.
    pub(in crate::delivery) worker: WorkerId,
}

impl WorkerQueues {
    fn add(&self, bytes: usize) {
        self.all.of(self.worker).fetch_add(bytes, Relaxed);
    }

    fn subtract(&self, bytes: usize) {
        self.all.of(self.worker).fetch_sub(bytes, Relaxed);
    }
}

/// What a socket did not take at once.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) frames: VecDeque<Bytes>,
    pub(super) bytes: usize,
    /// When bytes last went out, or the queue began.
    pub(super) progress_at: Instant,
    queues: WorkerQueues,
}

impl Queue {
    pub(super) fn new(queues: &WorkerQueues) -> Box<Self> {
        let frames = VecDeque::with_capacity(1);
        Box::new(Self { frames, bytes: 0, progress_at: Instant::now(), queues: queues.clone() })
    }

    /// Queues what is left of the frames after their first `written` bytes.
    pub(super) fn push_rest<'a>(&mut self, frames: impl Iterator<Item = &'a Bytes>, mut written: usize) {
        for frame in frames {
            if written >= frame.len() {
                written -= frame.len();
            } else {
                self.count(frame.len() - written);
                self.frames.push_back(frame.slice(written..));
                written = 0;
            }
        }
    }

    /// What became of the frames that were queued last. The frame on its way does not count for the bound, however large it
    /// is: nobody is cut for the size of a roster. Neither do the `sealed` bytes before it.
    pub(super) fn sent(&self, sealed: usize, was_blocked: bool) -> Sent {
        let behind_first = self.bytes - sealed - self.frames.front().map_or(0, Bytes::len);
        if behind_first > self.queues.all.connection_bytes_max() {
            Sent::Overflow
        } else if was_blocked {
            Sent::Behind
        } else {
            Sent::Blocked
        }
    }

    /// Counts bytes that wait ...
    pub(super) fn count(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.queues.add(bytes);
    }

    /// ... and that wait no more.
    pub(super) fn uncount(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.queues.subtract(bytes);
    }

    /// Forgets the first `count` bytes: they are written.
    pub(super) fn advance(&mut self, mut count: usize) {
        self.uncount(count);
        while let Some(first) = self.frames.front_mut() {
            if count < first.len() {
                *first = first.slice(count..);
                return;
            }
            count -= first.len();
            self.frames.pop_front();
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.queues.subtract(self.bytes);
    }
}
