//! The way out to one client: straight into the socket while it takes everything, through a bounded queue while it
//! does not. With TLS in between it is the same way.

mod plain;
mod queue;
mod secured;

use std::{
    io,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use tokio::net::{TcpStream, tcp::OwnedWriteHalf};

pub use self::queue::{Queued, WorkerQueues};
use self::{plain::Plain, queue::Queue, secured::Secured};
use crate::tls::Session;

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
        Self(Kind::Plain(Plain::new(writer)))
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
