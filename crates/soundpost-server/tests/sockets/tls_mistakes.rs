//! The wrong protocol for the port: whoever speaks it is told, in its own language.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use rustls::{AlertDescription, Error};
use serde_json::json;

use crate::support::{Authority, Client, DEADLINE, Http, Offer, TLS_1_2, TLS_1_3, TestServer, app};

fn secure(authority: &Authority) -> TestServer {
    let pair = authority.issue("localhost", &["localhost"]);
    TestServer::start_with(vec![app("one")], |settings| settings.server.tls = vec![pair])
}

#[test]
fn plain_http_on_a_tls_port_is_told_so() {
    let authority = Authority::new();
    let server = secure(&authority);
    for (method, target) in [("GET", "/up"), ("GET", "/"), ("POST", "/apps/app-one/events")] {
        let mut http = server.http();
        let reply = http.request(method, target, b"");
        assert_eq!(reply.status, 400);
        assert_eq!(reply.body.trim_end(), "this port speaks TLS: use https:// or wss://");
        http.expect_end();
    }
    let plain = server.metric(r#"soundpost_tls_handshakes_total{result="plain"}"#);
    assert_eq!(plain, 3);
}

#[test]
fn a_plain_websocket_on_a_tls_port_is_sent_to_tls() {
    let authority = Authority::new();
    let server = secure(&authority);
    let mut client = Client::open(server.address, &server.apps[0], "/app/key-one?protocol=7", "", &[]);
    client.expect_goodbye(4000, "Application only accepts TLS connections");
    let refused = server.metric(r#"soundpost_refused_total{app="app-one",reason="tls_only"}"#);
    assert_eq!(refused, 1);
    Client::open(server.address, &server.apps[0], "/elsewhere", "", &[])
        .expect(&json!({"event": "pusher:error", "data": {"code": 4005, "message": "Path not found"}}));
}

#[test]
fn what_is_no_protocol_at_all_is_turned_away() {
    let authority = Authority::new();
    let server = secure(&authority);
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"\x00\x01\x02 nonsense\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn tls_on_a_plain_port_is_answered_with_an_alert() {
    let server = TestServer::start(|_| {});
    let authority = Authority::new();
    for versions in [TLS_1_3, TLS_1_2] {
        let error = authority.connect(server.address, &Offer { versions, ..Offer::default() }).err().unwrap();
        assert_eq!(error, Error::AlertReceived(AlertDescription::ProtocolVersion));
    }
    // A first request of any length is read as it was.
    for length in [10, 1900, 2100, 6000] {
        let mut http = Http::connect(server.address);
        let padding = format!("x-padding: {}\r\n", "p".repeat(length));
        http.send_raw(format!("GET /up HTTP/1.1\r\nhost: test\r\n{padding}\r\n").as_bytes());
        assert_eq!(http.reply(false).status, 200);
    }
}
