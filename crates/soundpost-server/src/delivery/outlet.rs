//! The way out to one client: straight into the socket while it takes everything, through a bounded queue while it
//! does not. With TLS in between it is the same way, in [`secured`].

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

mod secured;

use secured::Secured;

use crate::{apps::WorkerId, tls::Session};

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
    fn new(queues: &WorkerQueues) -> Box<Self> {
        let frames = VecDeque::with_capacity(1);
        Box::new(Self { frames, bytes: 0, progress_at: Instant::now(), queues: queues.clone() })
    }

    /// Queues what is left of the frames after their first `written` bytes.
    fn push_rest<'a>(&mut self, frames: impl Iterator<Item = &'a Bytes>, mut written: usize) {
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

    /// Counts bytes that wait ...
    fn count(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.queues.add(bytes);
    }

    /// ... and that wait no more.
    fn uncount(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.queues.subtract(bytes);
    }

    /// Forgets the first `count` bytes: they are written.
    fn advance(&mut self, mut count: usize) {
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
pub struct Outlet(Kind);

#[derive(Debug)]
enum Kind {
    Plain(Plain),
    Secured(Box<Secured>),
}

impl Outlet {
    /// Nothing queued, nothing in between.
    pub const fn plain(writer: OwnedWriteHalf) -> Self {
        Self(Kind::Plain(Plain { writer, queue: None }))
    }

    /// Nothing queued but `sealed`, which `session` has made and the socket has not taken yet.
    pub fn secured(writer: OwnedWriteHalf, session: Session, sealed: &[u8], queues: &WorkerQueues) -> Self {
        Self(Kind::Secured(Box::new(Secured::new(writer, session, sealed, queues))))
    }

    const fn queue(&self) -> Option<&Queue> {
        let queue = match &self.0 {
            Kind::Plain(plain) => &plain.queue,
            Kind::Secured(secured) => &secured.queue,
        };
        match queue {
            Some(queue) => Some(queue),
            None => None,
        }
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        match &self.0 {
            Kind::Plain(plain) => plain.writer.as_ref(),
            Kind::Secured(secured) => secured.writer.as_ref(),
        }
    }

    /// Whether the socket is written to and read from as it is.
    pub const fn is_plain(&self) -> bool {
        matches!(self.0, Kind::Plain(_))
    }

    /// Whether frames wait.
    pub const fn is_blocked(&self) -> bool {
        self.queue().is_some()
    }

    /// Bytes that wait.
    pub fn queued_bytes(&self) -> usize {
        self.queue().map_or(0, |queue| queue.bytes)
    }

    /// Since when nothing has gone out, if anything waits.
    pub fn stalled_since(&self) -> Option<Instant> {
        self.queue().map(|queue| queue.progress_at)
    }

    /// Sends one frame. Errors: those of the socket; it is of no more use then.
    pub fn send(&mut self, frame: &Bytes, queues: &WorkerQueues) -> io::Result<Sent> {
        match &mut self.0 {
            Kind::Plain(plain) => plain.send(frame, queues),
            Kind::Secured(secured) => secured.send(frame, queues),
        }
    }

    /// Sends several frames with one call to the kernel; `joined` holds the same bytes one after the other.
    pub fn send_joined<'a>(
        &mut self,
        joined: &[u8],
        frames: impl Iterator<Item = &'a Bytes>,
        queues: &WorkerQueues,
    ) -> io::Result<Sent> {
        match &mut self.0 {
            Kind::Plain(plain) => plain.send_joined(joined, frames, queues),
            Kind::Secured(secured) => secured.send_joined(joined, frames, queues),
        }
    }

    /// Sends several frames that are too large to be joined.
    pub fn send_each<'a>(
        &mut self,
        frames: impl Iterator<Item = &'a Bytes> + Clone,
        queues: &WorkerQueues,
    ) -> io::Result<Sent> {
        match &mut self.0 {
            Kind::Plain(plain) => plain.send_each(frames, queues),
            Kind::Secured(secured) => secured.send_each(frames, queues),
        }
    }

    /// Writes what waits as far as the socket takes it; `Ready` when nothing waits any more. Wakes the task of `cx`
    /// when it can go on.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Plain(plain) => plain.poll_flush(cx),
            Kind::Secured(secured) => secured.poll_flush(cx),
        }
    }

    /// What the client says in `bytes`, which were read from its socket, is appended to `plain`. `None`: there is
    /// nothing in between, so `bytes` are what it says.
    ///
    /// Errors: `bytes` are not of this session, or the client has ended it; the socket is of no more use then.
    pub fn unseal(
        &mut self,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
        queues: &WorkerQueues,
    ) -> Option<io::Result<Sent>> {
        match &mut self.0 {
            Kind::Plain(_) => None,
            Kind::Secured(secured) => Some(secured.unseal(bytes, plain, queues)),
        }
    }

    /// Ends the writing side after everything sent so far; false if a last word must wait for the socket before.
    pub fn shutdown(&mut self, queues: &WorkerQueues) -> io::Result<bool> {
        if let Kind::Secured(secured) = &mut self.0
            && !secured.end(queues)?
        {
            return Ok(false);
        }
        socket2::SockRef::from(self.stream()).shutdown(std::net::Shutdown::Write)?;
        Ok(true)
    }

    /// Lets go of the socket, which closes when the reading side does; what was not ended before needs no ending.
    pub(super) fn release(self) {
        match self.0 {
            Kind::Plain(plain) => plain.writer.forget(),
            Kind::Secured(secured) => secured.release(),
        }
    }

    /// Ends the connection at once and frees what the kernel holds for it: the client sees a reset.
    pub fn cut(self) {
        // An error means that there is no connection any more.
        drop(socket2::SockRef::from(self.stream()).set_linger(Some(std::time::Duration::ZERO)));
        self.release();
    }
}

/// A socket with nothing in between.
#[derive(Debug)]
struct Plain {
    writer: OwnedWriteHalf,
    queue: Option<Box<Queue>>,
}

impl Plain {
    fn send(&mut self, frame: &Bytes, queues: &WorkerQueues) -> io::Result<Sent> {
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

    fn send_joined<'a>(
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

    fn send_each<'a>(
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
        written: usize,
        queues: &WorkerQueues,
    ) -> Sent {
        let was_blocked = self.queue.is_some();
        let queue = self.queue.get_or_insert_with(|| Queue::new(queues));
        queue.push_rest(frames, written);
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

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
                    ready!(self.writer.as_ref().poll_write_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}
