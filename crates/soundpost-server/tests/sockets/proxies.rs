//! What a proxy in front says of its clients: believed from those that are trusted, ignored from everybody else.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    num::NonZeroU32,
    time::{Duration, Instant},
};

use soundpost_server::config::Settings;

use crate::support::{Client, DEADLINE, Http, Reply, TestServer, app, eventually, handshake};

const TARGET: &str = "/app/key-one";

/// A server that trusts these; the test itself is at 127.0.0.1.
fn behind(trusted: &[&str], change: impl FnOnce(&mut Settings)) -> TestServer {
    TestServer::start_with(vec![app("one")], |settings| {
        let proxies = &mut settings.server.proxies.trusted;
        trusted.iter().for_each(|text| proxies.add(text).unwrap());
        change(settings);
    })
}

fn connections_max(settings: &mut Settings, max: u32) {
    settings.server.address_limits.connections_max = NonZeroU32::new(max);
}

/// What a handshake with these headers is answered with.
fn knock(address: SocketAddr, before: &[u8], headers: &str) -> Reply {
    let mut http = Http::connect(address);
    http.send_raw(&[before, handshake(TARGET, headers).as_bytes()].concat());
    let is_open = |reply: &Reply| reply.status == 101;
    let reply = http.reply(true);
    assert!(is_open(&reply) || reply.header("retry-after") == Some("1"), "{reply:?}");
    reply
}

fn open(server: &TestServer, before: &[u8], headers: &str) -> Client {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(before).unwrap();
    Client::open_on(stream, &server.apps[0], TARGET, headers, &[])
}

fn of(address: &str) -> String {
    format!("x-forwarded-for: {address}\r\n")
}

