//! The HTTP API as publishers and balancers see it: routes, refusals, replies, and the connection under them.

use serde_json::{Value, json};

use crate::support::{Client, Http, Reply, TestServer, app, signed_target, unix_seconds};

#[track_caller]
fn expect_refusal(reply: &Reply, status: u16, text: &str) {
    assert_eq!((reply.status, reply.body.as_str()), (status, text));
    assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
}

#[test]
fn anybody_may_ask_how_the_server_is() {
    let server = TestServer::start(|_| {});
    let mut http = server.http();
    for (path, kind, body) in [
        ("/", "text/plain; charset=utf-8", "OK"),
        ("/up", "application/json", r#"{"health":"OK"}"#),
        ("/up?x=1", "application/json", r#"{"health":"OK"}"#),
        ("/ready", "text/plain; charset=utf-8", "ready"),
    ] {
        let reply = http.get(path);
        assert_eq!((reply.status, reply.body.as_str()), (200, body));
        assert_eq!(reply.header("content-type"), Some(kind), "{path}");
        let head = http.request("HEAD", path, b"");
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        assert_eq!(head.header("content-length"), Some(body.len().to_string().as_str()), "{path}");
    }
}

#[test]
fn what_is_not_there_is_404_and_what_is_there_for_another_verb_405() {
    let server = TestServer::start(|_| {});
    let mut http = server.http();
    let nothing = "there is nothing at this path";
    for (path, text) in [
        ("/nope", nothing),
        ("/apps", nothing),
        ("/apps/app-one", nothing),
        ("/apps/app-one/", nothing),
        ("/apps/app-one/events/", nothing),
        ("/apps/app-one/channels/a/stats", nothing),
        ("/apps/nobody/events", "no app has the id \"nobody\"; check the app id"),
        ("/apps/key-one/channels", "no app has the id \"key-one\"; check the app id"),
        ("/apps//events", "no app has the id \"\"; check the app id"),
    ] {
        expect_refusal(&http.get(path), 404, text);
    }
    for (method, path, allow) in [
        ("GET", "/apps/app-one/events", "POST"),
        ("PUT", "/apps/app-one/batch_events", "POST"),
        ("POST", "/apps/app-one/channels", "GET"),
        ("DELETE", "/apps/app-one/channels/a", "GET"),
        ("POST", "/apps/app-one/channels/presence-a/users", "GET"),
        ("OPTIONS", "/apps/app-one/connections", "GET"),
        ("POST", "/up", "GET"),
        ("DELETE", "/", "GET"),
    ] {
        let reply = http.request(method, path, b"");
        expect_refusal(&reply, 405, &format!("use {allow} on this path"));
        assert_eq!(reply.header("allow"), Some(allow), "{method} {path}");
    }
}

#[test]
fn a_request_that_is_not_signed_as_it_should_be_is_401() {
    let server = TestServer::start(|_| {});
    let (app, mut http) = (&server.apps[0], server.http());
    let path = "/apps/app-one/channels";
    let good = signed_target(app, "GET", path, &[], b"");
    assert_eq!(http.get(&good).status, 200);
    let sign = |parameters: &[(&str, &str)]| signed_target(app, "GET", path, parameters, b"");
    let with_window = "more than 600 s; set the clock of the machine that signs";
    for (target, text) in [
        (path.to_owned(), "auth_key is missing"),
        (good.replace("auth_version=1.0&", ""), "auth_version is missing"),
        (good.replace("auth_timestamp", "x"), "auth_timestamp is missing"),
        (good.split("&auth_signature").next().unwrap().to_owned(), "auth_signature is missing"),
        (sign(&[("auth_key", "other")]), "auth_key is not the key of app \"app-one\""),
        (sign(&[("auth_version", "2.0")]), "auth_version must be 1.0"),
        (sign(&[("auth_timestamp", "soon")]), "auth_timestamp must be a whole number"),
        (sign(&[("auth_timestamp", "1700000000")]), with_window),
        (sign(&[("auth_timestamp", &(unix_seconds() + 700).to_string())]), "ahead of the server's clock"),
        (
            good.clone() + "0",
            "auth_signature is not the HMAC-SHA256 hex of \"GET\\n/apps/app-one/channels\\n",
        ),
        (good.clone() + "&info=user_count", "auth_signature is not"),
        (signed_target(app, "POST", path, &[], b""), "auth_signature is not"),
        (
            signed_target(app, "GET", "/apps/app-one/connections", &[], b"")
                .replace("connections", "channels"),
            "auth_signature is not",
        ),
    ] {
        let reply = http.get(&target);
        assert_eq!(reply.status, 401, "{target}");
        assert!(reply.body.contains(text) && !reply.body.contains('\n'), "{text}: {}", reply.body);
        assert!(!reply.body.contains(good.rsplit('=').next().unwrap()), "the right signature is not told");
    }
}

#[test]
fn a_body_that_was_not_signed_is_401() {
    let server = TestServer::start(|_| {});
    let (app, mut http) = (&server.apps[0], server.http());
    let path = "/apps/app-one/events";
    let body = br#"{"name":"n","channel":"a","data":""}"#;
    let good = signed_target(app, "POST", path, &[], body);
    assert_eq!(http.request("POST", &good, body).status, 200);
    let wrong = "body_md5 is not the lowercase hex MD5 of the body";
    let missing = "body_md5 is missing from the query string; it signs the body";
    for (target, body, text) in [
        (good, &br#"{"name":"m","channel":"a","data":""}"#[..], wrong),
        (signed_target(app, "POST", path, &[("body_md5", "x")], body), body, wrong),
        (signed_target(app, "POST", path, &[], b""), body, missing),
    ] {
        expect_refusal(&http.request("POST", &target, body), 401, text);
    }
}

#[test]
fn a_disabled_app_is_403_for_those_who_hold_its_secret() {
    let server = TestServer::start(|app| app.enabled = false);
    expect_refusal(&server.api().get("/channels", &[]), 403, "app \"app-one\" is disabled");
    assert_eq!(server.http().get("/apps/app-one/channels").status, 401);
}

#[test]
fn an_event_that_cannot_be_published_is_400_and_says_why() {
    let server = TestServer::start(|_| {});
    let mut api = server.api();
    let named = |channels: Vec<String>| json!({"name": "n", "channels": channels, "data": ""}).to_string();
    let many = named((0..101).map(|n| format!("c{n}")).collect());
    let long = json!({"name": "n".repeat(201), "channel": "a", "data": ""}).to_string();
    let character = "allowed are A-Z a-z 0-9 and _ - = @ , . ;";
    for (body, text) in [
        ("", "a JSON object is expected"),
        ("{", "not valid JSON"),
        ("[]", "a JSON object is expected"),
        ("7", "a JSON object is expected"),
        ("{}", "name is missing"),
        (r#"{"name":"n","data":""}"#, "channels is missing"),
        (r#"{"name":"n","channel":"a"}"#, "data is missing"),
        (r#"{"name":"","channel":"a","data":""}"#, "name is empty"),
        (r#"{"name":7,"channel":"a","data":""}"#, "name must be a string"),
        (r#"{"name":"pusher:x","channel":"a","data":""}"#, "name starts with pusher:"),
        (r#"{"name":"pusher_internal:x","channel":"a","data":""}"#, "name starts with pusher_internal:"),
        (&long, "name has 201 characters, more than 200 (event_name_chars_max)"),
        (r#"{"name":"n","channels":[],"data":""}"#, "channels is empty"),
        (&many, "channels has 101 names, more than 100"),
        (r#"{"name":"n","channel":"a b","data":""}"#, character),
        (r#"{"name":"n","channels":["a","b!"],"data":""}"#, "channels[1]: channel name contains '!'"),
        (r#"{"name":"n","channel":"a","data":"","socket_id":"1"}"#, "socket_id must be two numbers"),
        (r#"{"name":"n","channel":"a","data":"","info":"age"}"#, "info asks for \"age\""),
    ] {
        let reply = api.post("/events", body);
        assert_eq!(reply.status, 400, "{body:.60}");
        assert!(reply.body.contains(text) && !reply.body.contains('\n'), "{body:.60}: {}", reply.body);
    }
    for (body, text) in [
        (json!({}), "batch is missing"),
        (json!({"batch": {}}), "batch must be an array of events"),
        (json!({"batch": vec![json!({}); 11]}), "batch has 11 events, more than 10"),
        (json!({"batch": [{}]}), "batch[0]: name is missing"),
    ] {
        let reply = api.post("/batch_events", body.to_string());
        assert_eq!(reply.status, 400);
        assert!(reply.body.contains(text), "{}", reply.body);
    }
    let reply = api.post("/events", b"{\"name\":\"\xff\"}");
    expect_refusal(&reply, 400, "request body is not UTF-8; the first 9 bytes are");
    for (path, parameters, text) in [
        ("/channels/a/users", &[][..], "a public channel has no users; only presence channels have"),
        ("/channels/a%20b", &[], "channel name contains ' '; allowed are A-Z a-z 0-9 and _ - = @ , . ;"),
        ("/channels/a%2", &[], "path is not UTF-8 with well-formed %XX escapes"),
        (
            "/channels",
            &[("info", "age")],
            "info asks for \"age\"; there are user_count, subscription_count and cache",
        ),
    ] {
        expect_refusal(&api.get(path, parameters), 400, text);
    }
}

#[test]
fn what_is_too_large_is_413_and_names_size_limit_and_setting() {
    let server = TestServer::start_with(vec![app("one")], |settings| {
        settings.server.request_bytes_max = Some(200_000);
    });
    let mut api = server.api();
    let event =
        |bytes: usize| json!({"name": "n", "channel": "a", "data": "é".repeat(bytes / 2)}).to_string();
    assert_eq!(api.post("/events", event(102_400)).body, "{}");
    let text = "data has 102402 bytes, more than 102400 (event_data_bytes_max)";
    expect_refusal(&api.post("/events", event(102_402)), 413, text);
    let batch = json!({"batch": [{"name": "n", "channel": "a", "data": "x".repeat(102_401)}]}).to_string();
    let text = "batch[0]: data has 102401 bytes, more than 102400 (event_data_bytes_max)";
    expect_refusal(&api.post("/batch_events", batch), 413, text);
    let body = vec![b' '; 200_001];
    let text = "request body has 200001 bytes, more than 200000 (request_bytes_max)";
    expect_refusal(&api.post("/events", &body), 413, text);

    let mut api = server.api();
    let target = signed_target(&api.app, "POST", "/apps/app-one/events", &[], &body);
    let head = format!("POST {target} HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunk = [b"10000\r\n", &vec![b' '; 65_536][..], b"\r\n"].concat();
    api.http.send_raw(&[head.as_bytes(), &chunk, &chunk, &chunk, &chunk, b"0\r\n\r\n"].concat());
    let text = "request body has too many bytes, more than 200000 (request_bytes_max)";
    expect_refusal(&api.http.reply(false), 413, text);
}

#[test]
fn a_refusal_reaches_a_publisher_that_is_still_sending() {
    let server = TestServer::start(|_| {});
    let body = vec![b' '; 8 << 20];
    let app = &server.apps[0];
    let signed = signed_target(app, "POST", "/apps/app-one/events", &[], &body);
    for (target, length, status) in [
        (signed.as_str(), format!("content-length: {}", body.len()), 413),
        ("/apps/app-one/events", format!("content-length: {}", body.len()), 401),
        (&signed, "transfer-encoding: chunked".to_owned(), 413),
        ("/apps/nobody/events", "transfer-encoding: chunked".to_owned(), 404),
        ("/nope", format!("content-length: {}", body.len()), 404),
    ] {
        let mut http = server.http();
        http.send_raw(format!("POST {target} HTTP/1.1\r\nhost: test\r\n{length}\r\n\r\n").as_bytes());
        let all_taken = http.send_while_taken(
            &[format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat(),
        );
        assert_eq!(http.reply(false).status, status, "{target} {length}");
        // Many clients do not look for an answer once a write has failed.
        assert!(all_taken, "{target} {length}: the connection was reset under the sender");
    }
}

#[test]
fn by_default_a_body_may_be_as_large_as_the_largest_events_need() {
    let server = TestServer::start(|app| app.limits.event_data_bytes_max = 1000);
    let mut api = server.api();
    let bytes_max = 12 * 1000 + 16_384;
    let body = vec![b' '; bytes_max + 1];
    let text =
        format!("request body has {} bytes, more than {bytes_max} (event_data_bytes_max)", bytes_max + 1);
    expect_refusal(&api.post("/events", &body), 413, &text);
    // Ten of the largest, escaped as PHP does.
    let data = "\\u00eb".repeat(500);
    let item = format!(r#"{{"name":"n","channel":"a","data":"{data}"}}"#);
    let batch = format!(r#"{{"batch":[{}]}}"#, [item.as_str(); 8].join(","));
    assert_eq!(server.api().post("/batch_events", batch).body, "{}");
}

#[test]
fn a_body_may_come_in_pieces() {
    let server = TestServer::start(|_| {});
    let mut client = server.connect();
    client.subscribe("orders");
    let body = json!({"name": "n", "channel": "orders", "data": "in pieces"}).to_string();
    let mut api = server.api();
    let target = signed_target(&api.app, "POST", "/apps/app-one/events", &[], body.as_bytes());
    let head = format!("POST {target} HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
    api.http.send_raw(head.as_bytes());
    for piece in body.as_bytes().chunks(7) {
        api.http.send_raw(format!("{:x}\r\n", piece.len()).as_bytes());
        api.http.send_raw(&[piece, b"\r\n"].concat());
    }
    api.http.send_raw(b"0\r\n\r\n");
    assert_eq!(api.http.reply(false).body, "{}");
    client.expect(&json!({"event": "n", "channel": "orders", "data": "in pieces"}));
    // curl waits for leave to send.
    api.http.send_raw(
        format!(
            "POST {target} HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .as_bytes(),
    );
    api.http.expect_continue();
    api.http.send_raw(body.as_bytes());
    assert_eq!(api.http.reply(false).body, "{}");
    client.expect(&json!({"event": "n", "channel": "orders", "data": "in pieces"}));
}

#[test]
fn one_connection_serves_any_number_of_requests() {
    let server = TestServer::start(|_| {});
    let mut client = server.connect();
    client.subscribe("orders");
    let mut api = server.api();
    for n in 0..100 {
        match n % 4 {
            0 => api.trigger("orders", "n", &n.to_string()),
            1 => assert_eq!(api.ask("/connections", &[]), json!({"connections": 1})),
            2 => assert_eq!(api.http.get("/nope").status, 404),
            _ => assert_eq!(api.http.request("POST", "/apps/app-one/events", b"{}").status, 401),
        }
    }
    for n in (0..100).step_by(4) {
        client.expect(&json!({"event": "n", "channel": "orders", "data": n.to_string()}));
    }
    // Several at once are answered in their order, and then it is closed as the last one asks.
    api.http.send_raw(
        b"GET /up HTTP/1.1\r\nhost: t\r\n\r\nGET /nope HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n",
    );
    assert_eq!(api.http.reply(false).status, 200);
    assert_eq!(api.http.reply(false).status, 404);
    api.http.expect_end();
}

#[test]
fn http_1_0_is_served_once_for_each_connection_unless_it_asks_for_more() {
    // What nginx speaks to a server unless it is told otherwise.
    let server = TestServer::start(|_| {});
    let body = r#"{"name":"n","channel":"orders","data":""}"#;
    let target = signed_target(&server.apps[0], "POST", "/apps/app-one/events", &[], body.as_bytes());
    let request = |connection: &str| {
        let length = body.len();
        format!("POST {target} HTTP/1.0\r\n{connection}content-length: {length}\r\n\r\n{body}")
    };
    let mut http = server.http();
    for connection in ["connection: keep-alive\r\n", "connection: Keep-Alive\r\n", ""] {
        http.send_raw(request(connection).as_bytes());
        assert_eq!(http.reply(false).body, "{}");
    }
    http.expect_end();
}

fn occupied(server: &TestServer) -> Vec<Client> {
    let mut clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.subscribe("orders");
    }
    clients[0].subscribe("private-a");
    for (client, user) in
        clients.iter_mut().zip([r#"{"user_id":"7"}"#, r#"{"user_id":7}"#, r#"{"user_id":"é"}"#])
    {
        client.send(&client.subscription("presence-room.7", Some(user)));
        while client.event()["event"] != "pusher_internal:subscription_succeeded" {}
    }
    clients
}

fn sorted_users(mut reply: Value) -> Value {
    reply["users"].as_array_mut().unwrap().sort_by_key(Value::to_string);
    reply
}

#[test]
fn queries_tell_what_is_occupied_and_by_how_many() {
    let server = TestServer::start(|_| {});
    let mut api = server.api();
    assert_eq!(api.get("/channels", &[]).body, r#"{"channels":{}}"#);
    assert_eq!(api.ask("/connections", &[]), json!({"connections": 0}));
    let _clients = occupied(&server);
    let room = "presence-room.7";
    for (path, parameters, expected) in [
        ("/channels", &[][..], json!({"channels": {"orders": {}, "private-a": {}, room: {}}})),
        (
            "/channels",
            &[("info", "user_count,subscription_count")],
            json!({"channels": {
                "orders": {"subscription_count": 3},
                "private-a": {"subscription_count": 1},
                room: {"subscription_count": 3, "user_count": 2},
            }}),
        ),
        (
            "/channels",
            &[("filter_by_prefix", "presence-"), ("info", "user_count")],
            json!({"channels": {room: {"user_count": 2}}}),
        ),
        ("/channels", &[("filter_by_prefix", "nothing")], json!({"channels": {}})),
        ("/channels/orders", &[], json!({"occupied": true})),
        (
            "/channels/orders",
            &[("info", "user_count,subscription_count")],
            json!({"occupied": true, "subscription_count": 3}),
        ),
        (
            "/channels/presence-room%2E7",
            &[("info", "subscription_count,user_count")],
            json!({"occupied": true, "subscription_count": 3, "user_count": 2}),
        ),
        ("/channels/unknown", &[], json!({"occupied": false})),
        (
            "/channels/presence-unknown",
            &[("info", "user_count,subscription_count")],
            json!({"occupied": false, "user_count": 0, "subscription_count": 0}),
        ),
        ("/channels/presence-unknown/users", &[], json!({"users": []})),
        ("/connections", &[], json!({"connections": 3})),
    ] {
        assert_eq!(api.ask(path, parameters), expected, "{path} {parameters:?}");
    }
    let users = sorted_users(api.ask("/channels/presence-room.7/users", &[]));
    assert_eq!(users, json!({"users": [{"id": "7"}, {"id": "é"}]}));
}

#[test]
fn a_publisher_may_ask_for_counts_with_its_event() {
    let server = TestServer::start(|_| {});
    let _clients = occupied(&server);
    let mut api = server.api();
    let room = "presence-room.7";
    let channels = [room, "orders", "empty", "presence-empty"];
    let info = "user_count,subscription_count";
    let reply = api.publish(&json!({"name": "n", "channels": channels, "data": "", "info": info}));
    let expected = json!({"channels": {
        room: {"user_count": 2, "subscription_count": 3},
        "orders": {"subscription_count": 3},
        "empty": {"subscription_count": 0},
        "presence-empty": {"user_count": 0, "subscription_count": 0},
    }});
    assert_eq!(reply, expected);
    let batch = json!({"batch": [
        {"name": "n", "channel": "orders", "data": "", "info": "subscription_count"},
        {"name": "n", "channel": "orders", "data": ""},
        {"name": "n", "channel": room, "data": "", "info": "user_count"},
        {"name": "n", "channel": "orders", "data": "", "info": "user_count"},
    ]});
    let reply = api.post("/batch_events", batch.to_string());
    assert_eq!(reply.body, r#"{"batch":[{"subscription_count":3},{},{"user_count":2},{}]}"#);
}

#[test]
fn an_app_may_want_info_to_apply() {
    let server = TestServer::start(|app| app.strict_info = true);
    let mut api = server.api();
    let text = "info asks for user_count, which only presence channels have";
    expect_refusal(&api.get("/channels/orders", &[("info", "user_count")]), 400, text);
    expect_refusal(&api.get("/channels", &[("info", "user_count")]), 400, text);
}

#[test]
fn the_admin_listener_tells_health_and_nothing_of_the_api() {
    let server = TestServer::start(|_| {});
    let mut http = Http::connect(server.admin);
    for (method, path, status) in [
        ("GET", "/up", 200),
        ("GET", "/ready", 200),
        ("HEAD", "/metrics", 200),
        ("GET", "/apps/app-one/channels", 404),
        ("POST", "/metrics", 405),
    ] {
        assert_eq!(http.request(method, path, b"").status, status, "{method} {path}");
    }
}
