//! What strangers send: each gets the code that fits, and no connection, slot or neighbour suffers.

use serde_json::json;
use soundpost_protocol::websocket::Opcode;

use crate::support::{Client, Seen, TestServer, masked};

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

/// A client of a server of its own beside a healthy one, which must be all that is left in the end.
fn among_others(bytes_max: usize, misbehave: impl FnOnce(&TestServer, Client)) {
    let server = TestServer::start(|app| app.limits.message_bytes_max = bytes_max);
    let mut healthy = server.connect();
    healthy.subscribe("orders");
    let client = server.connect();
    misbehave(&server, client);
    healthy.expect_nothing();
    server.connect().leave();
    server.await_open(1);
    assert_eq!(server.api().ask("/connections", &[]), json!({"connections": 1}));
    assert_eq!(server.metric(r#"soundpost_connections{app="app-one"}"#), 1);
}

#[test]
fn nesting_without_end_is_an_invalid_message_and_no_more() {
    among_others(1 << 20, |_, mut client| {
        client.subscribe("private-a");
        for depth in [20_000, 200_000] {
            let (open, nested) = ("[".repeat(depth), nested(depth));
            for text in [
                open.clone(),
                nested.clone(),
                r#"{"a":"#.repeat(depth / 2),
                format!(r#"{{"event":{nested}}}"#),
                format!(r#"{{"event":"pusher:subscribe","data":{open}"#),
                format!(r#"{{"event":"pusher:subscribe","data":{nested}}}"#),
                format!(r#"{{"event":"pusher:subscribe","data":{{"channel":{nested}}}}}"#),
                json!({"event": "pusher:subscribe", "data": nested}).to_string(),
                format!(r#"{{"event":"client-x","channel":{nested},"data":1}}"#),
            ] {
                client.send_text(&text);
                let invalid = json!({"code": 4200, "message": "Invalid message format"});
                client.expect(&json!({"event": "pusher:error", "data": invalid}));
            }
            client.send_text(&format!(r#"{{"event":"client-x","channel":"private-a","data":{nested}}}"#));
            let error = json!({"code": 4301, "message": "The event data is nested too deeply"});
            client.expect(&json!({"event": "pusher:error", "channel": "private-a", "data": error}));
            // Where it stands in nobody's way it is ignored.
            client.send_text(&format!(r#"{{"event":"pusher:ping","data":{nested}}}"#));
            client.expect(&json!({"event": "pusher:pong", "data": "{}"}));
        }
        client.expect_nothing();
        client.leave();
    });
}

#[test]
fn nesting_without_end_in_channel_data_is_no_member() {
    among_others(1 << 20, |server, mut client| {
        let channel = "presence-room";
        for (channel_data, error) in [
            (
                format!(r#"{{"user_id":{}}}"#, nested(20_000)),
                "channel_data must be a JSON object with a user_id that is a string or a number",
            ),
            (format!(r#"{{"user_id":1,"user_info":{}}}"#, nested(1000)), "user_info is nested too deeply"),
            (
                format!(r#"{{"user_id":1,"user_info":{}}}"#, nested(200_000)),
                "user_info has 400000 bytes, more than 2048 (user_info_bytes_max)",
            ),
        ] {
            client.send(&client.subscription(channel, Some(&channel_data)));
            let failure = json!({"type": "AuthError", "error": error, "status": 401});
            client
                .expect(&json!({"event": "pusher:subscription_error", "channel": channel, "data": failure}));
            let data = json!({"code": 4009, "message": error});
            client.expect(&json!({"event": "pusher:error", "channel": channel, "data": data}));
        }
        assert_eq!(server.api().ask("/channels/presence-room", &[]), json!({"occupied": false}));
        client.leave();
    });
}

#[test]
fn nesting_without_end_in_a_request_is_400() {
    among_others(10_000, |server, client| {
        let mut api = server.api();
        for depth in [20_000, 200_000] {
            for body in [
                "[".repeat(depth),
                nested(depth),
                format!(r#"{{"name":"n","channel":"orders","data":{}}}"#, nested(depth)),
                format!(r#"{{"batch":{}}}"#, nested(depth)),
            ] {
                for path in ["/events", "/batch_events"] {
                    let reply = api.post(path, &body);
                    let text = "request body nests more than 128 arrays and objects";
                    assert_eq!((reply.status, reply.body.as_str()), (400, text));
                }
            }
        }
        // Inside a string nothing is nested.
        let body = json!({"name": "n", "channel": "other", "data": nested(20_000)}).to_string();
        assert_eq!(api.post("/events", body).body, "{}");
        client.leave();
    });
}

#[test]
fn broken_framing_closes_with_its_code_even_with_more_on_the_way() {
    let violation = "WebSocket protocol violation";
    let mut half_masked = masked(Opcode::Text, r#"{"event":"pusher:ping"}"#);
    half_masked[1] &= 0x7f;
    for (what, frame, code, text) in [
        ("a message above the limit", masked(Opcode::Text, vec![b' '; 10_001]), 1009, "Message too big"),
        (
            "2^62 bytes announced",
            vec![0x81, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
            1009,
            "Message too big",
        ),
        ("2^63 bytes announced", vec![0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], 1002, violation),
        ("no mask", half_masked, 1002, violation),
        ("a binary message", masked(Opcode::Binary, b"x"), 1003, "Binary messages are not supported"),
        ("invalid UTF-8", masked(Opcode::Text, b"\xff\xfe"), 1007, "Text is not UTF-8"),
        ("a long ping", masked(Opcode::Ping, [0; 126]), 1002, violation),
        ("a continuation of nothing", masked(Opcode::Continuation, b"x"), 1002, violation),
        ("a reserved bit", vec![0xc1, 0x80, 1, 2, 3, 4], 1002, violation),
        ("a reserved opcode", vec![0x83, 0x80, 1, 2, 3, 4], 1002, violation),
        ("a close code of nobody", masked(Opcode::Close, 1005_u16.to_be_bytes()), 1002, violation),
        ("half a close code", masked(Opcode::Close, [3]), 1002, violation),
    ] {
        for more in [0, 1 << 20] {
            among_others(10_000, |server, mut client| {
                client.subscribe("orders");
                client.send_raw(&[&frame[..], &vec![0x2e; more]].concat());
                assert_eq!(client.next(), Seen::Close(Some((code, text.to_owned()))), "{what}, {more} more");
                assert_eq!(client.next(), Seen::Eof, "{what}, {more} more");
                assert_eq!(server.api().ask("/channels/orders", &[]), json!({"occupied": true}));
            });
        }
    }
}

#[test]
fn a_message_may_come_in_fragments_with_control_frames_between() {
    among_others(10_000, |_, mut client| {
        let text = json!({"event": "pusher:subscribe", "data": {"channel": "orders", "x": "é".repeat(1000)}});
        let text = text.to_string();
        let mut sent = Vec::new();
        for (at, piece) in text.as_bytes().chunks(7).enumerate() {
            let mut frame = masked(if at == 0 { Opcode::Text } else { Opcode::Continuation }, piece);
            frame[0] &= 0x7f;
            sent.extend_from_slice(&frame);
        }
        sent.extend_from_slice(&masked(Opcode::Ping, b"between"));
        sent.extend_from_slice(&masked(Opcode::Continuation, b""));
        // In pieces that end anywhere.
        for piece in sent.chunks(1009) {
            client.send_raw(piece);
        }
        assert_eq!(client.next(), Seen::Pong(b"between".to_vec()));
        let event = "pusher_internal:subscription_succeeded";
        client.expect(&json!({"event": event, "channel": "orders", "data": "{}"}));
        client.leave();
    });
}

#[test]
fn fragments_count_together() {
    among_others(10_000, |_, mut client| {
        let mut first = masked(Opcode::Text, vec![b' '; 6000]);
        first[0] &= 0x7f;
        client.send_raw(&[first, masked(Opcode::Continuation, vec![b' '; 4001])].concat());
        client.expect_goodbye(1009, "Message too big");
    });
}

#[test]
fn a_message_at_the_limit_is_served() {
    among_others(10_000, |_, mut client| {
        let ping = r#"{"event":"pusher:ping"}"#;
        client.send_text(&format!("{ping}{}", " ".repeat(10_000 - ping.len())));
        client.expect(&json!({"event": "pusher:pong", "data": "{}"}));
        client.leave();
    });
}

#[test]
fn what_is_no_http_is_refused_and_leaves_nothing_behind() {
    among_others(10_000, |server, client| {
        for (bytes, status) in [
            (&b"hello\r\n\r\n"[..], 400),
            (b"GET /up HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n", 400),
            (b"POST /up HTTP/1.1\r\ncontent-length: x\r\n\r\n", 400),
        ] {
            let mut http = server.http();
            http.send_raw(bytes);
            assert_eq!(http.reply(false).status, status);
            http.expect_end();
        }
        let mut http = server.http();
        http.send_while_taken(&[b"GET /up HTTP/1.1\r\n", &b"x: y\r\n".repeat(5000)[..], b"\r\n"].concat());
        assert_eq!(http.reply(false).status, 431);
        client.leave();
    });
}
