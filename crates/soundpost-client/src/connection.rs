//! A WebSocket that carries events, before anyone has said a word on it.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket, WebSocketError};
use http_body_util::Empty;
use hyper::{Request, StatusCode, header, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{Join, ReadHalf, Sink, WriteHalf},
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::timeout,
};

use crate::{ClientError, Event, target::Target};

/// Events read ahead of [`Connection::next_event`]; when they are not taken, nothing more is read from the socket.
const EVENTS_AHEAD_MAX: usize = 64;

/// How a connection behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The longest message taken from the server, bytes.
    pub message_bytes_max: usize,
    /// The longest wait of any call.
    pub deadline: Duration,
    /// Whether `pusher:ping` is answered, as every real client does.
    pub answers_pings: bool,
    /// The `Origin` header, as a browser sends it.
    pub origin: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            message_bytes_max: 16 << 20,
            deadline: Duration::from_secs(10),
            answers_pings: true,
            origin: None,
        }
    }
}

type Socket = TokioIo<Upgraded>;
/// Reads only: what it would write goes nowhere, which is why it must not answer pings and closes by itself.
type Reader = WebSocket<Join<ReadHalf<Socket>, Sink>>;
type Writer = Mutex<WebSocket<Join<tokio::io::Empty, WriteHalf<Socket>>>>;

/// An open WebSocket. A task of its own reads it and answers pings; it ends with the connection.
pub struct Connection {
    options: Options,
    events: mpsc::Receiver<Result<Event, ClientError>>,
    writer: Arc<Writer>,
    /// Dropped with the connection, which ends the reading task.
    _reading: JoinSet<()>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Connection {
    /// Opens a WebSocket on exactly this URL, path and query included, and waits for no event.
    ///
    /// Errors: [`ClientError::Status`] for an answer other than 101, and those of the socket.
    pub async fn open(url: &str, options: Options) -> Result<Self, ClientError> {
        let target = Target::parse(url)?;
        let waited = options.deadline;
        let upgraded = timeout(waited, upgrade(&target, &options))
            .await
            .map_err(|_| ClientError::Deadline { what: "WebSocket", waited })??;
        let (read, write) = tokio::io::split(TokioIo::new(upgraded));

        let mut reader = WebSocket::after_handshake(tokio::io::join(read, tokio::io::sink()), Role::Client);
        reader.set_auto_pong(false);
        reader.set_auto_close(false);
        // The library's bound is exclusive.
        reader.set_max_message_size(options.message_bytes_max.saturating_add(1));
        let writer = WebSocket::after_handshake(tokio::io::join(tokio::io::empty(), write), Role::Client);
        let writer = Arc::new(Mutex::new(writer));

        let (heard, events) = mpsc::channel(EVENTS_AHEAD_MAX);
        let mut reading = JoinSet::new();
        reading.spawn(read_all(reader, Arc::clone(&writer), heard, options.clone()));
        Ok(Self { options, events, writer, _reading: reading })
    }

    /// The next event within [`Options::deadline`]. Cancel-safe: no event is lost.
    ///
    /// Errors: [`ClientError::Closed`] once the server closed, [`ClientError::Deadline`] if nothing came; those of the
    /// socket, once, and then [`ClientError::Ended`].
    pub async fn next_event(&mut self) -> Result<Event, ClientError> {
        self.next_event_within(self.options.deadline).await
    }

    /// [`next_event`](Self::next_event) with a deadline of its own.
    pub async fn next_event_within(&mut self, waited: Duration) -> Result<Event, ClientError> {
        match timeout(waited, self.events.recv()).await {
            Ok(Some(event)) => event,
            Ok(None) => Err(ClientError::Ended),
            Err(_) => Err(ClientError::Deadline { what: "event", waited }),
        }
    }

    /// The next event with this name within [`Options::deadline`]; those before it are dropped.
    pub async fn next_named(&mut self, name: &str) -> Result<Event, ClientError> {
        let waited = self.options.deadline;
        let found = async {
            loop {
                let event = self.events.recv().await.ok_or(ClientError::Ended)??;
                if event.name == name {
                    return Ok(event);
                }
            }
        };
        timeout(waited, found)
            .await
            .unwrap_or(Err(ClientError::Deadline { what: "event of that name", waited }))
    }

    /// Sends text as one message, whatever it is. Cancelled half-way it leaves the connection unusable.
    pub async fn send_text(&self, text: &str) -> Result<(), ClientError> {
        self.write(Frame::text(Payload::Borrowed(text.as_bytes()))).await
    }

    /// Sends a binary message, which the protocol forbids.
    pub async fn send_binary(&self, bytes: &[u8]) -> Result<(), ClientError> {
        self.write(Frame::binary(Payload::Borrowed(bytes))).await
    }

    /// Sends `{"event":event,"data":data}`.
    pub async fn send(&self, event: &str, data: serde_json::Value) -> Result<(), ClientError> {
        self.send_text(&serde_json::json!({ "event": event, "data": data }).to_string()).await
    }

    /// Says goodbye with 1000 and reads until the server answers; gives back its close code.
    pub async fn close(mut self) -> Result<u16, ClientError> {
        self.write(Frame::close(1000, b"")).await?;
        let waited = self.options.deadline;
        let answered = async {
            loop {
                match self.events.recv().await {
                    Some(Ok(_)) => {}
                    Some(Err(ClientError::Closed { code, .. })) => return Ok(code),
                    Some(Err(error)) => return Err(error),
                    None => return Err(ClientError::Ended),
                }
            }
        };
        timeout(waited, answered).await.unwrap_or(Err(ClientError::Deadline { what: "close frame", waited }))
    }

    async fn write(&self, frame: Frame<'_>) -> Result<(), ClientError> {
        let waited = self.options.deadline;
        let written = async { write(&self.writer, frame).await };
        timeout(waited, written).await.unwrap_or(Err(ClientError::Deadline { what: "room to write", waited }))
    }
}

async fn upgrade(target: &Target, options: &Options) -> Result<Upgraded, ClientError> {
    let stream = target.connect().await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let path = if target.path.starts_with('/') { target.path.clone() } else { format!("/{}", target.path) };
    let mut request = Request::get(&path)
        .header(header::HOST, target.authority.as_str())
        .header(header::UPGRADE, "websocket")
        .header(header::CONNECTION, "Upgrade")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, fastwebsockets::handshake::generate_key());
    if let Some(origin) = &options.origin {
        request = request.header(header::ORIGIN, origin);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|_| ClientError::Url { url: path })?;
    let asked = async move {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = response.status().as_u16();
            let body = crate::publisher::text_of(response.into_body(), options.message_bytes_max).await?;
            return Err(ClientError::Status { status, body });
        }
        Ok(hyper::upgrade::on(response).await?)
    };
    let driven = async { connection.with_upgrades().await.map_err(ClientError::from) };
    tokio::try_join!(asked, driven).map(|(upgraded, ())| upgraded)
}

