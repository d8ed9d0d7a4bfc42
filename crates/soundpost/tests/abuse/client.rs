//! A subscriber: the Pusher protocol over a plain socket.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use soundpost_protocol::websocket::{Decoder, Message, Opcode, Role, client_frame};

use crate::{
    http::{self, Keys, Reply},
    server::PATIENCE,
};

/// The largest message a test expects.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// What came from the server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Heard {
    Event(Value),
    Close(u16),
    /// The stream ended or was reset.
    Ended,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) socket_id: String,
    /// Whether `pusher:ping` is answered as soon as it is read.
    pub(crate) answers_pings: bool,
    /// Every text as it came, if wanted.
    pub(crate) texts: Option<Vec<String>>,
    decoder: Decoder,
    heard: VecDeque<Heard>,
    buffer: Vec<u8>,
}

/// The request that opens a WebSocket.
pub(crate) fn handshake(key: &str) -> String {
    format!(
        "GET /app/{key}?protocol=7&client=js&version=8.6.0&flash=false HTTP/1.1\r\nHost: soundpost.test\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

impl Client {
    /// Connects and reads the greeting.
    pub(crate) fn connect(address: SocketAddr, keys: &Keys) -> Self {
        Self::try_connect(address, keys).unwrap_or_else(|reply| panic!("refused: {reply:?}"))
    }

    /// The same; the answer of a server that turned us away.
    pub(crate) fn try_connect(address: SocketAddr, keys: &Keys) -> Result<Self, Reply> {
        let mut client = Self::open(http::connect(address), keys)?;
        let greeting = client.event("pusher:connection_established");
        let data: Value = serde_json::from_str(greeting["data"].as_str().unwrap()).unwrap();
        data["socket_id"].as_str().unwrap().clone_into(&mut client.socket_id);
        Ok(client)
    }

    /// The handshake alone.
    pub(crate) fn open(mut stream: TcpStream, keys: &Keys) -> Result<Self, Reply> {
        // Who is turned away may be closed before this is written.
        drop(stream.write_all(handshake(keys.key).as_bytes()));
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
            head.push(byte[0]);
        }
        let reply = Reply::parse(&String::from_utf8_lossy(&head));
        if reply.status != 101 {
            return Err(reply);
        }
        Ok(Self {
            stream,
            socket_id: String::new(),
            answers_pings: true,
            texts: None,
            decoder: Decoder::new(Role::Client),
            heard: VecDeque::new(),
            buffer: vec![0; 64 << 10],
        })
    }

    /// Sends one text message.
    pub(crate) fn send(&mut self, value: &Value) {
        self.send_text(&value.to_string());
    }

    /// The same as it stands. That the server has gone will be read.
    pub(crate) fn send_text(&mut self, text: &str) {
        drop(self.stream.write_all(&client_frame(Opcode::Text, text.as_bytes(), [7, 1, 8, 2])));
    }

    /// What comes next, within `wait`.
    pub(crate) fn next_within(&mut self, wait: Duration) -> Option<Heard> {
        let deadline = Instant::now() + wait;
        while self.heard.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.read(left);
        }
        self.heard.pop_front()
    }

    /// What comes next.
    pub(crate) fn next(&mut self) -> Heard {
        self.next_within(PATIENCE).expect("something to be heard")
    }

    fn read(&mut self, wait: Duration) {
        self.stream.set_read_timeout(Some(wait)).unwrap();
        let count = match self.stream.read(&mut self.buffer) {
            Ok(count @ 1..) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
            Ok(_) | Err(_) => {
                self.heard.push_back(Heard::Ended);
                return;
            }
        };
        let mut input = &mut self.buffer[..count];
        let mut pings = 0;
        while let Some(message) = self.decoder.next(&mut input, MESSAGE_BYTES_MAX).expect("sound framing") {
            match message {
                Message::Text(text) => {
                    if let Some(texts) = &mut self.texts {
                        texts.push(text.to_owned());
                    }
                    let event: Value = serde_json::from_str(text).unwrap();
                    pings += usize::from(event["event"] == "pusher:ping");
                    self.heard.push_back(Heard::Event(event));
                }
                Message::Close(close) => {
                    self.heard.push_back(Heard::Close(close.map_or(1005, |(code, _)| code)))
                }
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => {}
            }
        }
        for _ in 0..pings {
            if self.answers_pings {
                self.send(&json!({ "event": "pusher:pong", "data": {} }));
            }
        }
    }

    /// Waits for an event, passing over others.
    pub(crate) fn event(&mut self, name: &str) -> Value {
        self.event_where(name, |event| event["event"] == name)
    }

    /// Waits for an event that `fits`, passing over others.
    pub(crate) fn event_where(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.next_within(deadline.saturating_duration_since(Instant::now())) {
                Some(Heard::Event(event)) if fits(&event) => return event,
                Some(Heard::Event(_)) => {}
                other => panic!("expected {what}, heard {other:?}"),
            }
        }
    }

    /// Reads until the connection ends; the close code, if one came.
    pub(crate) fn ending(&mut self) -> Option<u16> {
        let mut code = None;
        loop {
            match self.next() {
                Heard::Event(_) => {}
                Heard::Close(found) => code = Some(found),
                Heard::Ended => return code,
            }
        }
    }

    /// Asks for a pong; how long it took.
    pub(crate) fn ping(&mut self) -> Duration {
        let asked_at = Instant::now();
        self.send(&json!({ "event": "pusher:ping", "data": {} }));
        self.event("pusher:pong");
        asked_at.elapsed()
    }

    /// Asks to join, signing where the channel wants it.
    pub(crate) fn ask_to_subscribe(&mut self, keys: &Keys, channel: &str, data: Option<&str>) {
        let mut wanted = json!({ "channel": channel });
        if channel.starts_with("private-") || channel.starts_with("presence-") {
            wanted["auth"] = keys.channel_auth(&self.socket_id, channel, data).into();
        }
        if let Some(data) = data {
            wanted["channel_data"] = data.into();
        }
        self.send(&json!({ "event": "pusher:subscribe", "data": wanted }));
    }

    /// Joins; what the channel told us.
    pub(crate) fn subscribe(&mut self, keys: &Keys, channel: &str, data: Option<&str>) -> Value {
        self.ask_to_subscribe(keys, channel, data);
        self.event("pusher_internal:subscription_succeeded")
    }

    /// Leaves. There is no answer.
    pub(crate) fn unsubscribe(&mut self, channel: &str) {
        self.send(&json!({ "event": "pusher:unsubscribe", "data": { "channel": channel } }));
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        reset(&self.stream);
    }
}

/// Makes the coming close a reset.
pub(crate) fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// The `channel_data` of a user.
pub(crate) fn member(user_id: &str, info: &str) -> String {
    json!({ "user_id": user_id, "user_info": { "name": info } }).to_string()
}
