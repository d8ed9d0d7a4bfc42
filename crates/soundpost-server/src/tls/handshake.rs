//! The handshake of one accepted connection, on the worker that will serve it.

use std::io;

use tokio::{net::TcpStream, sync::SemaphorePermit, task::yield_now, time::timeout};
use tracing::debug;

use super::{Handshake, Session, Tls, TlsStream, with_record};
use crate::apps::WorkerId;

/// The first byte of a TLS connection: the kind of a handshake record.
const HANDSHAKE_RECORD: u8 = 0x16;

/// What a client turned out to speak.
#[derive(Debug)]
pub enum Greeted {
    /// TLS; the handshake is over.
    Tls(Box<TlsStream>),
    /// Something else, of which nothing is read yet.
    Plain(TcpStream),
}

/// Shakes hands within the time that is given for it, and counts how it went. `None`: the connection is over, and the
/// client has been told why where it could be told.
pub async fn greet(tls: &Tls, worker: WorkerId, stream: TcpStream) -> Option<Greeted> {
    let (greeted, outcome) = match timeout(tls.handshake_timeout, shake(tls, worker, stream)).await {
        Ok(Ok(Some(stream))) => {
            let outcome = Handshake::ended_well(stream.session().handshake_kind());
            (Some(Greeted::Tls(stream)), outcome)
        }
        Ok(Ok(None)) => (None, Handshake::Left),
        Ok(Err(Failed::Plain(stream))) => (Some(Greeted::Plain(stream)), Handshake::Plain),
        Ok(Err(Failed::Tls(error))) => {
            debug!(%error, "TLS handshake failed");
            (None, Handshake::failed(&error))
        }
        Ok(Err(Failed::Io(error))) => {
            debug!(%error, "TLS handshake broke off");
            (None, Handshake::Left)
        }
        Err(_) => (None, Handshake::Timeout),
    };
    tls.handshakes.add(worker, outcome);
    greeted
}

enum Failed {
    Plain(TcpStream),
    Tls(rustls::Error),
    Io(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// `None`: the client has gone.
async fn shake(tls: &Tls, worker: WorkerId, stream: TcpStream) -> Result<Option<Box<TlsStream>>, Failed> {
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => return Ok(None),
        _ if first == [HANDSHAKE_RECORD] => {}
        _ => return Err(Failed::Plain(stream)),
    }
    let mut session = Session::new(tls.config.clone()).map_err(Failed::Tls)?;
    let (mut plain, mut answer) = (Vec::new(), Vec::new());
    loop {
        stream.readable().await?;
        let turn = turn(tls, worker).await;
        let received = with_record(|buffer| match stream.try_read(buffer) {
            Ok(count) => {
                let bytes = buffer.get_mut(..count).unwrap_or_default();
                Some(Ok((count, session.receive(bytes, &mut plain, &mut answer))))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error)),
        });
        // Not a waker alone: the runtime must look for what others have sent before the next has its turn.
        yield_now().await;
        drop(turn);
        let Some(received) = received else { continue };
        let (count, received) = received?;
        send(&stream, &mut answer).await?;
        received.map_err(Failed::Tls)?;
        if count == 0 || session.has_ended() {
            return Ok(None);
        }
        if !session.is_handshaking() {
            return Ok(Some(Box::new(TlsStream::new(stream, session, plain))));
        }
    }
}

/// Waits for the turn of a handshake, which it gives up after one step: each step may take a millisecond of its worker,
/// and however many clients come at once, between two steps everybody else is served.
async fn turn(tls: &Tls, worker: WorkerId) -> Option<SemaphorePermit<'_>> {
    // An error would mean that the semaphore is closed, which nobody does.
    tls.turns.get(worker.index())?.acquire().await.ok()
}

/// Sends everything in `bytes` and empties it.
async fn send(stream: &TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut sent = 0;
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        stream.writable().await?;
        match stream.try_write(rest) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    bytes.clear();
    Ok(())
}
