//! What the log may not hold.

use serde_json::json;

use crate::{
    client::{Client, member},
    http::{self, BLOG, SHOP, event},
    server::{Server, Setup},
};

/// A server that logs everything it can.
fn talkative() -> Server {
    Server::start(&Setup {
        server: "drain_seconds = 0",
        flags: &["--debug"],
        log: Some("trace"),
        ..Setup::default()
    })
}

#[test]
fn no_secret_and_no_signature_is_logged() {
    let server = talkative();
    let mut used = Vec::new();
    let mut client = Client::connect(server.address, &SHOP);
    let user = r#"{"id":"42","user_info":{"name":"Zoe"}}"#;
    let data = member("42", "Zoe");
    let signature = |text: &str| SHOP.sign(&format!("{}:{text}", client.socket_id));
    let (sign_in, private, presence) = (
        signature(&format!(":user::{user}")),
        signature("private-a"),
        signature(&format!("presence-a:{data}")),
    );
    let wrong = BLOG.sign("something else");
    for mac in [&wrong, &sign_in] {
        let auth = format!("{}:{mac}", SHOP.key);
        client.send(&json!({ "event": "pusher:signin", "data": { "auth": auth, "user_data": user } }));
    }
    client.event("pusher:signin_success");
    for mac in [&wrong, &private] {
        let auth = format!("{}:{mac}", SHOP.key);
        client
            .send(&json!({ "event": "pusher:subscribe", "data": { "channel": "private-a", "auth": auth } }));
    }
    client.event("pusher_internal:subscription_succeeded");
    let auth = format!("{}:{presence}", SHOP.key);
    client.send(&json!({
        "event": "pusher:subscribe",
        "data": { "channel": "presence-a", "auth": auth, "channel_data": data },
    }));
    client.event("pusher_internal:subscription_succeeded");
    // Cut off, doubly encoded, and with the signature where the key belongs.
    client.send_text(&format!(r#"{{"event":"pusher:subscribe","data":{{"auth":"{auth}"#));
    client.send(&json!({ "event": "pusher:subscribe", "data": json!({ "auth": auth }).to_string() }));
    client.ping();
    used.extend([sign_in, private, presence, wrong]);

    let body = event("private-a", "tick", "x");
    let mut targets = vec![
        ("POST", SHOP.target("POST", "events", &[], &body), 200),
        ("GET", SHOP.target("GET", "channels", &[], ""), 200),
        ("GET", SHOP.target("GET", "users/1/nothing", &[], ""), 404),
        ("POST", BLOG.target("POST", "events", &[], &body).replace("blog", "shop"), 401),
    ];
    targets.push(("POST", targets[0].1.replace("events", "batch_events"), 401));
    for (method, target, status) in &targets {
        let body = if *method == "POST" { &*body } else { "" };
        let reply = http::exchange(server.address, &http::request(method, target, body));
        assert_eq!(reply.status, *status, "{target} {reply:?}");
        let mac = target.rsplit_once('=').unwrap().1;
        assert!(!reply.body.contains(mac), "{reply:?}");
        used.push(mac.to_owned());
    }
    client.event("tick");

    let output = server.into_output();
    println!("{} lines of log, {} signatures", output.lines().count(), used.len());
    assert!(output.contains("<- ") && output.contains("-> "), "frames are not logged: {output}");
    for secret in used.iter().map(String::as_str).chain([SHOP.secret, BLOG.secret]) {
        assert!(!output.contains(secret), "{secret} in\n{output}");
    }
}

#[test]
fn signatures_written_with_escapes_are_not_logged_either() {
    let server = talkative();
    let mut client = Client::connect(server.address, &SHOP);
    let mac = SHOP.sign(&format!("{}:private-a", client.socket_id));
    for auth in [
        format!(r#""\u0061uth":"shop-key:{mac}""#),
        format!(r#""auth":"shop-key\u003a{mac}""#),
        format!(r#""auth" :\t"shop\u002dkey:{mac}""#).replace("\\t", "\t"),
    ] {
        let channel = r#""channel":"private-a""#;
        client.send_text(&format!(r#"{{"event":"pusher:subscribe","data":{{{channel},{auth}}}}}"#));
        client.event("pusher_internal:subscription_succeeded");
        client.unsubscribe("private-a");
    }
    let output = server.into_output();
    assert!(!output.contains(&mac), "{mac} in\n{output}");
}
