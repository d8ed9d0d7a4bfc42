//! Apps on one node share nothing.

use serde_json::json;
use soundpost_protocol::websocket::Opcode;

use crate::support::{TestServer, app, masked, signed_target};

#[test]
fn two_apps_with_the_same_channels_never_see_each_other() {
    let server = TestServer::start_with(vec![app("one"), app("two")], |_| {});
    let (mut one, mut two) = (server.connect_to(0), server.connect_to(1));
    let room = "presence-room";
    for (client, name) in [(&mut one, "one"), (&mut two, "two")] {
        client.subscribe("orders");
        client.subscribe("private-chat");
        let roster = client.join(room, &json!({"user_id": name}).to_string());
        assert_eq!(roster, json!({"count": 1, "ids": [name], "hash": {name: null}}));
        client.expect_silence();
    }
    let mut only_two = server.connect_to(1);
    only_two.subscribe("only-two");
    one.expect_silence();

    server.api_of(0).trigger("orders", "of-one", "");
    one.expect(&json!({"event": "of-one", "channel": "orders", "data": ""}));
    let whisper = json!({"event": "client-x", "channel": "private-chat", "data": {}});
    one.send_raw(&masked(Opcode::Text, whisper.to_string()));
    one.expect_silence();
    two.expect_silence();

    for (at, name, connections, channels) in [
        (0, "one", 1, json!({"orders": {}, "presence-room": {}, "private-chat": {}})),
        (1, "two", 2, json!({"only-two": {}, "orders": {}, "presence-room": {}, "private-chat": {}})),
    ] {
        let mut api = server.api_of(at);
        assert_eq!(api.ask("/channels", &[]), json!({"channels": channels}));
        assert_eq!(api.ask("/channels/presence-room/users", &[]), json!({"users": [{"id": name}]}));
        assert_eq!(api.ask("/connections", &[]), json!({"connections": connections}));
        let counts = [("info", "subscription_count,user_count")];
        let expected = json!({"occupied": true, "subscription_count": 1, "user_count": 1});
        assert_eq!(api.ask("/channels/presence-room", &counts), expected);
    }
    // A socket id of one app excludes nobody in another.
    let socket_id = &two.socket_id;
    server.api_of(0).publish(&json!({"name": "n", "channel": "orders", "data": "", "socket_id": socket_id}));
    one.expect(&json!({"event": "n", "channel": "orders", "data": ""}));
    one.vanish();
    two.expect_silence();
}

#[test]
fn neither_key_nor_secret_of_one_app_opens_another() {
    let server = TestServer::start_with(vec![app("one"), app("two")], |_| {});
    let mut http = server.http();
    let path = "/apps/app-two/channels";
    let target = signed_target(&server.apps[0], "GET", path, &[], b"");
    assert_eq!(http.get(&target).status, 401);
    let target = signed_target(&server.apps[0], "GET", path, &[("auth_key", "key-two")], b"");
    assert_eq!(http.get(&target).status, 401);

    // A signature of the one app for a connection of the other.
    let mut client = server.connect_to(1);
    let signed_by_one = {
        let mut of_one = server.connect_to(0);
        of_one.socket_id.clone_from(&client.socket_id);
        of_one.subscription("private-chat", None)
    };
    client.send(&signed_by_one);
    assert_eq!(client.event()["event"], "pusher:subscription_error");
    assert_eq!(client.event()["data"]["code"], 4009);
}
