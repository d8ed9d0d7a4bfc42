//! Subscribing and unsubscribing: what is answered, and that nothing a client sends makes its connection useless.

use serde_json::{Value, json};
use soundpost_protocol::websocket::Opcode;

use crate::support::{Client, TestServer, masked};

#[track_caller]
fn expect_failure(client: &mut Client, channel: &str, failure: &Value, code: u16, message: &str) {
    client.expect(&json!({"event": "pusher:subscription_error", "channel": channel, "data": failure}));
    let error = json!({"code": code, "message": message});
    client.expect(&json!({"event": "pusher:error", "channel": channel, "data": error}));
}

#[test]
fn success_has_empty_data_but_on_presence_channels() {
    let server = TestServer::start(|_| {});
    let mut client = server.connect();
    for channel in ["orders", "private-orders.1", "private-encrypted-orders", "privateer", "a_B-3=@,.;"] {
        client.subscribe(channel);
    }
    // The data may be a JSON string, and a private channel may have channel_data.
    let data = json!({"channel": "quoted"}).to_string();
    client.send(&json!({"event": "pusher:subscribe", "data": data}));
    let event = "pusher_internal:subscription_succeeded";
    client.expect(&json!({"event": event, "channel": "quoted", "data": "{}"}));
    client.send(&client.subscription("private-with-data", Some(r#"{"any": "thing"}"#)));
    client.expect(&json!({"event": event, "channel": "private-with-data", "data": "{}"}));
    let roster = r#"{"presence":{"count":1,"ids":["42"],"hash":{"42":{"name":"Zoë"}}}}"#;
    client
        .send(&client.subscription("presence-room", Some(r#"{"user_id":"42","user_info":{"name":"Zoë"}}"#)));
    client.expect(&json!({"event": event, "channel": "presence-room", "data": roster}));
    client.expect_nothing();
}

#[test]
fn a_repeated_subscribe_succeeds_again_and_counts_once() {
    let server = TestServer::start(|_| {});
    let mut api = server.api();
    let mut client = server.connect();
    client.subscribe("orders");
    client.subscribe("orders");
    let info = [("info", "subscription_count")];
    assert_eq!(api.ask("/channels/orders", &info), json!({"occupied": true, "subscription_count": 1}));
    api.trigger("orders", "once", "");
    client.expect(&json!({"event": "once", "channel": "orders", "data": ""}));
    client.expect_silence();
    client.unsubscribe("orders");
    client.expect_nothing();
    assert_eq!(api.ask("/channels/orders", &[]), json!({"occupied": false}));
}

#[test]
fn unsubscribing_has_no_answer_and_ends_the_events() {
    let server = TestServer::start(|_| {});
    let mut api = server.api();
    let mut client = server.connect();
    client.unsubscribe("never-held");
    client.expect_nothing();
    client.subscribe("orders");
    client.subscribe("others");
    client.unsubscribe("orders");
    client.expect_nothing();
    api.trigger("orders", "late", "");
    api.trigger("others", "marker", "");
    client.expect(&json!({"event": "marker", "channel": "others", "data": ""}));
    assert_eq!(api.ask("/channels", &[]), json!({"channels": {"others": {}}}));
    client.subscribe("orders");
}

#[test]
fn what_is_asked_in_one_breath_is_done_in_its_order() {
    let server = TestServer::start(|_| {});
    let mut api = server.api();
    let success = json!({
        "event": "pusher_internal:subscription_succeeded", "channel": "orders", "data": "{}"
    });
    // In one piece a join is still on its way when it is withdrawn or repeated.
    for (asked, successes, occupied) in [
        ("+", 1, true),
        ("+-", 0, false),
        ("+-+", 1, true),
        ("++", 2, true),
        ("+-+-", 0, false),
        ("-+", 1, true),
    ] {
        let mut client = server.connect();
        let subscribe = client.subscription("orders", None).to_string();
        let unsubscribe = json!({"event": "pusher:unsubscribe", "data": {"channel": "orders"}}).to_string();
        let frame = |sign| masked(Opcode::Text, if sign == '+' { &subscribe } else { &unsubscribe });
        client.send_raw(&asked.chars().map(frame).collect::<Vec<_>>().concat());
        for _ in 0..successes {
            client.expect(&success);
        }
        assert_eq!(api.ask("/channels/orders", &[]), json!({"occupied": occupied}), "{asked}");
        api.trigger("orders", "n", "");
        if occupied {
            client.expect(&json!({"event": "n", "channel": "orders", "data": ""}));
        }
        client.expect_silence();
        client.leave();
        assert_eq!(api.ask("/channels/orders", &[]), json!({"occupied": false}), "{asked}");
    }
}

#[test]
fn a_bad_signature_fails_the_subscription_and_not_the_connection() {
    let server = TestServer::start(|_| {});
    let mut other = server.connect();
    let mut client = server.connect();
    let unauthorized =
        json!({"type": "AuthError", "error": "The connection is unauthorized.", "status": 401});
    let signed = |client: &Client, channel, data| client.subscription(channel, data)["data"].clone();
    let good = signed(&client, "private-a", None)["auth"].as_str().unwrap().to_owned();
    let presence = signed(&client, "presence-a", Some(r#"{"user_id":"1"}"#));
    for (channel, data) in [
        ("private-a", json!({"channel": "private-a"})),
        ("private-a", json!({"channel": "private-a", "auth": null})),
        ("private-a", json!({"channel": "private-a", "auth": ""})),
        ("private-a", json!({"channel": "private-a", "auth": good.to_uppercase()})),
        ("private-a", json!({"channel": "private-a", "auth": good.replace("key-one:", "key-two:")})),
        ("private-a", json!({"channel": "private-a", "auth": good, "channel_data": ""})),
        ("private-b", json!({"channel": "private-b", "auth": good})),
        ("private-a", signed(&other, "private-a", None)),
        ("presence-a", json!({"channel": "presence-a", "auth": presence["auth"]})),
        ("presence-a", signed(&client, "presence-a", None)),
        (
            "presence-a",
            json!({"channel": "presence-a", "auth": presence["auth"], "channel_data": r#"{"user_id":"2"}"#}),
        ),
    ] {
        client.send(&json!({"event": "pusher:subscribe", "data": data}));
        expect_failure(&mut client, channel, &unauthorized, 4009, "Connection is unauthorized");
    }
    assert_eq!(server.api().ask("/channels", &[]), json!({"channels": {}}));
    client.subscribe("private-a");
    other.subscribe("private-a");
}

#[test]
fn a_name_or_member_that_is_none_fails_the_subscription() {
    let server = TestServer::start(|app| app.limits.user_info_bytes_max = 10);
    let mut client = server.connect();
    for (channel, text) in [
        ("".to_owned(), "channel name is empty".to_owned()),
        (
            "orders\"\n".to_owned(),
            "channel name contains '\"'; allowed are A-Z a-z 0-9 and _ - = @ , . ;".to_owned(),
        ),
        (
            "#orders".to_owned(),
            "channel name contains '#'; allowed are A-Z a-z 0-9 and _ - = @ , . ;".to_owned(),
        ),
        (
            "x".repeat(201),
            "channel name has 201 characters, more than 200 (channel_name_chars_max)".to_owned(),
        ),
    ] {
        client.send(&json!({"event": "pusher:subscribe", "data": {"auth": "", "channel": channel}}));
        let failure = json!({"type": "InvalidChannelName", "error": text, "status": 400});
        expect_failure(&mut client, &channel, &failure, 4200, &text);
    }
    let malformed = "channel_data must be a JSON object with a user_id that is a string or a number";
    for (channel_data, text) in [
        ("", malformed),
        ("null", malformed),
        ("[]", malformed),
        ("{}", malformed),
        (r#"{"user_id":null}"#, malformed),
        (r#"{"user_id":true}"#, malformed),
        (r#"{"user_id":""}"#, "user_id is empty"),
        (
            r#"{"user_id":1,"user_info":"123456789"}"#,
            "user_info has 11 bytes, more than 10 (user_info_bytes_max)",
        ),
    ] {
        client.send(&client.subscription("presence-a", Some(channel_data)));
        let failure = json!({"type": "AuthError", "error": text, "status": 401});
        expect_failure(&mut client, "presence-a", &failure, 4009, text);
    }
    client.join("presence-a", r#"{"user_id":1,"user_info":"12345678"}"#);
}

#[test]
fn limits_fail_the_subscription_that_goes_beyond() {
    let server = TestServer::start(|app| {
        app.limits.channels_per_connection_max = 2.try_into().ok();
        app.limits.presence_members_max = 1.try_into().ok();
    });
    let mut client = server.connect();
    client.subscribe("a");
    client.subscribe("b");
    client.subscribe("b");
    client.send(&client.subscription("c", None));
    let text = "The connection has 2 channels (channels_per_connection_max).";
    let failure = json!({"type": "LimitReached", "error": text, "status": 4100});
    expect_failure(&mut client, "c", &failure, 4100, text);
    client.unsubscribe("a");
    client.join("presence-room", r#"{"user_id":"1"}"#);

    let mut other = server.connect();
    other.send(&other.subscription("presence-room", Some(r#"{"user_id":"2"}"#)));
    let text = "The channel has 1 members (presence_members_max).";
    let failure = json!({"type": "LimitReached", "error": text, "status": 4100});
    expect_failure(&mut other, "presence-room", &failure, 4100, text);
    // A user who is there already may come with another connection, whatever the limit.
    other.join("presence-room", r#"{"user_id":"1"}"#);
    client.send(&client.subscription("presence-room", Some(r#"{"user_id":"2"}"#)));
    let text = "The connection is already subscribed to this channel as another user.";
    let failure = json!({"type": "AuthError", "error": text, "status": 401});
    expect_failure(&mut client, "presence-room", &failure, 4009, text);
    client.expect_nothing();
    let users = server.api().ask("/channels/presence-room/users", &[]);
    assert_eq!(users, json!({"users": [{"id": "1"}]}));
}

#[test]
fn a_message_that_cannot_be_used_leaves_the_connection_usable() {
    let server = TestServer::start(|_| {});
    let mut client = server.connect();
    for text in [
        r#"{"event":"pusher:subscribe"}"#,
        r#"{"event":"pusher:subscribe","data":null}"#,
        r#"{"event":"pusher:subscribe","data":"orders"}"#,
        r#"{"event":"pusher:subscribe","data":7}"#,
        r#"{"event":"pusher:subscribe","data":[]}"#,
        r#"{"event":"pusher:subscribe","data":{}}"#,
        r#"{"event":"pusher:subscribe","data":{"channel":7}}"#,
        r#"{"event":"pusher:subscribe","data":{"channel":null}}"#,
        r#"{"event":"pusher:subscribe","data":{"channel":"presence-a","auth":"x","channel_data":{"user_id":1}}}"#,
        r#"{"event":"pusher:unsubscribe"}"#,
        r#"{"event":"pusher:unsubscribe","data":{"channel":["orders"]}}"#,
        r#"{"event":"pusher:nonsense","data":{}}"#,
        r#"{"event":"client-x","data":{}}"#,
        r#"{"event":7}"#,
        r#"{"data":{}}"#,
        r#"{"event":"pusher:ping""#,
        "hello",
        "null",
        "[]",
        "",
    ] {
        client.send_text(text);
        let invalid = json!({"code": 4200, "message": "Invalid message format"});
        client.expect(&json!({"event": "pusher:error", "data": invalid}));
        client.expect_nothing();
    }
    client.send_text(r#"{"event":"something-else","channel":"orders","data":{}}"#);
    client.expect_nothing();
    client.subscribe("orders");
}