async fn write(writer: &Writer, frame: Frame<'_>) -> Result<(), ClientError> {
    let mut writer = writer.lock().await;
    // The library ties a frame's life to the writer's, so it gets one of its own.
    let payload = Payload::Owned(frame.payload.to_vec());
    writer.write_frame(Frame::new(frame.fin, frame.opcode, None, payload)).await?;
    Ok(writer.flush().await?)
}

/// Reads until the connection ends or nobody listens any more.
async fn read_all(
    mut reader: Reader,
    writer: Arc<Writer>,
    heard: mpsc::Sender<Result<Event, ClientError>>,
    options: Options,
) {
    loop {
        let event = next(&mut reader, &writer, &options).await;
        let ended = !matches!(event, Ok(_) | Err(ClientError::NotAnEvent { .. }));
        if heard.send(event).await.is_err() || ended {
            return;
        }
    }
}

async fn next(reader: &mut Reader, writer: &Writer, options: &Options) -> Result<Event, ClientError> {
    let bytes_max = options.message_bytes_max;
    let mut message = Vec::new();
    loop {
        let frame = match reader.read_frame().await {
            Err(WebSocketError::FrameTooLarge) => return Err(ClientError::TooBig { bytes_max }),
            other => other?,
        };
        match frame.opcode {
            OpCode::Ping => write(writer, Frame::pong(Payload::Borrowed(&frame.payload))).await?,
            OpCode::Pong => {}
            OpCode::Close => {
                // A peer that has closed may be gone already, so the answer is only tried.
                drop(write(writer, Frame::close_raw(Payload::Borrowed(&frame.payload))).await);
                return Err(closed(&frame.payload));
            }
            OpCode::Text | OpCode::Binary | OpCode::Continuation => {
                if message.len() + frame.payload.len() > bytes_max {
                    return Err(ClientError::TooBig { bytes_max });
                }
                message.extend_from_slice(&frame.payload);
                if !frame.fin {
                    continue;
                }
                let event = Event::parse(&String::from_utf8_lossy(&message))?;
                if event.name == "pusher:ping" && options.answers_pings {
                    let pong = br#"{"event":"pusher:pong","data":{}}"#;
                    write(writer, Frame::text(Payload::Borrowed(pong))).await?;
                }
                return Ok(event);
            }
        }
    }
}

fn closed(payload: &[u8]) -> ClientError {
    match payload.split_first_chunk::<2>() {
        Some((code, reason)) => ClientError::Closed {
            code: u16::from_be_bytes(*code),
            reason: String::from_utf8_lossy(reason).into_owned(),
        },
        None => ClientError::Closed { code: 1005, reason: String::new() },
    }
}