#[test]
fn connections_are_counted_by_the_client_that_a_trusted_proxy_names() {
    let server = behind(&["127.0.0.1", "10.0.0.0/8"], |settings| connections_max(settings, 2));
    let mut inside: Vec<_> = (0..2).map(|_| open(&server, b"", &of("192.0.2.1"))).collect();
    for headers in [
        of("192.0.2.1"),
        of("192.0.2.1:4711"),
        of("198.51.100.9, 192.0.2.1"),
        of("192.0.2.1, 10.0.0.3"),
        of("198.51.100.9, 192.0.2.1") + &of("10.0.0.3, 10.0.0.4"),
    ] {
        assert_eq!(knock(server.address, b"", &headers).status, 429, "{headers}");
    }
    assert_eq!(server.metric(r#"soundpost_refused_total{app="",reason="address"}"#), 5);
    // Others have places of their own, and so has the proxy, whose requests of the API count for nobody.
    inside
        .extend(["192.0.2.2", "[2001:db8::1]:99", "192.0.2.1, unknown"].map(|a| open(&server, b"", &of(a))));
    (0..3).for_each(|_| assert_eq!(server.http().get("/up").status, 200));
    inside.iter_mut().for_each(Client::greeted);
    inside.remove(0).leave();
    server.await_open(4);
    eventually("its place", || knock(server.address, b"", &of("192.0.2.1")).status == 101);
}

#[test]
fn one_connection_of_a_proxy_serves_many_clients() {
    let server = behind(&["127.0.0.1"], |settings| connections_max(settings, 1));
    let _inside = open(&server, b"", &of("192.0.2.1"));
    let mut kept = server.http();
    // Who never opens takes no place, and leaves the connection to the next.
    kept.send_raw(handshake(TARGET, &of("192.0.2.3")).replace("version: 13", "version: 12").as_bytes());
    assert_eq!(kept.reply(false).status, 400);
    open(&server, b"", &of("192.0.2.3")).greeted();
    for (headers, status) in [(of("192.0.2.1"), 429), (of("192.0.2.1"), 429), (of("192.0.2.2"), 101)] {
        kept.send_raw(handshake(TARGET, &headers).as_bytes());
        assert_eq!(kept.reply(status == 101).status, status);
    }
}

#[test]
fn whoever_is_not_trusted_is_not_believed() {
    let headers = |n: u8| {
        of(&format!("192.0.2.{n}")) + "x-forwarded-proto: https\r\nforwarded: for=192.0.2.7;proto=https\r\n"
    };
    for trusted in [&[][..], &["10.0.0.0/8", "::1"]] {
        let server = behind(trusted, |settings| connections_max(settings, 2));
        let inside = [1, 2].map(|n| open(&server, b"", &headers(n)));
        assert_eq!(knock(server.address, b"", &headers(3)).status, 429);
        drop(inside);
        let server = behind(trusted, |settings| settings.apps[0].tls_only = true);
        open(&server, b"", &headers(1)).expect_goodbye(4000, "Application only accepts TLS connections");
    }
}

#[test]
fn tls_that_ended_at_a_trusted_proxy_is_tls() {
    let mut tls_only = app("one");
    tls_only.tls_only = true;
    let server = TestServer::start_with(vec![tls_only], |settings| {
        settings.server.proxies.trusted.add("127.0.0.1").unwrap();
    });
    for (headers, is_tls) in [
        ("x-forwarded-proto: https\r\n", true),
        ("x-forwarded-proto: wss\r\nx-forwarded-for: 192.0.2.1\r\n", true),
        ("x-forwarded-proto: http\r\n", false),
        ("x-forwarded-proto: https, http\r\n", false),
        ("", false),
    ] {
        let mut client = open(&server, b"", headers);
        if is_tls {
            client.greeted();
        } else {
            client.expect_goodbye(4000, "Application only accepts TLS connections");
        }
    }
}

/// A header of version 2 for `192.0.2.N`, with the addition that says whether the client speaks TLS.
fn binary(n: u8, is_tls: bool) -> Vec<u8> {
    let said = [192, 0, 2, n, 10, 0, 0, 1, 0x12, 0x34, 0x01, 0xbb, 0x20, 0, 5, u8::from(is_tls), 0, 0, 0, 0];
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x14", &said[..]].concat()
}

fn line(n: u8) -> Vec<u8> {
    format!("PROXY TCP4 192.0.2.{n} 10.0.0.1 4711 443\r\n").into_bytes()
}

const REFUSED: &str = r#"soundpost_refused_total{app="",reason="proxy_header"}"#;

#[test]
fn connections_are_counted_by_the_client_in_a_proxy_header() {
    let server = behind(&["127.0.0.1"], |settings| {
        settings.server.proxies.protocol = true;
        connections_max(settings, 2);
    });
    // What a client adds itself is not believed: a header of HTTP is not the proxy's word here.
    let mut inside = vec![open(&server, &line(1), ""), open(&server, &binary(1, false), &of("198.51.100.9"))];
    for header in [line(1), binary(1, true)] {
        assert_eq!(knock(server.address, &header, &of("198.51.100.7")).status, 429);
        assert_eq!(Http::reply(&mut refused(&server, &header), false).status, 429);
    }
    inside.extend([open(&server, &line(2), ""), open(&server, &binary(3, false), "")]);
    // The proxy's own looks are counted for nobody.
    for header in [&b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"[..], b"PROXY UNKNOWN\r\n"] {
        let mut http = Http::connect(server.address);
        http.send_raw(header);
        assert_eq!(http.get("/up").status, 200);
    }
    inside.iter_mut().for_each(Client::greeted);
    assert_eq!(server.metric(REFUSED), 0);
    inside.remove(0).vanish();
    eventually("its place", || knock(server.address, &line(1), "").status == 101);
}

/// A connection that says nothing behind its header.
fn refused(server: &TestServer, header: &[u8]) -> Http {
    let mut http = Http::connect(server.address);
    http.send_raw(header);
    http
}

#[test]
fn a_header_may_come_in_pieces_and_with_the_request() {
    let server = behind(&["127.0.0.0/8"], |settings| settings.server.proxies.protocol = true);
    for header in [line(1), binary(1, false)] {
        for at in [1, 5, 12, 15, header.len() - 1, header.len()] {
            let (start, end) = header.split_at(at);
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.write_all(start).unwrap();
            // So that it is read by itself: the server has taken it, and waits for more.
            std::thread::sleep(Duration::from_millis(5));
            stream.write_all(end).unwrap();
            Client::open_on(stream, &server.apps[0], TARGET, "", &[]).greeted();
        }
    }
}

#[test]
fn tls_that_ended_at_a_proxy_is_told_in_its_header() {
    let mut tls_only = app("one");
    tls_only.tls_only = true;
    let server = TestServer::start_with(vec![tls_only], |settings| {
        settings.server.proxies.trusted.add("127.0.0.1").unwrap();
        settings.server.proxies.protocol = true;
    });
    open(&server, &binary(1, true), "").greeted();
    for (header, headers) in
        [(binary(1, false), ""), (line(1), ""), (line(1), "x-forwarded-proto: https\r\n")]
    {
        let mut client = open(&server, &header, headers);
        client.expect_goodbye(4000, "Application only accepts TLS connections");
    }
    // A proxy behind the proxy, trusted itself.
    let mut header = b"PROXY TCP4 127.0.0.1 10.0.0.1 4711 443\r\n".to_vec();
    open(&server, &header, "x-forwarded-proto: https\r\nx-forwarded-for: 192.0.2.1\r\n").greeted();
    header.truncate(20);
    drop(refused(&server, &header));
    eventually("the end within the header", || server.metric(REFUSED) == 1);
}

#[test]
fn without_its_header_a_trusted_proxy_is_not_served() {
    let server = behind(&["127.0.0.1"], |settings| settings.server.proxies.protocol = true);
    let long = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"[..], &[0; 600]].concat();
    for (count, bytes) in (1..).zip([
        &b"GET /up HTTP/1.1\r\nhost: test\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PROXY TCP4 192.0.2.1\r\n",
        b"PROXY UDP4 192.0.2.1 10.0.0.1 4711 443\r\n",
        &[b'P'; 200],
        &long,
    ]) {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(bytes).unwrap();
        match stream.read(&mut [0; 100]) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("it was answered: {other:?}"),
        }
        eventually("it to be counted", || server.metric(REFUSED) == count);
    }
    // A look at the port is no fault.
    drop(TcpStream::connect(server.address).unwrap());
    open(&server, &line(1), "").greeted();
    assert_eq!(server.metric(REFUSED), 6);
}

#[test]
fn a_header_that_does_not_come_is_not_waited_for() {
    let server = behind(&["127.0.0.1"], |settings| settings.server.proxies.protocol = true);
    let began = Instant::now();
    let mut waiting = [&b""[..], b"PROXY TCP4 192.", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"].map(|bytes| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(3 * DEADLINE)).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    });
    for stream in &mut waiting {
        assert_eq!(stream.read(&mut [0; 100]).unwrap(), 0);
    }
    assert!(began.elapsed() >= Duration::from_millis(4900), "they were not given their time");
    assert_eq!(server.metric(REFUSED), 3);
}

#[test]
fn a_header_of_somebody_else_is_a_bad_request() {
    let server = behind(&["10.0.0.0/8"], |settings| settings.server.proxies.protocol = true);
    for header in [line(1), binary(1, true)] {
        let mut http = Http::connect(server.address);
        http.send_raw(&[&header[..], b"GET /up HTTP/1.1\r\nhost: test\r\n\r\n"].concat());
        assert_eq!(http.reply(false).status, 400);
    }
    server.connect().leave();
    assert_eq!(server.metric(REFUSED), 0);
}
