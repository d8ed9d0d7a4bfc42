//! The way out through a socket with nothing in between.

use std::{
    io::{self, ErrorKind, IoSlice},
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use tokio::net::tcp::OwnedWriteHalf;

use super::{Queue, Sent, WorkerQueues};

/// Slices of one `writev`.
const SLICES: usize = 64;

/// A socket with nothing in between.
#[derive(Debug)]
pub(super) struct Plain {
    pub(super) writer: OwnedWriteHalf,
    pub(super) queue: Option<Box<Queue>>,
}

impl Plain {
    pub(super) const fn new(writer: OwnedWriteHalf) -> Self {
        Self { writer, queue: None }
    }

    pub(super) fn send(&mut self, frame: &Bytes, queues: &WorkerQueues) -> io::Result<Sent> {
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

    pub(super) fn send_joined<'a>(
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

    pub(super) fn send_each<'a>(
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
        queue.sent(0, was_blocked)
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
