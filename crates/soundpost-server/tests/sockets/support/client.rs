//! A WebSocket client that does nothing by itself: it answers no ping and closes nothing, and can send any bytes.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Instant,
};

use serde_json::{Value, json};
use soundpost_protocol::{
    app::App,
    auth::channel_auth,
    channel::ChannelName,
    socket_id::SocketId,
    websocket::{Decoder, Message, Opcode, Role, client_frame},
};

use super::{DEADLINE, Wire};

/// Something a client hears.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    Event(Value),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
    /// The server has ended its side in good order.
    Eof,
    /// The server has reset the connection.
    Reset,
}

/// One frame of a client, masked.
pub(crate) fn masked(opcode: Opcode, payload: impl AsRef<[u8]>) -> Vec<u8> {
    client_frame(opcode, payload.as_ref(), [0x37, 0xfa, 0x21, 0x3d])
}

pub(crate) struct Client {
    pub(crate) stream: Wire,
    pub(crate) socket_id: String,
    app: App,
    decoder: Decoder,
    input: Vec<u8>,
    used: usize,
}

/// What a client sends to open `target`; the key is the one of RFC 6455.
pub(crate) fn handshake(target: &str, headers: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nhost: test\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

impl Client {
    /// Connects as pusher-js does and takes the greeting.
    pub(crate) fn connect(address: SocketAddr, app: &App) -> Self {
        let target = format!("/app/{}?protocol=7&client=js&version=8.6.0&flash=false", app.key);
        let mut client = Self::open(address, app, &target, "", &[]);
        client.greeted();
        client
    }

    /// Completes the handshake and no more. `early` goes out in one piece with the request.
    pub(crate) fn open(address: SocketAddr, app: &App, target: &str, headers: &str, early: &[u8]) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::open_on(stream, app, target, headers, early)
    }

    /// The same on a socket of any kind that is connected already.
    pub(crate) fn open_on(
        stream: impl Into<Wire>,
        app: &App,
        target: &str,
        headers: &str,
        early: &[u8],
    ) -> Self {
        let mut client = Self {
            stream: stream.into(),
            socket_id: String::new(),
            app: app.clone(),
            decoder: Decoder::new(Role::Client),
            input: Vec::new(),
            used: 0,
        };
        client.send_raw(&[handshake(target, headers).as_bytes(), early].concat());
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(
            head.to_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"),
            "{head}"
        );
        client
    }

    fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.input.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                self.used = end + 4;
                return String::from_utf8(self.input[..end + 4].to_vec()).unwrap();
            }
            assert_eq!(self.fill(Instant::now() + DEADLINE), None, "the handshake has no answer");
        }
    }

    /// Takes the greeting, which tells the socket id.
    pub(crate) fn greeted(&mut self) {
        let greeting = self.event();
        let data = greeting["data"].as_str().unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        self.socket_id = data["socket_id"].as_str().unwrap().to_owned();
    }

    pub(crate) fn send(&mut self, event: &Value) {
        self.send_text(&event.to_string());
    }

    pub(crate) fn send_text(&mut self, text: &str) {
        self.send_raw(&masked(Opcode::Text, text));
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.set_write_timeout(Some(DEADLINE)).unwrap();
        self.stream.write_all(bytes).unwrap();
    }

    /// The next thing the server says.
    pub(crate) fn next(&mut self) -> Seen {
        let until = Instant::now() + DEADLINE;
        loop {
            let mut rest = &mut self.input[self.used..];
            let before = rest.len();
            let message = self.decoder.next(&mut rest, usize::MAX).expect("the server frames well");
            let seen = message.map(|message| match message {
                Message::Text(text) => Seen::Event(serde_json::from_str(text).unwrap()),
                Message::Binary(_) => panic!("the protocol has no binary messages"),
                Message::Ping(payload) => Seen::Ping(payload.to_vec()),
                Message::Pong(payload) => Seen::Pong(payload.to_vec()),
                Message::Close(close) => Seen::Close(close.map(|(code, reason)| (code, reason.to_owned()))),
            });
            self.used += before - rest.len();
            if let Some(seen) = seen.or_else(|| self.fill(until)) {
                return seen;
            }
        }
    }

    /// Reads more; the end, if this is it.
    fn fill(&mut self, until: Instant) -> Option<Seen> {
        self.input.drain(..self.used);
        self.used = 0;
        let left = until.checked_duration_since(Instant::now()).expect("the server says nothing in time");
        self.stream.set_read_timeout(Some(left)).unwrap();
        let mut bytes = vec![0; 64 << 10];
        match self.stream.read(&mut bytes) {
            Ok(0) => Some(Seen::Eof),
            Ok(count) => {
                self.input.extend_from_slice(&bytes[..count]);
                None
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Some(Seen::Reset),
            Err(error) => panic!("the server says nothing in time: {error}"),
        }
    }

    /// The next event; anything else fails.
    pub(crate) fn event(&mut self) -> Value {
        let seen = self.next();
        let Seen::Event(event) = seen else { panic!("expected an event, not {seen:?}") };
        event
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, expected: &Value) {
        assert_eq!(self.event(), *expected);
    }

    /// Nothing that was accepted before now is on its way to this client: a join takes the same way as events, and
    /// its success is the next that arrives.
    #[track_caller]
    pub(crate) fn expect_silence(&mut self) {
        self.subscribe("silence");
        self.unsubscribe("silence");
        self.expect_nothing();
    }

    /// Nothing else has arrived before the answer to a ping sent now. Events may still be on their way.
    #[track_caller]
    pub(crate) fn expect_nothing(&mut self) {
        self.send(&json!({"event": "pusher:ping", "data": {}}));
        self.expect(&json!({"event": "pusher:pong", "data": "{}"}));
    }

    /// Goodbye with this code and text: an error frame for the protocol's own codes, a close frame, the end.
    #[track_caller]
    pub(crate) fn expect_goodbye(&mut self, code: u16, text: &str) {
        if code >= 4000 {
            self.expect(&json!({"event": "pusher:error", "data": {"code": code, "message": text}}));
        }
        assert_eq!(self.next(), Seen::Close(Some((code, text.to_owned()))));
        assert_eq!(self.next(), Seen::Eof);
    }

    /// The frame that subscribes, signed where the channel's kind asks for it.
    pub(crate) fn subscription(&self, channel: &str, channel_data: Option<&str>) -> Value {
        let name = ChannelName::parse(channel, &self.app.limits).unwrap();
        let mut data = json!({"auth": "", "channel": channel});
        if name.kind().needs_auth() {
            let socket_id = SocketId::parse(&self.socket_id).unwrap();
            data["auth"] = channel_auth(&self.app, socket_id, &name, channel_data).into();
        }
        if let Some(channel_data) = channel_data {
            data["channel_data"] = channel_data.into();
        }
        json!({"event": "pusher:subscribe", "data": data})
    }

    /// Subscribes to a channel without members and waits until it is done.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, channel: &str) {
        self.send(&self.subscription(channel, None));
        let event = "pusher_internal:subscription_succeeded";
        self.expect(&json!({"event": event, "channel": channel, "data": "{}"}));
    }

    /// Joins a presence channel; gives back the roster.
    #[track_caller]
    pub(crate) fn join(&mut self, channel: &str, channel_data: &str) -> Value {
        self.send(&self.subscription(channel, Some(channel_data)));
        self.roster(channel)
    }

    /// Takes the success of a join; gives back the roster.
    #[track_caller]
    pub(crate) fn roster(&mut self, channel: &str) -> Value {
        let event = self.event();
        assert_eq!(event["event"], "pusher_internal:subscription_succeeded", "{event}");
        assert_eq!(event["channel"], channel);
        let data: Value = serde_json::from_str(event["data"].as_str().unwrap()).unwrap();
        data["presence"].clone()
    }

    pub(crate) fn unsubscribe(&mut self, channel: &str) {
        self.send(&json!({"event": "pusher:unsubscribe", "data": {"channel": channel}}));
    }

    /// Says goodbye as the RFC asks and waits for the end.
    pub(crate) fn leave(mut self) {
        self.send_raw(&masked(Opcode::Close, 1000_u16.to_be_bytes()));
        assert_eq!(self.next(), Seen::Close(Some((1000, String::new()))));
        assert_eq!(self.next(), Seen::Eof);
    }

    /// Is gone without a word.
    pub(crate) fn vanish(self) {
        self.stream.shutdown(Shutdown::Both).unwrap();
    }
}
