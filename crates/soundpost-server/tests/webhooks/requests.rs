//! What a request looks like on the wire, and which connection it takes.

use std::time::Duration;

use crate::{
    hook::Hook,
    receiver::{Act, OK, Receiver, say, status},
};

const BODY: &[u8] =
    br#"{"time_ms":1700000000000,"events":[{"name":"channel_occupied","channel":"private-orders.1"}]}"#;

#[test]
fn a_request_is_what_the_sdks_of_pusher_read() {
    let receiver = Receiver::start(|_| say(OK));
    let url = format!("http://{}/hook?token=a%20b&x=[1]", receiver.address);
    let headers = [("Authorization", "Bearer x"), ("x-Tenant", "7")];
    let sender = Hook::to(&url).headers(headers).open();
    assert_eq!(sender.post(BODY).unwrap().status, 200);
    let request = receiver.next();
    let mut lines: Vec<_> = request.head.trim_end().lines().collect();
    assert_eq!(lines.remove(0), "POST /hook?token=a%20b&x=[1] HTTP/1.1");
    lines.sort_unstable();
    let host = format!("Host: {}", receiver.address);
    let length = format!("Content-Length: {}", BODY.len());
    assert_eq!(
        lines,
        [
            "Authorization: Bearer x",
            &length,
            "Content-Type: application/json",
            &host,
            concat!("User-Agent: Soundpost/", env!("CARGO_PKG_VERSION")),
            "X-Pusher-Key: key-one",
            // printf '%s' BODY | openssl dgst -sha256 -hmac secret-one
            "X-Pusher-Signature: ed5ba3a68afc1ec5b038e4510d011ae8d531fa9583663abb9f38f735b47e52e2",
            "X-Soundpost-Event-Ids: 2f.1,2f.2",
            "X-Tenant: 7",
        ]
    );
    assert_eq!(request.body, BODY);
}

#[test]
fn a_connection_is_used_again() {
    for answer in [
        OK,
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: x\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\nno!",
    ] {
        let receiver = Receiver::start(move |_| say(answer));
        let sender = Hook::to(&receiver.url("http")).open();
        for _ in 0..5 {
            sender.post(b"{}").unwrap();
        }
        assert_eq!(receiver.connections(), 1, "{answer}");
    }
}

#[test]
fn a_receiver_that_ends_its_connections_is_asked_over_new_ones() {
    for answer in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        // The end of the connection is the end of the body.
        "HTTP/1.1 200 OK\r\n\r\nok",
        // It says that it stays, and goes.
        OK,
    ] {
        let receiver = Receiver::start(move |_| [say(answer), vec![Act::Close]].concat());
        let sender = Hook::to(&receiver.url("http")).open();
        for _ in 0..3 {
            assert_eq!(sender.status(), 200);
        }
        assert_eq!(receiver.connections(), 3, "{answer}");
    }
}

/// The usual race: the receiver gives up an idle connection in the moment in which the request is on its way.
#[test]
fn a_request_that_meets_the_end_of_an_idle_connection_goes_over_another() {
    let receiver = Receiver::start(|request| match request.connection {
        0 if request.body == b"first" => say(OK),
        0 => vec![Act::Close],
        _ => status(201),
    });
    let sender = Hook::to(&receiver.url("http")).open();
    assert_eq!(sender.post(b"first").unwrap().status, 200);
    assert_eq!(sender.post(b"second").unwrap().status, 201);
    assert_eq!(receiver.connections(), 2);
}

#[test]
fn a_slow_answer_is_waited_for() {
    let wait = Act::Wait(Duration::from_millis(300));
    let receiver = Receiver::start(move |_| [vec![wait.clone()], say(OK)].concat());
    assert_eq!(Hook::to(&receiver.url("http")).open().status(), 200);
}
