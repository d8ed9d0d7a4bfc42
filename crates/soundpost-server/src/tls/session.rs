//! The records of one connection, without its socket: bytes of the network in, bytes of the application out, and the
//! other way round.
//!
//! rustls's unbuffered interface is used, because its buffered one keeps some kilobytes for each connection. Here a
//! connection that waits has no buffer at all: what comes in is decrypted where it was read, and what goes out is
//! encrypted into one buffer of its thread.

use std::{cell::RefCell, fmt, sync::Arc};

use rustls::{
    Error, HandshakeKind, ServerConfig,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus},
};

/// The most that one record carries of the application's bytes.
pub const RECORD_BYTES: usize = 16 << 10;

/// Room for a record around that: its head, nonce and tag, and a key update before it.
const RECORD_ROOM: usize = RECORD_BYTES + 512;

/// Bytes of a record or of a handshake message whose end is yet to come. A client's first message is some two kilobytes.
const PARTIAL_BYTES_MAX: usize = 32 << 10;

thread_local! {
    static RECORD: RefCell<Box<[u8]>> = RefCell::default();
}

/// Lends `work` its thread's buffer, which has room for one sealed record.
pub fn with_record<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    RECORD.with_borrow_mut(|record| {
        if record.is_empty() {
            *record = vec![0; RECORD_ROOM].into();
        }
        work(record)
    })
}

/// Our side of one TLS connection.
pub struct Session {
    connection: UnbufferedServerConnection,
    /// The beginning of what cannot be decrypted yet; without memory while there is none.
    partial: Vec<u8>,
    has_ended: bool,
    /// After an error nothing more is asked of it.
    is_broken: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("partial", &self.partial.len()).finish_non_exhaustive()
    }
}

impl Session {
    /// Before the client's first byte. Errors: the configuration does not fit together.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, Error> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self { connection, partial: Vec::new(), has_ended: false, is_broken: false })
    }

    /// Whether the handshake is not over yet.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether the client has said that it sends nothing more.
    pub const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Full or resumed, once the handshake is over.
    pub fn handshake_kind(&self) -> Option<HandshakeKind> {
        self.connection.handshake_kind()
    }

    /// Takes what was read from the socket. What the client says is appended to `plain`, what it must be sent for TLS's
    /// own sake to `answer`.
    ///
    /// Errors: what came is not what belongs here; `answer` then holds the alert to send, and the session is over.
    pub fn receive(
        &mut self,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
        answer: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if self.is_broken {
            return Err(broken());
        }
        if self.partial.is_empty() {
            let used = self.process(bytes, plain, answer)?;
            self.partial.extend_from_slice(bytes.get(used..).unwrap_or_default());
        } else {
            let mut partial = std::mem::take(&mut self.partial);
            partial.extend_from_slice(bytes);
            let used = self.process(&mut partial, plain, answer)?;
            partial.drain(..used);
            // Not even its room is kept when it is empty.
            self.partial = if partial.is_empty() { Vec::new() } else { partial };
        }
        if self.partial.len() > PARTIAL_BYTES_MAX {
            return Err(Error::General("a message of the handshake is too long".to_owned()));
        }
        Ok(())
    }

    /// Works through `bytes` as far as they go, and says how far.
    fn process(
        &mut self,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
        answer: &mut Vec<u8>,
    ) -> Result<usize, Error> {
        let mut used = 0;
        loop {
            let rest = bytes.get_mut(used..).unwrap_or_default();
            let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(rest);
            let mut is_done = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        plain.extend_from_slice(record.payload);
                        discard += record.discard;
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, answer)?,
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.has_ended = true,
                Ok(_) => is_done = true,
                Err(error) => {
                    self.is_broken = true;
                    self.alert(answer);
                    return Err(error);
                }
            }
            used += discard;
            if is_done {
                return Ok(used);
            }
        }
    }

    /// After an error: fetches what there is to send, the alert that tells the client of it last.
    fn alert(&mut self, answer: &mut Vec<u8>) {
        while self.connection.wants_write() {
            let state = self.connection.process_tls_records(&mut []).state;
            let Ok(ConnectionState::EncodeTlsData(data)) = state else { return };
            if encode(data, answer).is_err() {
                return;
            }
        }
    }

    /// Encrypts `plain`, at most [`RECORD_BYTES`], into `record`, which is that of [`with_record`]; says how long the
    /// result is. It must be sent before anything that is sealed later.
    ///
    /// Errors: the session is over.
    pub fn seal(&mut self, plain: &[u8], record: &mut [u8]) -> Result<usize, Error> {
        self.write(record, |traffic, record| traffic.encrypt(plain, record))
    }

    /// Seals the word that nothing more comes from us. Errors: the session is over.
    pub fn seal_end(&mut self, record: &mut [u8]) -> Result<usize, Error> {
        self.write(record, |traffic, record| traffic.queue_close_notify(record))
    }

    fn write(
        &mut self,
        record: &mut [u8],
        write: impl FnOnce(
            &mut rustls::unbuffered::WriteTraffic<'_, rustls::server::ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, rustls::unbuffered::EncryptError>,
    ) -> Result<usize, Error> {
        if self.is_broken {
            return Err(broken());
        }
        let mut written = 0;
        loop {
            // What is partial stands for the front of what is read next, so it must be shown again.
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut self.partial);
            let rest = record.get_mut(written..).unwrap_or_default();
            match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let sealed =
                        write(&mut traffic, rest).map_err(|error| Error::General(error.to_string()))?;
                    self.partial.drain(..discard);
                    return Ok(written + sealed);
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    written += data.encode(rest).map_err(|error| Error::General(error.to_string()))?;
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.has_ended = true,
                Ok(_) => return Err(Error::HandshakeNotComplete),
                Err(error) => {
                    self.is_broken = true;
                    return Err(error);
                }
            }
            self.partial.drain(..discard);
        }
    }
}

fn broken() -> Error {
    Error::General("the session broke off before".to_owned())
}

/// Appends a message of rustls's own to `out`.
fn encode<Data>(mut data: EncodeTlsData<'_, Data>, out: &mut Vec<u8>) -> Result<(), Error> {
    let at = out.len();
    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
        out.resize(at + size.required_size, 0);
        data.encode(out.get_mut(at..).unwrap_or_default())
            .map_err(|error| Error::General(error.to_string()))?;
    }
    Ok(())
}
