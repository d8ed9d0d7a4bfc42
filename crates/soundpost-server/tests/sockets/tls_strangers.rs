//! A port with TLS, and who does not get through to HTTP on it: behind a proxy, too many, too slow, or at odds with TLS.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{AlertDescription, ClientConfig, ClientConnection, Error, pki_types::ServerName};
use socket2::{Domain, Socket, Type};
use soundpost_server::config::Settings;

use crate::support::{Authority, Client, DEADLINE, Offer, TestServer, Wire, app, eventually, shake};

/// A server with one worker and a certificate for these names.
fn secure_with(names: &[&str], change: impl FnOnce(&mut Settings)) -> (TestServer, Authority) {
    let authority = Authority::new();
    let pair = authority.issue("localhost", names);
    let mut app = app("one");
    app.tls_only = true;
    let server = TestServer::start_with(vec![app], |settings| {
        settings.server.workers = 1.try_into().unwrap();
        settings.server.tls = vec![pair];
        change(settings);
    });
    (server, authority)
}

fn secure(change: impl FnOnce(&mut Settings)) -> (TestServer, Authority) {
    secure_with(&["localhost"], change)
}

/// The same, behind a proxy at 127.0.0.1 that passes TLS on and says whose it is.
fn behind_a_proxy() -> (TestServer, Authority) {
    secure(|settings| {
        settings.server.proxies.trusted.add("127.0.0.1").unwrap();
        settings.server.proxies.protocol = true;
        connections_max(settings, 2);
    })
}

fn connections_max(settings: &mut Settings, max: u32) {
    settings.server.address_limits.connections_max = NonZeroU32::new(max);
}

fn line(n: u8) -> Vec<u8> {
    format!("PROXY TCP4 192.0.2.{n} 10.0.0.1 4711 443\r\n").into_bytes()
}

fn binary(n: u8) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &[192, 0, 2, n, 10, 0, 0, 1, 0x12, 0x34, 0x01, 0xbb][..]].concat()
}

/// A connection on which these bytes are sent.
fn knock(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(2 * DEADLINE)).unwrap();
    // Who is turned away may be closed before this is written.
    drop(stream.write_all(bytes));
    stream
}

/// All that is answered; a reset ends it as well.
fn answer(mut stream: TcpStream) -> Vec<u8> {
    let (mut all, mut bytes) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        all.extend_from_slice(&bytes[..count]);
    }
    all
}

fn greeted(wire: Wire, server: &TestServer) -> Client {
    let mut client = Client::open_on(wire, &server.apps[0], "/app/key-one?protocol=7", "", &[]);
    client.greeted();
    client
}

fn connect(server: &TestServer, authority: &Authority) -> Client {
    greeted(authority.connect(server.address, &Offer::default()).unwrap(), server)
}

fn handshakes(server: &TestServer, result: &str) -> u64 {
    server.metric(&format!("soundpost_tls_handshakes_total{{result=\"{result}\"}}"))
}

/// What a client says first.
fn hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut hello = Vec::new();
    ClientConnection::new(Arc::clone(config), name).unwrap().write_tls(&mut hello).unwrap();
    hello
}

/// The alert `internal_error`.
const NOT_NOW: &[u8] = &[21, 3, 1, 0, 2, 2, 80];

