//! A server that stops: it says so, sends its clients away, serves publishers to the end, and ends.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Client, Http, TestServer, app, eventually, signed_target};

/// Long enough for what is to happen within it on a busy machine.
const WINDOW: Duration = Duration::from_secs(5);

#[test]
fn a_stopping_server_sends_clients_away_and_serves_publishers_to_the_end() {
    let server = TestServer::start_with(vec![app("one")], |settings| {
        settings.server.workers = 1.try_into().unwrap();
        settings.server.drain = WINDOW;
    });
    let mut clients: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.subscribe("orders");
    }
    let mut api = server.api();
    api.trigger("orders", "before", "");
    for client in &mut clients {
        client.expect(&json!({"event": "before", "channel": "orders", "data": ""}));
    }
    let began = Instant::now();
    server.begin_stop();
    for address in [server.address, server.admin] {
        eventually("/ready to say no", || Http::connect(address).get("/ready").status == 503);
    }
    let reply = api.post("/events", r#"{"name":"during","channel":"orders","data":""}"#);
    assert_eq!((reply.status, reply.body.as_str()), (200, "{}"));
    assert_eq!(reply.header("connection"), Some("close"));
    api.http.expect_end();
    assert_eq!(server.http().get("/").status, 503);
    assert_eq!(server.http().get("/up").status, 200, "a server that stops is alive");
    Client::open(server.address, &server.apps[0], "/app/key-one", "", &[])
        .expect_goodbye(4100, "Over capacity");

    // The last to be sent away still hears what was published meanwhile.
    let mut heard = 0;
    for mut client in clients {
        let mut next = client.event();
        if next["event"] == "during" {
            heard += 1;
            next = client.event();
        }
        let restarting = json!({"code": 4200, "message": "Server is restarting"});
        assert_eq!(next, json!({"event": "pusher:error", "data": restarting}));
        assert_eq!(
            client.next(),
            crate::support::Seen::Close(Some((4200, "Server is restarting".to_owned())))
        );
        assert_eq!(client.next(), crate::support::Seen::Eof);
    }
    assert!(heard > 0, "goodbyes are spread over the window");
    eventually("the end", || server.has_ended());
    assert!(began.elapsed() >= WINDOW, "publishers are served for the whole window");
}

#[test]
fn asked_twice_a_server_ends_at_once() {
    let server = TestServer::start(|_| {});
    let _client = server.connect();
    server.begin_stop();
    eventually("/ready to say no", || server.http().get("/ready").status == 503);
    server.begin_stop();
    eventually("the end", || server.has_ended());
}

#[test]
fn a_server_without_clients_waits_no_longer_than_its_window() {
    let server = TestServer::start_with(vec![app("one")], |settings| settings.server.drain = Duration::ZERO);
    server.begin_stop();
    eventually("the end", || server.has_ended());
}

#[test]
fn a_request_that_is_on_its_way_when_the_window_ends_is_answered() {
    let server = TestServer::start_with(vec![app("one")], |settings| {
        settings.server.workers = 1.try_into().unwrap();
        settings.server.drain = Duration::from_millis(200);
    });
    let body = r#"{"name":"n","channel":"orders","data":""}"#;
    let target = signed_target(&server.apps[0], "POST", "/apps/app-one/events", &[], body.as_bytes());
    let mut http = server.http();
    let length = body.len();
    http.send_raw(
        format!("POST {target} HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n{{").as_bytes(),
    );
    // The worker answers this after it has begun with that.
    assert_eq!(server.http().get("/up").status, 200);
    let began = Instant::now();
    server.begin_stop();
    while !server.has_ended() && began.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(5));
    }
    http.send_raw(&body.as_bytes()[1..]);
    assert_eq!(http.reply(false).body, "{}");
}
