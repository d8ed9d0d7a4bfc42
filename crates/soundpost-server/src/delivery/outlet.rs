//! The way out to one client: straight into the socket while it takes everything, through a bounded queue while it
//! does not.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use tokio::net::{TcpStream, tcp::OwnedWriteHalf};

use crate::apps::WorkerId;

/// Slices of one `writev`.
const SLICES: usize = 64;

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

    /// Bytes in all queues of the node.
    pub fn bytes(&self) -> usize {
        self.by_worker.iter().map(|bytes| bytes.load(Relaxed)).sum()
    }

    /// Whether the node has too much queued, and this worker no less of it than the others on average.
    pub(super) fn asks_too_much(&self, worker: WorkerId) -> bool {
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
    pub(super) all: Arc<Queued>,
    /// Which.
    pub(super) worker: WorkerId,
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
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// When bytes last went out, or the queue began.
    progress_at: Instant,
    queues: WorkerQueues,
}

impl Queue {
    fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.queues.add(frame.len());
        self.frames.push_back(frame);
    }

    /// Forgets the first `count` bytes: they are written.
    fn advance(&mut self, mut count: usize) {
        self.bytes -= count;
        self.queues.subtract(count);
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

/// What became of frames given to an outlet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The socket took them.
    Whole,
    /// They wait, wholly or in part; the queue was empty before.
    Blocked,
    /// They wait behind others.
    Behind,
    /// They wait, and the queue is longer than it may be.
    Overflow,
}

/// One client's socket, the writing side.
#[derive(Debug)]
pub struct Outlet {
    writer: OwnedWriteHalf,
    queue: Option<Box<Queue>>,
}

impl Outlet {
    /// Nothing queued.
    pub const fn new(writer: OwnedWriteHalf) -> Self {
        Self { writer, queue: None }
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        self.writer.as_ref()
    }

    /// Whether frames wait.
    pub const fn is_blocked(&self) -> bool {
        self.queue.is_some()
    }

    /// Bytes that wait.
    pub fn queued_bytes(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.bytes)
    }

    /// Since when nothing has gone out, if anything waits.
    pub fn stalled_since(&self) -> Option<Instant> {
        self.queue.as_ref().map(|queue| queue.progress_at)
    }

    /// Sends one frame. Errors: those of the socket; it is of no more use then.
    pub fn send(&mut self, frame: &Bytes, queues: &WorkerQueues) -> io::Result<Sent> {
        if self.queue.is_none() {
            match self.writer.try_write(frame) {
                Ok(count) if count == frame.len() => return Ok(Sent::Whole),
                Ok(count) => return Ok(self.wait([frame].into_iter(), count, queues)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.wait([frame].into_iter(), 0, queues))
    }

    /// Sends several frames with one call to the kernel; `joined` holds the same bytes one after the other.
    pub fn send_joined<'a>(
        &mut self,
        joined: &[u8],
        frames: impl Iterator<Item = &'a Bytes>,
        queues: &WorkerQueues,
    ) -> io::Result<Sent> {
        let mut written = 0;
        if self.queue.is_none() {
            match self.writer.try_write(joined) {
                Ok(count) if count == joined.len() => return Ok(Sent::Whole),
                Ok(count) => written = count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.wait(frames, written, queues))
    }

    /// Sends several frames that are too large to be joined.
    pub fn send_each<'a>(
        &mut self,
        frames: impl Iterator<Item = &'a Bytes> + Clone,
        queues: &WorkerQueues,
    ) -> io::Result<Sent> {
        let mut rest = frames;
        while self.queue.is_none() {
            let mut slices: [IoSlice<'_>; SLICES] = std::array::from_fn(|_| IoSlice::new(&[]));
            let mut filled = 0;
            let mut bytes = 0;
            for (slice, frame) in slices.iter_mut().zip(rest.clone()) {
                *slice = IoSlice::new(frame);
                filled += 1;
                bytes += frame.len();
            }
            let written = match self.writer.try_write_vectored(slices.get(..filled).unwrap_or_default()) {
                _ if filled == 0 => return Ok(Sent::Whole),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            if written < bytes {
                return Ok(self.wait(rest, written, queues));
            }
            rest.nth(filled - 1);
        }
        Ok(self.wait(rest, 0, queues))
    }

    /// Queues what is left of the frames after their first `written` bytes.
    fn wait<'a>(
        &mut self,
        frames: impl Iterator<Item = &'a Bytes>,
        mut written: usize,
        queues: &WorkerQueues,
    ) -> Sent {
        let was_blocked = self.queue.is_some();
        let queue = self.queue.get_or_insert_with(|| {
            let frames = VecDeque::with_capacity(1);
            Box::new(Queue { frames, bytes: 0, progress_at: Instant::now(), queues: queues.clone() })
        });
        for frame in frames {
            if written >= frame.len() {
                written -= frame.len();
            } else {
                queue.push(frame.slice(written..));
                written = 0;
            }
        }
        // The frame on its way does not count, however large it is: nobody is cut for the size of a roster.
        let behind_first = queue.bytes - queue.frames.front().map_or(0, Bytes::len);
        if behind_first > queues.all.connection_bytes_max.load(Relaxed) {
            Sent::Overflow
        } else if was_blocked {
            Sent::Behind
        } else {
            Sent::Blocked
        }
    }

    /// Writes what waits as far as the socket takes it; `Ready` when nothing waits any more. Wakes the task of `cx`
    /// when it can go on.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(queue) = &mut self.queue {
            let mut slices: [IoSlice<'_>; SLICES] = std::array::from_fn(|_| IoSlice::new(&[]));
            let mut filled = 0;
            for (slice, frame) in slices.iter_mut().zip(&queue.frames) {
                *slice = IoSlice::new(frame);
                filled += 1;
            }
            match self.writer.try_write_vectored(slices.get(..filled).unwrap_or_default()) {
                Ok(count) => {
                    queue.progress_at = Instant::now();
                    queue.advance(count);
                    if queue.frames.is_empty() {
                        self.queue = None;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ready!(self.stream().poll_write_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ends the writing side after everything sent so far.
    pub fn shutdown(&self) -> io::Result<()> {
        socket2::SockRef::from(self.stream()).shutdown(std::net::Shutdown::Write)
    }

    /// Lets go of the socket, which closes when the reading side does; what was not ended before needs no ending.
    pub(super) fn release(self) {
        self.writer.forget();
    }

    /// Ends the connection at once and frees what the kernel holds for it: the client sees a reset.
    pub fn cut(self) {
        // An error means that there is no connection any more.
        drop(socket2::SockRef::from(self.stream()).set_linger(Some(std::time::Duration::ZERO)));
        self.release();
    }
}
