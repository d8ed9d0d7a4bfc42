//! The handshake, the greeting, and every reason to be turned away at the door.

use serde_json::json;
use soundpost_protocol::app::{App, Origins};

use crate::support::{Client, Http, TestServer, app, eventually};

fn open(server: &TestServer, target: &str, headers: &str) -> Client {
    Client::open(server.address, &server.apps[0], target, headers, &[])
}

#[test]
fn the_greeting_names_the_connection_and_the_activity_timeout() {
    let server = TestServer::start(|app| app.activity_timeout = std::time::Duration::from_secs(17));
    let mut client = open(&server, "/app/key-one?protocol=7&client=js&version=8.6.0&flash=false", "");
    let greeting = client.event();
    let data = greeting["data"].as_str().unwrap();
    let socket_id = data
        .strip_prefix(r#"{"socket_id":""#)
        .and_then(|rest| rest.strip_suffix(r#"","activity_timeout":17}"#))
        .unwrap_or_else(|| panic!("{data}"));
    let (left, right) = socket_id.split_once('.').unwrap();
    for half in [left, right] {
        assert!(!half.is_empty() && half.bytes().all(|byte| byte.is_ascii_digit()), "{socket_id}");
    }
    assert_eq!(greeting, json!({"event": "pusher:connection_established", "data": data}));
}

#[test]
fn whatever_a_client_says_of_itself_is_fine() {
    let server = TestServer::start(|_| {});
    for (query, headers) in [
        ("", ""),
        ("?", ""),
        ("?protocol=4", ""),
        ("?protocol=7&client=&version=%00%ff&flash=true&x=1&x=2", ""),
        ("?client=js&protocol=%37", ""),
        ("?protocol=7", "origin: https://any.test\r\n"),
        ("?protocol=7", "sec-websocket-protocol: mqtt\r\nsec-websocket-extensions: permessage-deflate\r\n"),
    ] {
        let mut client = open(&server, &format!("/app/key-one{query}"), headers);
        client.greeted();
        client.expect_nothing();
    }
}

fn app_with(name: &str, change: impl FnOnce(&mut App)) -> App {
    let mut app = app(name);
    change(&mut app);
    app
}

#[test]
fn who_is_turned_away_learns_why_in_an_error_and_a_close_frame() {
    let apps = vec![
        app("one"),
        app_with("off", |app| app.enabled = false),
        app_with("tls", |app| app.tls_only = true),
        app_with("web", |app| app.allowed_origins = Origins::new(vec!["*.app.test".to_owned()])),
        app_with("full", |app| app.connections_max = 1.try_into().ok()),
    ];
    let server = TestServer::start_with(apps, |_| {});
    let _full = server.connect_to(4);
    for (target, headers, code, text) in [
        ("/app/key-one?protocol=3", "", 4007, "Unsupported protocol version"),
        ("/app/key-one?protocol=8", "", 4007, "Unsupported protocol version"),
        ("/app/key-one?protocol=x", "", 4007, "Unsupported protocol version"),
        ("/app/key-one?protocol=", "", 4007, "Unsupported protocol version"),
        ("/app/nobody?protocol=7", "", 4001, "Application does not exist"),
        ("/app/app-one", "", 4001, "Application does not exist"),
        ("/", "", 4005, "Path not found"),
        ("/app", "", 4005, "Path not found"),
        ("/app/", "", 4005, "Path not found"),
        ("/app/key-one/x", "", 4005, "Path not found"),
        ("/apps/app-one/events", "", 4005, "Path not found"),
        ("/app/key-off", "", 4003, "Application disabled"),
        ("/app/key-tls", "", 4000, "Application only accepts TLS connections"),
        ("/app/key-web", "", 4009, "Origin not allowed"),
        ("/app/key-web", "origin: https://app.test.evil.com\r\n", 4009, "Origin not allowed"),
        ("/app/key-full", "", 4004, "Application is over connection quota"),
        // The first check that fails decides.
        ("/app/key-off?protocol=3", "origin: x\r\n", 4003, "Application disabled"),
    ] {
        let mut client = open(&server, target, headers);
        client.expect_goodbye(code, text);
    }
    let mut client = open(&server, "/app/key-web", "origin: https://my.app.test:8080\r\n");
    client.greeted();
}

#[test]
fn an_apps_place_is_free_again_when_its_connection_has_ended() {
    let server = TestServer::start(|app| app.connections_max = 1.try_into().ok());
    for _ in 0..2 {
        let first = server.connect();
        open(&server, "/app/key-one", "").expect_goodbye(4004, "Application is over connection quota");
        assert_eq!(server.api().ask("/connections", &[]), json!({"connections": 1}));
        first.leave();
        server.await_open(0);
    }
    server.connect().vanish();
    server.await_open(0);
    server.connect().expect_nothing();
}

#[test]
fn a_full_node_asks_clients_to_come_back_later() {
    let apps = vec![app("one"), app("two")];
    let server = TestServer::start_with(apps, |settings| settings.server.connections_max = 1.try_into().ok());
    let first = server.connect();
    for key in ["key-one", "key-two"] {
        open(&server, &format!("/app/{key}"), "").expect_goodbye(4100, "Over capacity");
    }
    // Who was turned away by the node takes no place in the app either.
    server.await_open(1);
    first.leave();
    server.await_open(0);
    server.connect_to(1).expect_nothing();
}

#[test]
fn what_is_no_valid_handshake_gets_an_http_status() {
    let server = TestServer::start(|_| {});
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
    let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "sec-websocket-version: 13\r\n";
    let invalid = "the WebSocket handshake is not valid: version 13 and a key are needed";
    for (headers, status, body) in [
        (String::new(), 426, "this is a WebSocket endpoint"),
        (format!("{upgrade}{key}sec-websocket-version: 12\r\n"), 400, invalid),
        (format!("{upgrade}{key}"), 400, invalid),
        (format!("{upgrade}{version}"), 400, invalid),
    ] {
        let mut http = server.http();
        http.send_raw(format!("GET /app/key-one HTTP/1.1\r\nhost: test\r\n{headers}\r\n").as_bytes());
        let reply = http.reply(false);
        assert_eq!((reply.status, reply.body.as_str()), (status, body), "{headers}");
        // RFC 9110, section 15.5.22: a 426 says what to upgrade to.
        assert_eq!(reply.header("upgrade"), (status == 426).then_some("websocket"));
    }
}

#[test]
fn a_handshake_over_http_1_0_is_refused() {
    // As an nginx sends it that was not told `proxy_http_version 1.1`; nothing can be upgraded then.
    let server = TestServer::start(|_| {});
    let mut http = server.http();
    http.send_raw(
        b"GET /app/key-one HTTP/1.0\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
          sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(http.reply(true).status, 400);
}

#[test]
fn a_connection_that_was_used_for_http_may_still_be_upgraded() {
    let server = TestServer::start(|_| {});
    let mut http = server.http();
    assert_eq!(http.get("/up").status, 200);
    let mut client = Client::open_on(http.into_stream(), &server.apps[0], "/app/key-one", "", &[]);
    client.greeted();
    client.subscribe("orders");
}

#[test]
fn bytes_behind_the_handshake_are_the_first_frames() {
    let server = TestServer::start(|_| {});
    let text = json!({"event": "pusher:subscribe", "data": {"auth": "", "channel": "orders"}}).to_string();
    let early = crate::support::masked(soundpost_protocol::websocket::Opcode::Text, text);
    // Whole, and cut inside the frame.
    for sent in [early.len(), 3] {
        let (now, later) = early.split_at(sent);
        let mut client = Client::open(server.address, &server.apps[0], "/app/key-one", "", now);
        client.greeted();
        client.send_raw(later);
        let event = "pusher_internal:subscription_succeeded";
        client.expect(&json!({"event": event, "channel": "orders", "data": "{}"}));
    }
}

#[test]
fn a_connection_without_a_word_holds_up_nobody() {
    let server = TestServer::start_with(vec![app("one")], |settings| {
        settings.server.workers = 1.try_into().unwrap();
    });
    let mut slow: Vec<_> = (0..20).map(|_| server.http()).collect();
    let head = b"GET /up HTTP/1.1\r\nhost: test\r\n\r\n";
    for (sent, http) in slow.iter_mut().enumerate() {
        http.send_raw(&head[..sent]);
    }
    server.connect().expect_nothing();
    for (sent, http) in slow.iter_mut().enumerate() {
        http.send_raw(&head[sent..]);
        assert_eq!(http.reply(false).body, r#"{"health":"OK"}"#);
    }
    // And one that breaks off in the middle leaves nothing behind.
    let mut broken = Http::connect(server.address);
    broken.send_raw(&head[..10]);
    drop(broken);
    eventually("all connections to end", || server.metric("soundpost_connections{app=\"app-one\"}") == 0);
}