#[test]
fn a_proxy_header_comes_before_tls_and_its_client_is_counted() {
    let (server, authority) = behind_a_proxy();
    let config = authority.client(&Offer::default());
    let open = |header: &[u8]| shake(knock(server.address, header), config.clone(), "localhost");
    let mut inside = vec![
        greeted(open(&line(1)).unwrap(), &server),
        greeted(open(&binary(1)).unwrap(), &server),
        greeted(open(&binary(2)).unwrap(), &server),
    ];
    for header in [line(1), binary(1)] {
        let error = open(&header).err().unwrap();
        assert_eq!(error, Error::AlertReceived(AlertDescription::InternalError));
    }
    assert_eq!(server.metric(r#"soundpost_refused_total{app="",reason="address"}"#), 2);
    // Of the header nothing is left to TLS, and of TLS nothing is taken with the header, wherever the cut is.
    let whole = [binary(3), hello(&config)].concat();
    for at in [5, 27, 28, 29, 60] {
        let mut stream = knock(server.address, &whole[..at]);
        std::thread::sleep(Duration::from_millis(5));
        stream.write_all(&whole[at..]).unwrap();
        let mut record = [0];
        stream.read_exact(&mut record).unwrap();
        assert_eq!(record, [22], "cut at {at}: no handshake is answered");
    }
    inside.iter_mut().for_each(Client::expect_nothing);
    inside.remove(0).leave();
    eventually("its place", || open(&line(1)).is_ok());
}

#[test]
fn what_is_neither_header_nor_tls_is_answered_in_its_place() {
    let (server, authority) = behind_a_proxy();
    let config = authority.client(&Offer::default());
    let hello = hello(&config);
    let header_missing = r#"soundpost_refused_total{app="",reason="proxy_header"}"#;
    assert_eq!(answer(knock(server.address, &hello)), b"", "TLS without a header");
    eventually("it to be counted", || server.metric(header_missing) == 1);
    let misdirected = "HTTP/1.1 400 Bad Request\r\n";
    for (n, between) in (10..).zip([
        &b"GET /up HTTP/1.1\r\nhost: test\r\n\r\n"[..],
        b"\0\x01garbage\r\n\r\n",
        &line(9),
        &binary(9),
    ]) {
        for header in [line(n), binary(n)] {
            let bytes = [&header[..], between, &hello].concat();
            let text = answer(knock(server.address, &bytes));
            assert!(text.starts_with(misdirected.as_bytes()), "{between:?}: {text:?}");
        }
    }
    // It begins like TLS, and is not: the alert decode_error, or that there is no such version.
    for record in [&[22, 3, 1, 0, 4, 1, 0, 0, 0][..], &[22, 9, 9, 0, 4, 1, 2, 3, 4]] {
        let alert = answer(knock(server.address, &[&binary(20), record].concat()));
        assert!(matches!(alert[..], [21, 3, _, 0, 2, 2, 50 | 70]), "{alert:?}");
    }
    assert_eq!(server.metric(header_missing), 1);
    // All of them have given their places back.
    let again = |n| shake(knock(server.address, &line(n)), config.clone(), "localhost").is_ok();
    eventually("their places", || (10..14).all(again) && again(20));
}

/// Whether a handshake begins behind what was sent.
fn is_served(mut stream: &TcpStream) -> bool {
    let mut record = [0];
    stream.read_exact(&mut record).is_ok() && record == [22]
}

#[test]
fn too_many_of_an_address_hear_an_alert_and_a_handshake_that_fails_gives_its_place_back() {
    let (server, authority) = secure(|settings| {
        settings.server.tls_handshake_timeout = Duration::from_millis(1500);
        connections_max(settings, 3);
    });
    let hello = hello(&authority.client(&Offer::default()));
    for endings in [
        // Nothing, half a record, a whole handshake but for its end: all are too late.
        [&b""[..], &[22, 3, 1, 2, 0, 1], &hello],
        // Not TLS, not HTTP either, not any TLS there is.
        [&b"GET /up HTTP/1.0\r\n\r\n"[..], b"\0\r\n\r\n", &[22, 9, 9, 0, 4, 1, 2, 3, 4]],
    ] {
        // Three have a place, and a fourth hears so before these are given up.
        let mut inside = Vec::new();
        eventually("three places and no more", || {
            inside.clear();
            inside.extend((0..3).map(|_| knock(server.address, &hello)));
            inside.iter().all(is_served) && answer(knock(server.address, b"")) == NOT_NOW
        });
        drop(inside);
        for ending in endings {
            let end = || answer(knock(server.address, ending));
            eventually("a place", || end() != NOT_NOW);
        }
    }
    eventually("handshakes to be too late", || handshakes(&server, "timeout") >= 3);
    eventually("a place", || is_served(&knock(server.address, &hello)));
    connect(&server, &authority).leave();
}

#[test]
fn a_client_that_does_not_read_its_handshake_is_given_up_and_holds_nobody_else_up() {
    let names: Vec<_> = (0..1500).map(|n| format!("host-{n:04}.example.test")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).chain(["localhost"]).collect();
    let (server, authority) = secure_with(&names, |settings| {
        settings.server.tls_handshake_timeout = Duration::from_secs(3);
        settings.server.send_buffer_bytes = 4096;
        connections_max(settings, 2);
    });
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.connect(&server.address.into()).unwrap();
    let hello = hello(&authority.client(&Offer::default()));
    let mut deaf = TcpStream::from(socket);
    deaf.write_all(&hello).unwrap();
    // Its neighbour's handshake is as long, and read.
    let mut neighbour = connect(&server, &authority);
    neighbour.expect_nothing();
    eventually("it to be given up", || handshakes(&server, "timeout") == 1);
    neighbour.expect_nothing();
    // Its place is another's now, who takes everything.
    let (heard, mut whole) = (answer(deaf).len(), 0);
    eventually("its place", || {
        whole = answer(knock(server.address, &hello)).len();
        whole > NOT_NOW.len()
    });
    assert!(heard < whole, "{heard} bytes of {whole}: nothing had to wait");
    neighbour.leave();
}

#[test]
fn a_flood_of_handshakes_lets_everybody_else_have_their_turn() {
    const HELLOS: usize = 400;
    // However long the machine takes for all of them.
    let (server, authority) = secure(|settings| settings.server.tls_handshake_timeout = 2 * DEADLINE);
    let mut inside = connect(&server, &authority);
    // One hello for all: it costs us nothing and the server as much as any other.
    let hello = hello(&authority.client(&Offer::default()));
    let (mut pings, mut longest) = (0, Duration::ZERO);
    let began_at = Instant::now();
    let flood: Vec<_> = (0..HELLOS).map(|_| knock(server.address, &hello)).collect();
    let is_over = flood.last().unwrap();
    is_over.set_nonblocking(true).unwrap();
    while is_over.peek(&mut [0]).is_err() {
        let sent_at = Instant::now();
        inside.expect_nothing();
        pings += 1;
        longest = longest.max(sent_at.elapsed());
    }
    let took = began_at.elapsed();
    println!("{pings} pings in {took:?}, the longest {longest:?}");
    // Nearly one for each hello; without turns these are three, of a third of a second.
    assert!(pings >= HELLOS / 20, "{pings} pings in {took:?}, the longest {longest:?}");
    assert!(flood.iter().all(|stream| stream.set_nonblocking(false).is_ok() && is_served(stream)));
}
