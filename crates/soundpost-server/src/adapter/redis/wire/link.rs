//! One connection to a Redis server, and a talk of question and answer on it: for what is said before it is put to use.

use std::{fmt, future::poll_fn, io, pin::Pin, task::Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use zeroize::Zeroize;

use super::resp::{Decoder, Reply, RespError, pack};

/// Room that a read is given, bytes. See [`super::resp`] for what that comes to.
pub const READ_BYTES: usize = 16 << 10;

/// Whatever carries bytes to a Redis server and back.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection that is ready for use: whoever asks is known to the server, and the database is chosen.
pub struct Link {
    /// The connection.
    pub stream: Box<dyn Stream>,
    /// What was read and not yet looked at.
    pub read: BytesMut,
}

/// Why a talk broke off.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The connection broke.
    #[error(transparent)]
    Broken(#[from] io::Error),
    /// The server ended the connection.
    #[error("it closed the connection")]
    Closed,
    /// What it says is not the protocol of Redis.
    #[error(transparent)]
    NotRedis(#[from] RespError),
}

impl Link {
    /// Over a stream on which nothing has been said yet.
    pub fn new(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), read: BytesMut::new() }
    }

    /// Says one command and waits for its reply; an error that the server replies is a reply.
    ///
    /// Not cancel safe: a link on which that happened is of no further use. Errors: [`LinkError`], with the same result.
    pub async fn ask(&mut self, words: &[&[u8]]) -> Result<Reply, LinkError> {
        let mut replies = self.ask_all(&[words]).await?;
        replies.pop().ok_or(LinkError::Closed)
    }

    /// Says some commands at once and waits for all their replies, as [`Self::ask`] does.
    pub async fn ask_all(&mut self, commands: &[&[&[u8]]]) -> Result<Vec<Reply>, LinkError> {
        let mut out = BytesMut::new();
        for words in commands {
            pack(&mut out, words);
        }
        let written = self.stream.write_all(&out).await;
        // A password may be in it.
        out.as_mut().zeroize();
        let flushed = if written.is_ok() { self.stream.flush().await } else { written };
        // A server that turns us away says why and closes, before it has read anything.
        let replies = self.hear(commands.len()).await;
        match (flushed, replies) {
            (Err(error), Err(_)) => Err(error.into()),
            (_, replies) => replies,
        }
    }

    /// Whether the server has neither ended the connection nor said anything that it was not asked for, as far as this
    /// host has heard: then a question may be asked. Does not wait.
    pub async fn is_quiet(&mut self) -> bool {
        let mut byte = [0; 1];
        let mut read = ReadBuf::new(&mut byte);
        let is_pending =
            poll_fn(|cx| Poll::Ready(Pin::new(&mut self.stream).poll_read(cx, &mut read).is_pending())).await;
        is_pending && self.read.is_empty()
    }

    /// So many replies; fewer if the server ends the connection after one that is an error.
    async fn hear(&mut self, count: usize) -> Result<Vec<Reply>, LinkError> {
        let (mut decoder, mut replies) = (Decoder::new(), Vec::with_capacity(count));
        while replies.len() < count {
            if let Some(reply) = decoder.next(&mut self.read)? {
                replies.push(reply);
                continue;
            }
            self.read.reserve(READ_BYTES);
            let is_refused = matches!(replies.last(), Some(Reply::Error(_)));
            match self.stream.read_buf(&mut self.read).await {
                Ok(0) | Err(_) if is_refused => break,
                Ok(0) => return Err(LinkError::Closed),
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(replies)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("unread_bytes", &self.read.len()).finish_non_exhaustive()
    }
}
