//! One connection: what is to be written, and what has come.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::wire::{
    link::{Link, READ_BYTES, Stream},
    resp::{Decoder, Reply, RespError, pack},
};

/// With so many bytes unwritten, a connection takes no more.
const UNWRITTEN_BYTES_MAX: usize = 256 * 1024;
/// A buffer that had to be larger than this is not kept once it is empty.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// One connection.
pub(super) struct Pipe {
    stream: Box<dyn Stream>,
    read: BytesMut,
    decoder: Decoder,
    write: BytesMut,
    /// Something was written since the last flush: TLS holds it back until then.
    is_unflushed: bool,
}

impl Pipe {
    pub(super) fn new(link: Link) -> Self {
        let Link { stream, read } = link;
        Self { stream, read, decoder: Decoder::new(), write: BytesMut::new(), is_unflushed: false }
    }

    /// Puts one command behind the others.
    pub(super) fn command(&mut self, words: &[&[u8]]) {
        pack(&mut self.write, words);
    }

    /// Puts a command behind the others that is packed already.
    pub(super) fn packed(&mut self, command: &[u8]) {
        self.write.extend_from_slice(command);
    }

    /// Whether more should be put in now.
    pub(super) fn has_room(&self) -> bool {
        self.write.len() < UNWRITTEN_BYTES_MAX
    }

    /// Writes what can be written. True if there is room now that was not. Errors: those of the connection.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let had_room = self.has_room();
        while !self.write.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.write) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(bytes)) => self.write.advance(bytes),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
            self.is_unflushed = true;
        }
        if self.write.is_empty() && self.write.capacity() > KEPT_BYTES_MAX {
            self.write = BytesMut::new();
        }
        if self.is_unflushed
            && let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(cx)
        {
            self.is_unflushed = false;
            flushed?;
        }
        Ok(!had_room && self.has_room())
    }

    /// Reads once. True if anything came. Errors: those of the connection, its end among them.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        self.read.reserve(READ_BYTES);
        // Dropped before it is ready, the future has read nothing.
        match pin!(self.stream.read_buf(&mut self.read)).poll(cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "redis closed the connection; its log may say why",
            )),
            Poll::Ready(Ok(_)) => Ok(true),
            Poll::Ready(Err(error)) => Err(error),
        }
    }

    /// What has come next, if it is here in whole.
    pub(super) fn reply(&mut self) -> Result<Option<Reply>, RespError> {
        self.decoder.next(&mut self.read)
    }
}
