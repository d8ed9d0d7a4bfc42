//! The way out through a TLS session. Frames wait as they are, shared with other connections; they are encrypted only
//! when the socket can take them, as many as a record holds into one. So a blocked connection has one record of its own
//! at most, and with it what TLS must say for its own sake.

use std::{
    io::{self, ErrorKind},
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use tokio::net::tcp::OwnedWriteHalf;

use super::{Queue, Sent, WorkerQueues};
use crate::tls::{RECORD_BYTES, Session, SessionError, with_record};

/// A socket behind a session.
#[derive(Debug)]
pub(super) struct Secured {
    pub(super) writer: OwnedWriteHalf,
    session: Session,
    /// What waits: the frames not yet sealed, and in its count also the rest of `sealed`. Nothing if neither waits.
    pub(super) queue: Option<Box<Queue>>,
    /// Sealed and not yet written, from `sent` on.
    sealed: Vec<u8>,
    sent: usize,
    /// The word that nothing more comes is sealed.
    is_ended: bool,
}

impl Secured {
    pub(super) fn new(
        writer: OwnedWriteHalf,
        session: Session,
        sealed: &[u8],
        queues: &WorkerQueues,
    ) -> Self {
        let mut secured = Self { writer, session, queue: None, sealed: Vec::new(), sent: 0, is_ended: false };
        if !sealed.is_empty() {
            secured.hold(sealed, queues);
        }
        secured
    }

    pub(super) fn send(&mut self, frame: &Bytes, queues: &WorkerQueues) -> io::Result<Sent> {
        self.send_joined(frame, std::iter::once(frame), queues)
    }

    pub(super) fn send_joined<'a>(
        &mut self,
        joined: &[u8],
        frames: impl Iterator<Item = &'a Bytes>,
        queues: &WorkerQueues,
    ) -> io::Result<Sent> {
        let was_blocked = self.queue.is_some();
        let mut sealed = 0;
        for part in joined.chunks(RECORD_BYTES) {
            if self.queue.is_some() {
                break;
            }
            self.write_record(queues, |session, record| session.seal(part, record))?;
            sealed += part.len();
        }
        if let Some(queue) = &mut self.queue {
            queue.push_rest(frames, sealed);
        }
        Ok(self.outcome(was_blocked))
    }

    pub(super) fn send_each<'a>(
        &mut self,
        frames: impl Iterator<Item = &'a Bytes>,
        queues: &WorkerQueues,
    ) -> io::Result<Sent> {
        let was_blocked = self.queue.is_some();
        self.queue.get_or_insert_with(|| Queue::new(queues)).push_rest(frames, 0);
        if !was_blocked {
            self.flush()?;
        }
        Ok(self.outcome(was_blocked))
    }

    /// What became of what was given. Of what waits the sealed rest does not count for the bound.
    fn outcome(&self, was_blocked: bool) -> Sent {
        let sealed = self.sealed.len() - self.sent;
        self.queue.as_ref().map_or(Sent::Whole, |queue| queue.sent(sealed, was_blocked))
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.flush()? {
            ready!(self.writer.as_ref().poll_write_ready(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what waits as far as the socket takes it; true when nothing waits any more.
    fn flush(&mut self) -> io::Result<bool> {
        loop {
            let Some(queue) = &mut self.queue else { return Ok(true) };
            if let Some(rest) = self.sealed.get(self.sent..).filter(|rest| !rest.is_empty()) {
                match self.writer.try_write(rest) {
                    Ok(count) => {
                        self.sent += count;
                        queue.uncount(count);
                        queue.progress_at = Instant::now();
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                    Err(error) => return Err(error),
                }
                continue;
            }
            (self.sealed, self.sent) = (Vec::new(), 0);
            if queue.frames.is_empty() {
                self.queue = None;
                return Ok(true);
            }
            self.write_next()?;
        }
    }

    /// Seals as much of the queue as a record holds, and writes it as far as the socket takes it.
    fn write_next(&mut self) -> io::Result<()> {
        let Self { writer, session, queue: Some(queue), sealed, .. } = self else { return Ok(()) };
        let mut joined = Vec::new();
        let part = match queue.frames.front() {
            // One large frame needs no copy.
            Some(first) if first.len() >= RECORD_BYTES || queue.frames.len() == 1 => first.clone(),
            _ => {
                for frame in &queue.frames {
                    let room = RECORD_BYTES - joined.len();
                    joined.extend_from_slice(frame.get(..room.min(frame.len())).unwrap_or_default());
                    if joined.len() == RECORD_BYTES {
                        break;
                    }
                }
                Bytes::from(joined)
            }
        };
        let part = part.get(..RECORD_BYTES.min(part.len())).unwrap_or_default();
        with_record(|record| {
            let length = session.seal(part, record).map_err(io::Error::other)?;
            let record = record.get(..length).unwrap_or_default();
            queue.advance(part.len());
            let written = match writer.try_write(record) {
                Ok(count) => {
                    queue.progress_at = Instant::now();
                    count
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            let rest = record.get(written..).unwrap_or_default();
            queue.count(rest.len());
            sealed.extend_from_slice(rest);
            Ok(())
        })
    }

    /// Seals with `seal` and writes; what the socket does not take begins a queue. Nothing may wait before.
    fn write_record(
        &mut self,
        queues: &WorkerQueues,
        seal: impl FnOnce(&mut Session, &mut [u8]) -> Result<usize, SessionError>,
    ) -> io::Result<()> {
        with_record(|record| {
            let length = seal(&mut self.session, record).map_err(io::Error::other)?;
            self.write(record.get(..length).unwrap_or_default(), queues)
        })
    }

    /// Writes what is sealed, after all that was sealed before; what the socket does not take is held.
    fn write(&mut self, sealed: &[u8], queues: &WorkerQueues) -> io::Result<()> {
        let written = match self.queue {
            Some(_) => 0,
            None => match self.writer.try_write(sealed) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            },
        };
        match sealed.get(written..).unwrap_or_default() {
            [] => {}
            rest => self.hold(rest, queues),
        }
        Ok(())
    }

    fn hold(&mut self, sealed: &[u8], queues: &WorkerQueues) {
        self.sealed.extend_from_slice(sealed);
        self.queue.get_or_insert_with(|| Queue::new(queues)).count(sealed.len());
    }

    /// See [`super::Outlet::unseal`].
    pub(super) fn unseal(
        &mut self,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
        queues: &WorkerQueues,
    ) -> io::Result<Sent> {
        let was_blocked = self.queue.is_some();
        let mut answer = Vec::new();
        let received = self.session.receive(bytes, plain, &mut answer);
        if !answer.is_empty() {
            self.write(&answer, queues)?;
        }
        received.map_err(io::Error::other)?;
        if self.session.has_ended() && plain.is_empty() {
            // A client that ends the session ends the connection; it is told that it was heard, if it can be.
            self.end(queues)?;
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(self.outcome(was_blocked))
    }

    /// Says that nothing more comes, once; false while something waits for the socket.
    pub(super) fn end(&mut self, queues: &WorkerQueues) -> io::Result<bool> {
        if !self.is_ended {
            self.is_ended = true;
            self.write_record(queues, Session::seal_end)?;
        }
        Ok(self.queue.is_none())
    }

    pub(super) fn release(self) {
        self.writer.forget();
    }
}
