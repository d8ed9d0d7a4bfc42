//! A path prefix: what is under it, what is beside it, and whose signature fits.

use serde_json::json;
use soundpost_protocol::auth::sign;

use crate::support::{Api, Client, TestServer, app, signed_target, unix_seconds};

fn start() -> TestServer {
    TestServer::start_with(vec![app("one")], |settings| settings.server.path = "/ws".to_owned())
}

#[test]
fn a_path_prefix_stands_before_everything_and_the_api_works_without_it_too() {
    let server = start();
    let mut http = server.http();
    for (path, status) in [
        ("/ws/up", 200),
        ("/up", 200),
        ("/ws/", 200),
        ("/ws/nope", 404),
        ("/wsup", 404),
        ("/ws/app/key-one", 426),
    ] {
        assert_eq!(http.get(path).status, status, "{path}");
    }
    let mut client = Client::open(server.address, &server.apps[0], "/ws/app/key-one", "", &[]);
    client.greeted();
    client.subscribe("orders");
    for target in ["/app/key-one", "/wsapp/key-one", "/ws/ws/app/key-one"] {
        Client::open(server.address, &server.apps[0], target, "", &[]).expect_goodbye(4005, "Path not found");
    }
    // The PHP SDK does not sign the prefix; others sign the path they ask for.
    let body = br#"{"name":"n","channel":"orders","data":""}"#;
    let app = &server.apps[0];
    let with = signed_target(app, "POST", "/ws/apps/app-one/events", &[], body);
    let without = signed_target(app, "POST", "/apps/app-one/events", &[], body);
    for target in [with, format!("/ws{without}"), without] {
        assert_eq!(http.request("POST", &target, body).body, "{}", "{target}");
        client.expect(&json!({"event": "n", "channel": "orders", "data": ""}));
    }
    let mut api = Api::new(http, app.clone());
    assert_eq!(api.ask("/channels", &[]), json!({"channels": {"orders": {}}}));
}

/// Routes as a URL has them and as an SDK composes and signs them, which escapes nothing.
const ROUTES: [(&str, &str, &str); 9] = [
    ("POST", "/events", "/events"),
    ("POST", "/batch_events", "/batch_events"),
    ("GET", "/channels", "/channels"),
    ("GET", "/channels/presence-a@b,c", "/channels/presence-a@b,c"),
    ("GET", "/channels/presence-a%40b%2Cc", "/channels/presence-a@b,c"),
    ("GET", "/channels/presence-a/users", "/channels/presence-a/users"),
    ("GET", "/connections", "/connections"),
    ("POST", "/users/user%2042/terminate_connections", "/users/user 42/terminate_connections"),
    ("POST", "/users/zo%C3%AB@x/terminate_connections", "/users/zoë@x/terminate_connections"),
];

/// A request for `sent`, signed over `signed`.
fn target(server: &TestServer, method: &str, sent: &str, signed: &str, body: &[u8]) -> String {
    let with_query = signed_target(&server.apps[0], method, signed, &[], body);
    let (_, query) = with_query.split_once('?').unwrap();
    format!("{sent}?{query}")
}

#[test]
fn every_route_is_there_with_and_without_the_prefix_whichever_way_its_path_was_signed() {
    let server = start();
    let mut http = server.http();
    for (method, escaped, plain) in ROUTES {
        let body: &[u8] = match plain {
            "/events" => br#"{"name":"n","channel":"orders","data":""}"#,
            "/batch_events" => br#"{"batch":[{"name":"n","channel":"orders","data":""}]}"#,
            _ if method == "POST" => b"{}",
            _ => b"",
        };
        let [escaped, plain] = [escaped, plain].map(|path| format!("/apps/app-one{path}"));
        let mut ask = |sent: &str, signed: &str| {
            http.request(method, &target(&server, method, sent, signed, body), body).status
        };
        let under = |path: &str| format!("/ws{path}");
        for signed in [escaped.clone(), plain.clone(), under(&escaped), under(&plain)] {
            assert_eq!(ask(&under(&escaped), &signed), 200, "{method} /ws{escaped} signed as {signed}");
        }
        // Without the prefix there is none that could have been signed.
        for (signed, status) in
            [(escaped.clone(), 200), (plain.clone(), 200), (under(&escaped), 401), (under(&plain), 401)]
        {
            assert_eq!(ask(&escaped, &signed), status, "{method} {escaped} signed as {signed}");
        }
        for signed in [format!("/ws{}", under(&escaped)), format!("{plain}/"), "/ws".to_owned()] {
            assert_eq!(ask(&under(&escaped), &signed), 401, "{method} /ws{escaped} signed as {signed}");
        }
    }
}

/// As seen from pusher-http-php 7.2.6 with Guzzle 7: `path` is put before the host's root, so that only one with a slash
/// at its end stays in the URL; what is signed has none. Written out, so that no helper of ours signs in its place.
#[test]
fn what_the_php_sdk_asks_for_is_understood_whether_its_path_ends_in_a_slash_or_not() {
    let server = start();
    let mut http = server.http();
    let body = r#"{"name":"e","data":"{\"a\":1}","channel":"orders"}"#;
    let now = unix_seconds();
    for (method, asked, signed, query, signed_query, body) in [
        ("POST", "/events", "/events", "&body_md5=MD5", "&body_md5=MD5", body),
        (
            "GET",
            "/channels",
            "/channels",
            "&filter_by_prefix=a%20b&info=user_count%2Csubscription_count",
            "&filter_by_prefix=a b&info=user_count,subscription_count",
            "",
        ),
        (
            "GET",
            "/channels/presence-a@b,c",
            "/channels/presence-a@b,c",
            "&info=user_count",
            "&info=user_count",
            "",
        ),
        (
            "POST",
            "/users/user%2042/terminate_connections",
            "/users/user 42/terminate_connections",
            "&body_md5=MD5",
            "&body_md5=MD5",
            "{}",
        ),
    ] {
        use md5::Digest;
        let md5: String = md5::Md5::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
        let auth = format!("auth_key=key-one&auth_timestamp={now}&auth_version=1.0");
        let text = format!("{method}\n/apps/app-one{signed}\n{auth}{}", signed_query.replace("MD5", &md5));
        let signature = sign(&server.apps[0].secret, &[text.as_bytes()]);
        let query = format!("{auth}&auth_signature={signature}{}", query.replace("MD5", &md5));
        for prefix in ["", "/ws"] {
            let target = format!("{prefix}/apps/app-one{asked}?{query}");
            let reply = http.request(method, &target, body.as_bytes());
            assert_eq!(reply.status, 200, "{target}: {reply:?}");
        }
    }
}
