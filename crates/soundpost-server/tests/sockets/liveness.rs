//! Pings in both directions, and the end of who does not answer.

use std::time::Duration;

use serde_json::json;
use soundpost_protocol::{app::App, websocket::Opcode};

use crate::support::{Seen, TestServer, masked};

#[test]
fn a_ping_is_answered_whatever_its_data() {
    let server = TestServer::start(|_| {});
    let mut client = server.connect();
    for data in [r#","data":{}"#, r#","data":"{}""#, r#","data":null"#, ""] {
        client.send_text(&format!(r#"{{"event":"pusher:ping"{data}}}"#));
        client.expect(&json!({"event": "pusher:pong", "data": "{}"}));
    }
    for payload in [&b""[..], b"hello", &[0xff; 125]] {
        client.send_raw(&masked(Opcode::Ping, payload));
        assert_eq!(client.next(), Seen::Pong(payload.to_vec()));
    }
    // A pong nobody asked for is no mistake.
    client.send_raw(&masked(Opcode::Pong, b"x"));
    client.send(&json!({"event": "pusher:pong", "data": {}}));
    client.expect_nothing();
}

/// With time enough for who answers on a busy machine.
fn impatient(app: &mut App) {
    app.ping_interval = Duration::from_secs(1);
    app.pong_timeout = Duration::from_secs(4);
}

#[test]
fn who_has_answered_is_pinged_again_however_long_the_answer_might_have_taken() {
    let server = TestServer::start(|app| {
        app.ping_interval = Duration::from_secs(1);
        app.pong_timeout = Duration::from_secs(3600);
    });
    let mut client = server.connect();
    for _ in 0..3 {
        client.expect(&json!({"event": "pusher:ping", "data": "{}"}));
        client.send(&json!({"event": "pusher:pong", "data": {}}));
    }
    client.leave();
}

#[test]
fn who_does_not_answer_a_ping_is_closed_and_who_does_stays() {
    let server = TestServer::start(impatient);
    let mut silent = server.connect();
    let mut silent_with_control_frames = server.connect();
    silent_with_control_frames.send_raw(&masked(Opcode::Pong, b""));
    let lively = std::thread::spawn({
        let mut client = server.connect();
        move || {
            // Longer than a silent one would live.
            for _ in 0..6 {
                client.expect(&json!({"event": "pusher:ping", "data": "{}"}));
                client.send(&json!({"event": "pusher:pong", "data": {}}));
            }
            client.expect_nothing();
            client.leave();
        }
    });
    silent.expect(&json!({"event": "pusher:ping", "data": "{}"}));
    assert_eq!(silent_with_control_frames.next(), Seen::Ping(Vec::new()));
    silent.expect_goodbye(4201, "Pong reply not received in time");
    silent_with_control_frames.expect_goodbye(4201, "Pong reply not received in time");
    lively.join().unwrap();
    drop((silent, silent_with_control_frames));
    server.await_open(0);
    assert_eq!(server.metric(r#"soundpost_closed_total{app="app-one",reason="pong_timeout"}"#), 2);
}
