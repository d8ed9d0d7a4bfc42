//! What broken or hostile framing costs over a real socket: the sender its connection, with the right code and never a
//! reset before it could read that, and its neighbour on the same worker nothing. What is broken, the tests of the
//! decoder say in full; what well-behaved peers see, `cargo xtask autobahn` tries.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should panic"
)]

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    num::NonZeroUsize,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use soundpost_protocol::{
    app::{App, AppId, AppKey, AppSecret},
    websocket::{Decoder, Message, Opcode, Role, client_frame},
};
use soundpost_server::{config::Settings, node::Node, server::Server};
use tokio::sync::watch;

/// However slow the machine, nothing here takes longer.
const DEADLINE: Duration = Duration::from_secs(30);

const MILLION: usize = 1_000_000;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const PING: &str = r#"{"event":"pusher:ping","data":{}}"#;
const PONG: &str = r#"{"event":"pusher:pong","data":"{}"}"#;

/// A server with one worker, so that all clients are neighbours.
struct Stage {
    node: Arc<Node>,
    address: SocketAddr,
    stop: watch::Sender<u32>,
    thread: Option<JoinHandle<()>>,
}

impl Stage {
    fn new() -> Self {
        Self::with_messages_of(10_000)
    }

    fn with_messages_of(message_bytes_max: usize) -> Self {
        let (id, key) = (AppId::parse("app").unwrap(), AppKey::parse("key").unwrap());
        let mut app = App::new(id, key, AppSecret::new("secret"));
        app.limits.message_bytes_max = message_bytes_max;
        let mut settings = Settings::new(vec![app]);
        settings.server.workers = NonZeroUsize::MIN;
        let server = Server::bind(settings).unwrap();
        let node = Arc::clone(server.node());
        let address = *server.addresses().first().unwrap();
        let (stop, stopped) = watch::channel(0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let thread = std::thread::spawn(move || runtime.block_on(server.run(stopped)).unwrap());
        Self { node, address, stop, thread: Some(thread) }
    }

    fn connect(&self) -> Guest {
        self.connect_and_say(&[])
    }

    /// Sends `early` in one piece with the handshake.
    fn connect_and_say(&self, early: &[u8]) -> Guest {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        let handshake =
            b"GET /app/key?protocol=7 HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
              sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(&[handshake, early].concat()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        let mut guest = Guest { stream, decoder: Decoder::new(Role::Client), bytes: Vec::new() };
        assert!(guest.hear().contains("pusher:connection_established"));
        guest
    }

    /// Connections that are not closing.
    fn open(&self) -> u32 {
        self.node.quota.open()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.send_replace(2);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the server panicked");
        }
    }
}

/// A client that sends what it likes.
struct Guest {
    stream: TcpStream,
    decoder: Decoder,
    bytes: Vec<u8>,
}

impl Guest {
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next message as text; `close CODE` for a close frame, `end` for an end without a reset.
    fn hear(&mut self) -> String {
        loop {
            let mut rest = &mut self.bytes[..];
            let before = rest.len();
            let heard = match self.decoder.next(&mut rest, 1 << 20).unwrap() {
                Some(Message::Text(text)) => Some(text.to_owned()),
                Some(Message::Close(Some((code, _)))) => Some(format!("close {code}")),
                Some(Message::Close(None)) => Some("close".to_owned()),
                other => other.map(|other| format!("{other:?}")),
            };
            let used = before - rest.len();
            self.bytes.drain(..used);
            if let Some(heard) = heard {
                return heard;
            }
            let mut more = [0; 4096];
            match self.stream.read(&mut more).unwrap() {
                0 => return "end".to_owned(),
                count => self.bytes.extend_from_slice(&more[..count]),
            }
        }
    }

    fn check_served(&mut self) {
        self.send(&text(PING.as_bytes()));
        assert_eq!(self.hear(), PONG);
    }

    /// The server closes with this code, lets go of the connection and still serves `neighbour`, its only other.
    fn ends_with(mut self, code: u16, stage: &Stage, neighbour: &mut Self, why: &str) {
        assert_eq!(self.hear(), format!("close {code}"), "{why}");
        assert_eq!(self.hear(), "end", "{why}");
        assert_eq!(stage.open(), 1, "{why}");
        neighbour.check_served();
    }
}

fn text(payload: &[u8]) -> Vec<u8> {
    client_frame(Opcode::Text, payload, MASK)
}

/// A frame without its final bit.
fn fragment(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = client_frame(opcode, payload, MASK);
    frame[0] &= 0x7f;
    frame
}

/// The first two bytes of a frame, a length of eight bytes and the mask.
fn header(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0xff][..], &length.to_be_bytes(), &MASK].concat()
}

fn close(payload: &[u8]) -> Vec<u8> {
    client_frame(Opcode::Close, payload, MASK)
}

/// A text message of as many fragments as it has bytes, and a last one that is empty.
fn in_single_bytes(message: &[u8]) -> Vec<u8> {
    let mut frames = Vec::with_capacity((message.len() + 1) * 7);
    for (at, byte) in message.iter().enumerate() {
        let opcode = if at == 0 { Opcode::Text } else { Opcode::Continuation };
        frames.extend(fragment(opcode, &[*byte]));
    }
    frames.extend(client_frame(Opcode::Continuation, b"", MASK));
    frames
}

