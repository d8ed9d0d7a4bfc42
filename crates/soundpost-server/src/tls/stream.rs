//! A connection while it speaks HTTP: a bare socket, or a session over one.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{RECORD_BYTES, Session, with_record};

/// What an accepted connection is read from and written to.
#[derive(Debug)]
pub enum Transport {
    /// Nothing between us and the socket.
    Plain(TcpStream),
    /// TLS, after its handshake.
    Tls(Box<TlsStream>),
}

/// A session and its socket. Holds at most one record on its way out, and what one read has brought in.
#[derive(Debug)]
pub struct TlsStream {
    stream: TcpStream,
    session: Session,
    /// Decrypted and not yet asked for, from `taken` on.
    plain: Vec<u8>,
    taken: usize,
    /// Sealed and not yet written, from `sent` on.
    sealed: Vec<u8>,
    sent: usize,
    is_ended: bool,
}

/// A [`TlsStream`] in its parts, for whoever goes on with them.
#[derive(Debug)]
pub struct TlsParts {
    /// The socket.
    pub stream: TcpStream,
    /// What encrypts and decrypts.
    pub session: Session,
    /// What came in and was not asked for.
    pub plain: Vec<u8>,
    /// What is still to be written, before anything that is sealed from now on.
    pub sealed: Vec<u8>,
}

impl TlsStream {
    /// After the handshake; `plain` came in behind it.
    pub(super) const fn new(stream: TcpStream, session: Session, plain: Vec<u8>) -> Self {
        Self { stream, session, plain, taken: 0, sealed: Vec::new(), sent: 0, is_ended: false }
    }

    pub(super) const fn session(&self) -> &Session {
        &self.session
    }

    /// Takes it apart.
    pub fn into_parts(mut self) -> TlsParts {
        self.plain.drain(..self.taken);
        self.sealed.drain(..self.sent);
        TlsParts { stream: self.stream, session: self.session, plain: self.plain, sealed: self.sealed }
    }

    /// Gives out what is decrypted; false if there is nothing.
    fn give(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let rest = self.plain.get(self.taken..).unwrap_or_default();
        let part = rest.get(..rest.len().min(into.remaining())).unwrap_or_default();
        if part.is_empty() {
            return false;
        }
        into.put_slice(part);
        self.taken += part.len();
        if self.taken == self.plain.len() {
            (self.plain, self.taken) = (Vec::new(), 0);
        }
        true
    }

    /// Reads once. True: the client sends nothing more.
    fn fill(&mut self) -> io::Result<bool> {
        let Self { stream, session, plain, sealed, .. } = self;
        let received: io::Result<_> = with_record(|buffer| {
            let count = stream.try_read(buffer)?;
            let received = session.receive(buffer.get_mut(..count).unwrap_or_default(), plain, sealed);
            Ok((count, received))
        });
        let (count, received) = match received {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        // What TLS answers is a few bytes; what does not fit now goes out with the next write.
        self.write_sealed()?;
        received.map_err(io::Error::other)?;
        Ok(count == 0 || self.session.has_ended())
    }

    /// Writes what is sealed as far as the socket takes it; true when all is written.
    fn write_sealed(&mut self) -> io::Result<bool> {
        while let Some(rest) = self.sealed.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.try_write(rest) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        (self.sealed, self.sent) = (Vec::new(), 0);
        Ok(true)
    }

    fn poll_sealed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.write_sealed()? {
            ready!(self.stream.poll_write_ready(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Seals with `seal` and writes; what the socket does not take waits. Nothing may wait before.
    fn write_record(
        &mut self,
        seal: impl FnOnce(&mut Session, &mut [u8]) -> Result<usize, rustls::Error>,
    ) -> io::Result<()> {
        let Self { stream, session, sealed, .. } = self;
        with_record(|record| {
            let length = seal(session, record).map_err(io::Error::other)?;
            let record = record.get(..length).unwrap_or_default();
            let written = match stream.try_write(record) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            sealed.extend_from_slice(record.get(written..).unwrap_or_default());
            Ok(())
        })
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !this.give(into) {
            if this.session.has_ended() {
                return Poll::Ready(Ok(()));
            }
            ready!(this.stream.poll_read_ready(cx))?;
            if this.fill()? && this.plain.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_sealed(cx))?;
        let part = bytes.get(..bytes.len().min(RECORD_BYTES)).unwrap_or_default();
        this.write_record(|session, record| session.seal(part, record))?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_sealed(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_sealed(cx))?;
        if !this.is_ended {
            this.is_ended = true;
            this.write_record(Session::seal_end)?;
        }
        ready!(this.poll_sealed(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }

    /// Records are sealed from one piece, so hyper should join head and body before.
    fn is_write_vectored(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => {
                let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
                Pin::new(&mut **stream).poll_write(cx, first)
            }
        }
    }
}
