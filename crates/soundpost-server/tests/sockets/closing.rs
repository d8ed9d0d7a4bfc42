//! The end of a connection that its client begins.

use serde_json::json;
use soundpost_protocol::websocket::Opcode;

use crate::support::{Seen, TestServer, masked};

#[test]
fn a_close_frame_is_answered_with_its_own_code() {
    let server = TestServer::start(|_| {});
    for code in [None, Some(1000_u16), Some(1001), Some(3000), Some(4999)] {
        let mut client = server.connect();
        client.subscribe("orders");
        let payload = code.map_or_else(Vec::new, |code| [&code.to_be_bytes()[..], b"bye"].concat());
        // What comes behind the close frame is not heard.
        let late = masked(Opcode::Text, r#"{"event":"pusher:ping"}"#);
        client.send_raw(&[masked(Opcode::Close, payload), late].concat());
        assert_eq!(client.next(), Seen::Close(code.map(|code| (code, String::new()))));
        assert_eq!(client.next(), Seen::Eof);
        drop(client);
        server.await_open(0);
        assert_eq!(server.api().ask("/channels", &[]), json!({"channels": {}}));
    }
    assert_eq!(server.metric(r#"soundpost_closed_total{app="app-one",reason="client_left"}"#), 5);
}

#[test]
fn a_client_that_never_closes_its_side_is_not_waited_for_long() {
    let server = TestServer::start(|_| {});
    let mut client = server.connect();
    client.send_raw(&masked(Opcode::Close, b""));
    assert_eq!(client.next(), Seen::Close(None));
    assert_eq!(client.next(), Seen::Eof);
    server.await_open(0);
    drop(client);
}

#[test]
fn however_a_client_goes_its_channels_are_left() {
    let server = TestServer::start(|_| {});
    let mut api = server.api();
    for reset in [false, true] {
        let mut client = server.connect();
        client.subscribe("orders");
        client.subscribe("private-a");
        if reset {
            socket2::SockRef::from(&*client.stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        }
        drop(client);
        server.await_open(0);
        assert_eq!(api.ask("/channels", &[]), json!({"channels": {}}));
        assert_eq!(api.ask("/connections", &[]), json!({"connections": 0}));
    }
    assert_eq!(server.metric(r#"soundpost_closed_total{app="app-one",reason="lost"}"#), 2);
}

#[test]
fn a_join_and_a_goodbye_in_one_breath_leave_nothing() {
    let server = TestServer::start(|_| {});
    let mut witness = server.connect();
    let room = "presence-room";
    witness.join(room, r#"{"user_id":"w"}"#);
    for goodbye in [masked(Opcode::Close, b""), masked(Opcode::Binary, b"")] {
        let mut client = server.connect();
        let join = client.subscription(room, Some(r#"{"user_id":"c"}"#)).to_string();
        client.send_raw(&[masked(Opcode::Text, join), goodbye].concat());
        let added =
            json!({"event": "pusher_internal:member_added", "channel": room, "data": r#"{"user_id":"c"}"#});
        let removed =
            json!({"event": "pusher_internal:member_removed", "channel": room, "data": r#"{"user_id":"c"}"#});
        witness.expect(&added);
        witness.expect(&removed);
        while client.next() != Seen::Eof {}
    }
    witness.expect_silence();
    let users = server.api().ask("/channels/presence-room/users", &[]);
    assert_eq!(users, json!({"users": [{"id": "w"}]}));
}

#[test]
fn connections_that_come_and_go_leave_nothing() {
    let server = TestServer::start(|_| {});
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let server = &server;
            scope.spawn(move || {
                for n in 0..40 {
                    let mut client = server.connect();
                    client.subscribe("orders");
                    client.subscribe(&format!("own-{thread}-{n}"));
                    let join = client.subscription("presence-room", Some(r#"{"user_id":1}"#));
                    client.send(&join);
                    match n % 3 {
                        0 => client.vanish(),
                        1 => drop(client),
                        _ => client.send_raw(&masked(Opcode::Close, b"")),
                    }
                }
            });
        }
    });
    server.await_open(0);
    assert_eq!(server.api().ask("/channels", &[]), json!({"channels": {}}));
    assert_eq!(server.metric(r#"soundpost_subscriptions{app="app-one"}"#), 0);
    let ended =
        |reason| server.metric(&format!(r#"soundpost_closed_total{{app="app-one",reason="{reason}"}}"#));
    assert_eq!(ended("lost") + ended("client_left"), 160);
}