#[test]
fn broken_framing_costs_its_sender_the_connection_and_nobody_else_anything() {
    let stage = Stage::new();
    let mut neighbour = stage.connect();
    for (why, sent, code) in [
        ("an unmasked frame", vec![0x81, 2, b'h', b'i'], 1002),
        ("a ping of 126 bytes", client_frame(Opcode::Ping, &[0; 126], MASK), 1002),
        ("RSV1 without an extension", vec![0xc1, 0x80, 0, 0, 0, 0], 1002),
        ("RSV2 on a ping", vec![0xa9, 0x80, 0, 0, 0, 0], 1002),
        (
            "a second start inside a message",
            [fragment(Opcode::Text, b"{"), text(PING.as_bytes())].concat(),
            1002,
        ),
        ("text that ends inside a character", text(b"\xe2\x82"), 1007),
        (
            "fragments that end inside a character",
            [fragment(Opcode::Text, b"\xe2"), client_frame(Opcode::Continuation, b"\x82", MASK)].concat(),
            1007,
        ),
        ("a message above the limit", text(&[b' '; 10_001]), 1009),
        (
            "fragments above the limit together",
            [fragment(Opcode::Text, &[b' '; 9999]), client_frame(Opcode::Continuation, b"  ", MASK)].concat(),
            1009,
        ),
        ("a length of 2^63, and nothing behind it", header(0x81, 1 << 63), 1002),
        ("a length of 2^63 - 1, and nothing behind it", header(0x81, (1 << 63) - 1), 1009),
        ("a binary message", client_frame(Opcode::Binary, b"hi", MASK), 1003),
        ("a close frame of one byte", close(&[3]), 1002),
        ("close code 1005", close(&1005_u16.to_be_bytes()), 1002),
        ("close code 5000", close(&5000_u16.to_be_bytes()), 1002),
        ("a reason that is not UTF-8", close(b"\x03\xe8\xff"), 1007),
    ] {
        let mut guest = stage.connect();
        guest.send(&sent);
        guest.ends_with(code, &stage, &mut neighbour, why);
    }
}

#[test]
fn a_goodbye_is_answered_with_its_own_code() {
    let stage = Stage::new();
    let mut neighbour = stage.connect();
    for code in [1000_u16, 1001, 3000, 4999] {
        let mut guest = stage.connect();
        guest.send(&close(&[&code.to_be_bytes()[..], b"bye"].concat()));
        guest.ends_with(code, &stage, &mut neighbour, "a goodbye");
    }
    let mut guest = stage.connect();
    guest.send(&close(b""));
    assert_eq!([guest.hear(), guest.hear()], ["close", "end"]);
    assert_eq!(stage.open(), 1);
}

#[test]
fn frames_in_one_piece_with_the_handshake_are_heard() {
    let stage = Stage::new();
    let mut neighbour = stage.connect_and_say(&text(PING.as_bytes()));
    assert_eq!(neighbour.hear(), PONG);
    let early = [text(PING.as_bytes()), vec![0x81, 2, b'h', b'i']].concat();
    let mut guest = stage.connect_and_say(&early);
    assert_eq!(guest.hear(), PONG);
    guest.ends_with(1002, &stage, &mut neighbour, "an unmasked frame behind the handshake");
}

#[test]
fn a_million_fragments_are_a_message_if_it_may_be_so_long() {
    let stage = Stage::with_messages_of(MILLION);
    let mut neighbour = stage.connect();
    let mut guest = stage.connect();
    let padded = [PING.as_bytes(), &vec![b' '; MILLION - PING.len()]].concat();
    let began = Instant::now();
    guest.send(&in_single_bytes(&padded));
    assert_eq!(guest.hear(), PONG);
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    guest.check_served();
    neighbour.check_served();
}

#[test]
fn a_million_fragments_end_at_the_limit() {
    let stage = Stage::new();
    let mut neighbour = stage.connect();
    let empty =
        [fragment(Opcode::Text, b""), fragment(Opcode::Continuation, b"").repeat(MILLION - 1)].concat();
    for (why, sent, code) in [
        ("fragments of one byte", in_single_bytes(&vec![b' '; MILLION]), 1009),
        ("empty fragments", empty, 1002),
    ] {
        let mut guest = stage.connect();
        guest.send(&sent);
        guest.ends_with(code, &stage, &mut neighbour, why);
    }
}

#[test]
fn a_close_code_arrives_however_much_is_still_being_sent() {
    let stage = Stage::new();
    let mut neighbour = stage.connect();
    // More than the buffers of both kernels hold: what the server left unread would become a reset on its close.
    let mut sent = client_frame(Opcode::Binary, b"hi", MASK);
    sent.resize(16 << 20, 0);
    let mut guest = stage.connect();
    guest.send(&sent);
    guest.ends_with(1003, &stage, &mut neighbour, "a flood behind what broke the rules");
}

#[test]
fn a_client_that_goes_on_sending_after_the_close_frame_is_let_go() {
    let stage = Stage::new();
    let mut neighbour = stage.connect();
    let mut guest = stage.connect();
    guest.send(&client_frame(Opcode::Binary, b"hi", MASK));
    assert_eq!([guest.hear(), guest.hear()], ["close 1003", "end"]);
    let end = Instant::now() + DEADLINE;
    let error = loop {
        assert!(Instant::now() < end, "the server still reads what nobody wants");
        if let Err(error) = guest.stream.write_all(&[0; 1 << 20]) {
            break error;
        }
        neighbour.check_served();
    };
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    neighbour.check_served();
}
