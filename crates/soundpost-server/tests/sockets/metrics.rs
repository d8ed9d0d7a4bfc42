//! `/metrics` after some traffic: every name of the design with the value that is right.

use std::num::NonZeroU32;

use serde_json::json;

use crate::support::{Client, Http, TestServer, app};

#[test]
fn the_metrics_tell_what_happened() {
    let server = TestServer::start_with(vec![app("one"), app("two")], |_| {});
    let mut api = server.api();
    let mut client = server.connect();
    let mut other = server.connect();
    client.subscribe("orders");
    other.subscribe("orders");
    client.subscribe("private-a");
    other.subscribe("private-a");
    client.join("presence-room", r#"{"user_id":"1"}"#);
    api.trigger("orders", "n", "data");
    for client in [&mut client, &mut other] {
        client.expect(&json!({"event": "n", "channel": "orders", "data": "data"}));
    }
    assert_eq!(api.post("/events", "{}").status, 400);
    client.send(&json!({"event": "client-x", "channel": "private-a", "data": {}}));
    other.expect(&json!({"event": "client-x", "channel": "private-a", "data": {}}));
    other.send(&json!({"event": "pusher:subscribe", "data": {"channel": "private-b"}}));
    assert_eq!(other.event()["event"], "pusher:subscription_error");
    assert_eq!(other.event()["event"], "pusher:error");
    server.connect().leave();
    Client::open(server.address, &server.apps[0], "/app/nobody", "", &[])
        .expect_goodbye(4001, "Application does not exist");
    server.await_open(2);
    // Whatever a worker has written to these two is counted once it has answered them again.
    client.expect_nothing();
    other.expect_nothing();

    for (sample, expected) in [
        (r#"soundpost_connections{app="app-one"}"#, 2),
        (r#"soundpost_connections{app="app-two"}"#, 0),
        (r#"soundpost_channels{app="app-one",kind="public"}"#, 1),
        (r#"soundpost_channels{app="app-one",kind="private"}"#, 1),
        (r#"soundpost_channels{app="app-one",kind="presence"}"#, 1),
        (r#"soundpost_channels{app="app-two",kind="public"}"#, 0),
        (r#"soundpost_subscriptions{app="app-one"}"#, 5),
        (r#"soundpost_triggers_total{app="app-one",result="accepted"}"#, 1),
        (r#"soundpost_triggers_total{app="app-one",result="refused"}"#, 1),
        (r#"soundpost_triggers_total{app="app-one",result="unavailable"}"#, 0),
        (r#"soundpost_client_events_total{app="app-one",result="accepted"}"#, 1),
        (r#"soundpost_deliveries_total{app="app-one"}"#, 3),
        // Five subscribes that are good and one that is not, one client event, one close frame, two pings.
        (r#"soundpost_received_messages_total{app="app-one"}"#, 10),
        (r#"soundpost_closed_total{app="app-one",reason="client_left"}"#, 1),
        (r#"soundpost_refused_total{app="",reason="unknown_app"}"#, 1),
        (r#"soundpost_refused_total{app="app-one",reason="subscription"}"#, 1),
        ("soundpost_queued_bytes", 0),
    ] {
        assert_eq!(server.metric(sample), expected, "{sample}");
    }
    let reply = Http::connect(server.admin).get("/metrics");
    assert_eq!(
        reply.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    for name in [
        "soundpost_sent_bytes_total{app=\"app-one\"}",
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(reply.body.contains(&format!("\n{name} ")), "{name} is missing");
    }
    for line in reply.body.lines().filter(|line| line.contains("app-two") && !line.starts_with('#')) {
        assert!(line.ends_with(" 0"), "nothing happened to this app: {line}");
    }
}

#[test]
fn bounds_are_told_where_they_are_set() {
    let mut limited = app("one");
    limited.connections_max = NonZeroU32::new(40);
    let server = TestServer::start_with(vec![limited, app("two")], |settings| {
        settings.server.connections_max = NonZeroU32::new(50);
    });
    assert_eq!(server.metric(r#"soundpost_connections_max{app="app-one"}"#), 40);
    assert_eq!(server.metric("soundpost_node_connections_max"), 50);
    assert!(server.metric("soundpost_queued_bytes_max") > 0);
    let unlimited = TestServer::start(|_| {});
    for server in [&server, &unlimited] {
        let text = Http::connect(server.admin).get("/metrics").body;
        assert!(!text.contains(r#"soundpost_connections_max{app="app-two"}"#), "{text}");
    }
    let text = Http::connect(unlimited.admin).get("/metrics").body;
    assert!(
        !text.contains("connections_max{") && !text.contains("\nsoundpost_node_connections_max "),
        "{text}"
    );
}
