//! Client events: relayed to the others as they were sent, or refused with a reason.

use std::time::Duration;

use serde_json::{Value, json};
use soundpost_protocol::{
    app::{App, ClientEvents, MessageRate},
    websocket::Opcode,
};

use crate::support::{Client, TestServer, masked};

const ROOM: &str = "private-room";

#[test]
fn data_goes_to_the_others_in_the_form_it_came() {
    let server = TestServer::start(|app| app.client_events_per_second = None);
    let mut sender = server.connect();
    let mut others = [server.connect(), server.connect(), server.connect()];
    sender.subscribe(ROOM);
    for other in &mut others {
        other.subscribe(ROOM);
    }
    for data in
        [r#"{"on":true}"#, "{}", "[]", r#""text""#, r#""{\"a\":1}""#, "1.50", "null", "[[],{\"a\":[]}]"]
    {
        sender.send_text(&format!(
            r#"{{"event":"client-typing","data":{data},"channel":"{ROOM}","user_id":"forged","x":1}}"#
        ));
        let data: Value = serde_json::from_str(data).unwrap();
        for other in &mut others {
            other.expect(&json!({"event": "client-typing", "channel": ROOM, "data": data}));
        }
    }
    sender.send(&json!({"event": "client-bare", "channel": ROOM}));
    for other in &mut others {
        other.expect(&json!({"event": "client-bare", "channel": ROOM}));
    }
    sender.expect_silence();
}

#[test]
fn on_presence_channels_the_server_says_whose_event_it_is() {
    let server = TestServer::start(|_| {});
    let room = "presence-room";
    let mut zoe = server.connect();
    let mut zoe_too = server.connect();
    zoe.join(room, r#"{"user_id":42}"#);
    zoe_too.join(room, r#"{"user_id":42}"#);
    zoe.send(&json!({"event": "client-x", "channel": room, "data": "d", "user_id": "forged"}));
    zoe_too.expect(&json!({"event": "client-x", "channel": room, "data": "d", "user_id": "42"}));
    zoe.expect_silence();
}

fn refused(channel: &str, code: u16, message: &str) -> Value {
    json!({"event": "pusher:error", "channel": channel, "data": {"code": code, "message": message}})
}

#[test]
fn an_event_against_the_rules_reaches_only_its_sender_as_an_error() {
    let server = TestServer::start(|app| app.limits.event_name_chars_max = 20);
    let mut sender = server.connect();
    let mut witness = server.connect();
    let only_private = "Client events are only supported on private and presence channels";
    for channel in ["orders", "private-left", ROOM, "private-other"] {
        witness.subscribe(channel);
    }
    for channel in ["orders", "private-left", ROOM] {
        sender.subscribe(channel);
    }
    sender.unsubscribe("private-left");
    for (channel, event, code, message) in [
        ("private-other", "client-x", 4009, "Connection is unauthorized"),
        ("private-left", "client-x", 4009, "Connection is unauthorized"),
        ("orders", "client-x", 4301, only_private),
        ("#server-to-user-1", "client-x", 4301, only_private),
        ("private-ro om", "client-x", 4301, "The channel name is not valid"),
        (ROOM, "client-12345678901234", 4301, "The event name is too long (event_name_chars_max)"),
    ] {
        sender.send(&json!({"event": event, "channel": channel, "data": {}}));
        sender.expect(&refused(channel, code, message));
    }
    // What is no client event at all is ignored.
    sender.send(&json!({"event": "typing", "channel": ROOM, "data": {}}));
    sender.expect_silence();
    witness.expect_silence();
    sender.send(&json!({"event": "client-1234567890123", "channel": ROOM, "data": {}}));
    witness.expect(&json!({"event": "client-1234567890123", "channel": ROOM, "data": {}}));
}

#[test]
fn an_app_decides_who_may_send_and_where() {
    type Change = fn(&mut App);
    let off = "The app does not have client messaging enabled.";
    for (change, channel, is_member, refusal) in [
        ((|app| app.client_events = ClientEvents::None) as Change, ROOM, true, Some(off)),
        (|app| app.client_events = ClientEvents::All, ROOM, false, None),
        (|app| app.client_events_on_public = true, "orders", true, None),
    ] {
        let server = TestServer::start(change);
        let mut sender = server.connect();
        let mut other = server.connect();
        other.subscribe(channel);
        if is_member {
            sender.subscribe(channel);
        }
        let event = json!({"event": "client-x", "channel": channel, "data": {}});
        sender.send(&event);
        if let Some(text) = refusal {
            sender.expect(&refused(channel, 4301, text));
            other.expect_silence();
        } else {
            other.expect(&event);
            sender.expect_silence();
        }
    }
}

/// In one piece, so that they arrive in no time.
fn send_at_once(client: &mut Client, events: &[Value]) {
    let frames: Vec<_> = events.iter().map(|event| masked(Opcode::Text, event.to_string())).collect();
    client.send_raw(&frames.concat());
}

#[test]
fn events_above_the_rate_are_refused_and_pings_are_not_counted() {
    let server = TestServer::start(|app| app.client_events_per_second = 2.try_into().ok());
    let mut sender = server.connect();
    let mut other = server.connect();
    sender.subscribe(ROOM);
    other.subscribe(ROOM);
    let event = |n: u8| json!({"event": "client-x", "channel": ROOM, "data": n});
    let ping = json!({"event": "pusher:ping"});
    send_at_once(&mut sender, &[ping.clone(), ping, event(1), event(2), event(3)]);
    for _ in 0..2 {
        sender.expect(&json!({"event": "pusher:pong", "data": "{}"}));
    }
    sender.expect(&refused(ROOM, 4301, "Rate limit exceeded"));
    other.expect(&event(1));
    other.expect(&event(2));
    other.expect_silence();
}

#[test]
fn reverbs_rate_counts_every_message_and_may_end_the_connection() {
    for terminate in [false, true] {
        let server = TestServer::start(|app| {
            let (messages_max, window) = (2.try_into().unwrap(), Duration::from_secs(60));
            app.message_rate = Some(MessageRate { messages_max, window, terminate });
        });
        let mut client = server.connect();
        client.subscribe("a");
        client.expect_nothing();
        client.subscribe("b");
        client.send(&client.subscription("c", None));
        if terminate {
            client.expect_goodbye(4100, "Rate limit exceeded");
        } else {
            let limit = json!({"code": 4301, "message": "Rate limit exceeded"});
            client.expect(&json!({"event": "pusher:error", "data": limit}));
            client.expect_nothing();
        }
    }
}
