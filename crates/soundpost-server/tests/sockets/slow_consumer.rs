//! A client that does not read is cut; its neighbours do not notice.

use std::{
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::json;
use socket2::{Domain, Socket, Type};
use soundpost_protocol::websocket::Opcode;

use crate::support::{Client, Seen, TestServer, app, eventually, masked};

const CUT: &str = r#"soundpost_closed_total{app="app-one",reason="slow_consumer"}"#;

/// A subscriber of `orders` with little room for what it does not read.
fn narrow(server: &TestServer) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(32 << 10).unwrap();
    socket.connect(&server.address.into()).unwrap();
    let mut client = Client::open_on(TcpStream::from(socket), &server.apps[0], "/app/key-one", "", &[]);
    client.greeted();
    client.subscribe("orders");
    client
}

#[test]
fn who_stops_reading_is_cut_and_a_neighbour_hears_everything() {
    let server = TestServer::start_with(vec![app("one")], |settings| {
        settings.server.workers = 1.try_into().unwrap();
        settings.server.queue_bytes_max = 500_000;
    });
    let mut slow = narrow(&server);
    let mut healthy = server.connect();
    healthy.subscribe("orders");
    let mut api = server.api();
    let data = "x".repeat(100_000);
    for n in 0..40 {
        api.trigger("orders", &n.to_string(), &data);
        healthy.expect(&json!({"event": n.to_string(), "channel": "orders", "data": data}));
    }
    server.await_open(1);
    assert_eq!(server.metric(CUT), 1);
    eventually("the queue to be given back", || server.metric("soundpost_queued_bytes") == 0);
    let counts = api.ask("/channels/orders", &[("info", "subscription_count")]);
    assert_eq!(counts, json!({"occupied": true, "subscription_count": 1}));
    // It hears a beginning without gaps, and then that the connection is gone.
    let (mut heard, mut seen) = (0, slow.next());
    while let Seen::Event(event) = seen {
        assert_eq!(event["event"], heard.to_string());
        (heard, seen) = (heard + 1, slow.next());
    }
    assert_eq!(seen, Seen::Reset);
    assert!(heard < 20, "{heard} events were read though nobody read");
}

#[test]
fn who_reads_late_gets_everything_that_waited() {
    let server = TestServer::start(|_| {});
    let mut late = server.connect();
    late.subscribe("orders");
    let mut api = server.api();
    let data = "x".repeat(100_000);
    for n in 0..12 {
        api.trigger("orders", &n.to_string(), &data);
    }
    for n in 0..12 {
        late.expect(&json!({"event": n.to_string(), "channel": "orders", "data": data}));
    }
    late.expect_silence();
    eventually("the queue to be empty", || server.metric("soundpost_queued_bytes") == 0);
}

#[test]
fn who_takes_nothing_for_ten_seconds_is_cut_however_little_waits() {
    let server = TestServer::start(|_| {});
    let mut stalled = narrow(&server);
    let mut api = server.api();
    let began = Instant::now();
    for _ in 0..4 {
        server.deliver(&mut api, "n", &"x".repeat(100_000));
    }
    assert!(server.metric("soundpost_queued_bytes") > 0, "nothing waits, so nothing can stall");
    eventually("it to be cut", || server.metric(CUT) == 1);
    assert!(began.elapsed() >= Duration::from_secs(10), "it was not given its time");
    server.await_open(0);
    eventually("the queue to be given back", || server.metric("soundpost_queued_bytes") == 0);
    while matches!(stalled.next(), Seen::Event(_)) {}
}

#[test]
fn a_flood_of_pings_from_who_does_not_read_is_cut_too() {
    let server = TestServer::start_with(vec![app("one")], |settings| {
        settings.server.queue_bytes_max = 200_000;
    });
    let mut flooding = narrow(&server);
    let pings = masked(Opcode::Text, r#"{"event":"pusher:ping"}"#).repeat(1000);
    eventually("it to be cut", || {
        // Once it is cut the writes fail.
        drop(flooding.stream.write_all(&pings));
        server.metric(CUT) == 1
    });
    server.await_open(0);
    eventually("the queue to be given back", || server.metric("soundpost_queued_bytes") == 0);
}

#[test]
fn what_waits_goes_out_before_the_goodbye() {
    let server = TestServer::start(|_| {});
    let mut api = server.api();
    let data = "x".repeat(100_000);
    for (last_word, code, text) in [
        (masked(Opcode::Binary, b""), 1003, "Binary messages are not supported"),
        (masked(Opcode::Close, 1001_u16.to_be_bytes()), 1001, ""),
    ] {
        let mut client = narrow(&server);
        for n in 0..6 {
            server.deliver(&mut api, &n.to_string(), &data);
        }
        assert!(server.metric("soundpost_queued_bytes") > 0, "nothing waits");
        client.send_raw(&last_word);
        for n in 0..6 {
            client.expect(&json!({"event": n.to_string(), "channel": "orders", "data": data}));
        }
        assert_eq!(client.next(), Seen::Close(Some((code, text.to_owned()))));
        assert_eq!(client.next(), Seen::Eof);
        drop(client);
        server.await_open(0);
    }
}
