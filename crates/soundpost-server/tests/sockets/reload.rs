//! Settings that change while the server runs: what clients and publishers notice, and what they do not.

use std::fs;

use serde_json::json;

use crate::support::{Api, Client, ReloadingServer, app, app_file, app_with_secret, eventually};

const NO_APP: &str = "Application does not exist";

/// Whether a client event is taken, by what the client hears of it before the answer to a ping.
fn may_whisper(client: &mut Client) -> bool {
    client.send(&json!({"event": "client-a", "channel": "private-a", "data": {}}));
    client.send(&json!({"event": "pusher:ping", "data": {}}));
    let is_taken = client.event()["event"] == "pusher:pong";
    if !is_taken {
        assert_eq!(client.event()["event"], "pusher:pong");
    }
    is_taken
}

#[test]
fn an_app_that_is_added_serves_at_once_and_one_that_is_removed_no_more() {
    let server = ReloadingServer::start("", &app_file("one", ""));
    let mut stays = server.connect_as("one");
    stays.subscribe("news");
    server.expect_refused("two", 4001, NO_APP);
    assert_eq!(server.reload("", &(app_file("one", "") + &app_file("two", ""))), "applied");
    let mut goes = [(); 4].map(|()| server.connect_as("two"));
    let roster = goes[0].join("presence-room", r#"{"user_id":"ada"}"#);
    assert_eq!(roster["count"], 1);
    goes[1].subscribe("news");
    let mut of_two = Api::new(server.http(), app("two"));
    of_two.trigger("news", "hello", "");
    goes[1].expect(&json!({"event": "hello", "channel": "news", "data": ""}));

    assert_eq!(server.reload("", &app_file("one", "")), "applied");
    for client in &mut goes {
        client.expect_goodbye(4001, NO_APP);
    }
    assert_eq!(of_two.post("/events", "{}").status, 404);
    server.expect_refused("two", 4001, NO_APP);
    assert_eq!(server.metric("soundpost_connections{app=\"app-two\"}"), 0);
    server.await_open(1);
    stays.expect_silence();
    server.api_of(0).trigger("news", "hello", "");
    stays.expect(&json!({"event": "hello", "channel": "news", "data": ""}));

    // What comes back is empty.
    assert_eq!(server.reload("", &(app_file("one", "") + &app_file("two", ""))), "applied");
    let mut of_two = Api::new(server.http(), app("two"));
    assert_eq!(of_two.ask("/channels", &[]), json!({"channels": {}}));
    let roster = server.connect_as("two").join("presence-room", r#"{"user_id":"bob"}"#);
    assert_eq!(roster["count"], 1, "{roster}");
}

#[test]
fn the_clients_of_an_app_that_is_disabled_or_has_another_key_are_told() {
    let server = ReloadingServer::start("", &(app_file("one", "") + &app_file("two", "")));
    let (mut one, mut two) = (server.connect_as("one"), server.connect_as("two"));
    assert_eq!(server.reload("", &(app_file("one", "") + &app_file("two", "enabled = false"))), "applied");
    two.expect_goodbye(4003, "Application disabled");
    server.expect_refused("two", 4003, "Application disabled");
    let mut of_two = Api::new(server.http(), app("two"));
    assert_eq!(of_two.get("/channels", &[]).status, 403);
    one.expect_silence();
    assert_eq!(
        server.reload("", &(app_file("one", "").replace("key-one", "key-new") + &app_file("two", ""))),
        "applied"
    );
    one.expect_goodbye(4001, NO_APP);
    server.expect_refused("one", 4001, NO_APP);
    server.connect_as("two").expect_silence();
}

#[test]
fn limits_change_for_connections_that_are_open() {
    let server = ReloadingServer::start("", &app_file("one", ""));
    let (mut client, mut api) = (server.connect_as("one"), server.api_of(0));
    client.subscribe("private-a");
    assert!(may_whisper(&mut client));
    let big = json!({"name": "e", "channel": "private-a", "data": "x".repeat(1000)});
    api.publish(&big);
    assert_eq!(client.event()["event"], "e");

    let less = "client_events = \"none\"\nevent_data_bytes_max = 999\nchannels_per_connection_max = 1";
    assert_eq!(server.reload("", &app_file("one", less)), "applied");
    assert_eq!(api.post("/events", big.to_string()).status, 413);
    eventually("the open connection is told", || !may_whisper(&mut client));
    client.send(&client.subscription("b", None));
    assert_eq!(client.event()["event"], "pusher:subscription_error");
    client.event();
    client.expect_nothing();

    assert_eq!(server.reload("", &app_file("one", "channels_per_connection_max = 3")), "applied");
    api.publish(&big);
    assert_eq!(client.event()["event"], "e");
    eventually("the open connection is told", || may_whisper(&mut client));
    client.subscribe("b");
}

#[test]
fn quotas_are_lowered_without_cutting_anybody() {
    let server = ReloadingServer::start("", &app_file("one", ""));
    let mut clients = [(); 3].map(|()| server.connect_as("one"));
    assert_eq!(server.reload("", &app_file("one", "connections_max = 2")), "applied");
    server.expect_refused("one", 4004, "Application is over connection quota");
    assert_eq!(server.reload("connections_max = 2", &app_file("one", "")), "applied");
    server.expect_refused("one", 4100, "Over capacity");
    clients.iter_mut().for_each(Client::expect_silence);
    assert_eq!(server.reload("connections_max = 4", &app_file("one", "")), "applied");
    server.connect_as("one").expect_silence();
    let limit = "connections_per_address_max = 1\nrequest_bytes_max = 10";
    assert_eq!(server.reload(limit, &app_file("one", "")), "applied");
    let kept = server.http();
    // Those that came before it are not counted; the admin listener is another.
    let refused = server.http().get("/up").status;
    assert_eq!(refused, 429);
    drop(kept);
}

#[test]
fn a_secret_is_replaced_without_a_refusal() {
    let server = ReloadingServer::start("", &app_file("one", ""));
    let (old, new) = (app("one"), app_with_secret("one", "the-new-secret-of-one"));
    let mut client = Client::connect(server.address, &old);
    let [mut by_old, mut by_new] = [&old, &new].map(|app| Api::new(server.http(), app.clone()));
    let mut accepts = |expected: [u16; 2]| {
        let body = json!({"name": "e", "channel": "private-a", "data": ""}).to_string();
        assert_eq!([&mut by_old, &mut by_new].map(|api| api.post("/events", &body).status), expected);
        let join = |app| {
            let mut client = Client::connect(server.address, app);
            client.send(&client.subscription("private-b", None));
            client.event()["event"] == "pusher_internal:subscription_succeeded"
        };
        assert_eq!(
            [&old, &new].map(|app| u16::from(join(app))),
            expected.map(|status| u16::from(status == 200))
        );
    };
    accepts([200, 401]);
    let replaced = app_file("one", "previous_secret = \"secret-one\"")
        .replace("secret = \"secret-one\"\np", "secret = \"the-new-secret-of-one\"\np");
    assert_eq!(server.reload("", &replaced), "applied");
    accepts([200, 200]);
    let done = app_file("one", "").replace("secret-one", "the-new-secret-of-one");
    assert_eq!(server.reload("", &done), "applied");
    accepts([401, 200]);
    // Who is connected stays through all of it; those that tried a secret have left.
    client.expect_silence();
    eventually("only the first client is left", || {
        server.metric("soundpost_connections{app=\"app-one\"}") == 1
    });
}

#[test]
fn settings_with_a_mistake_are_refused_as_a_whole() {
    let server = ReloadingServer::start("", &app_file("one", ""));
    let mut client = server.connect_as("one");
    let two = app_file("two", "");
    let before = server.metric("soundpost_config_last_reload_success_timestamp_seconds");
    assert!(before > 0);
    for (what, apps) in [
        ("half a file", app_file("one", "enabled = ")),
        ("an unknown key", two.clone() + &app_file("one", "zzz = 1")),
        ("a value out of range", two.clone() + &app_file("one", "ping_interval_seconds = 0")),
        ("a key of two apps", two.clone() + &app_file("one", "").replace("key-one", "key-two")),
        ("no app any more", String::new()),
    ] {
        assert_eq!(server.reload("", &apps), "refused", "{what}");
        server.expect_refused("two", 4001, NO_APP);
    }
    assert_eq!(server.reload_text(""), "refused", "an emptied file");
    fs::remove_file(&server.file).unwrap();
    assert_eq!(server.reload_again(), "refused", "a removed file");
    assert_eq!(server.metric("soundpost_config_last_reload_successful"), 0);
    client.subscribe("news");
    server.api_of(0).trigger("news", "e", "");
    client.expect(&json!({"event": "e", "channel": "news", "data": ""}));
    assert_eq!(server.reload("", &app_file("one", "")), "unchanged");
    assert_eq!(server.metric("soundpost_config_last_reload_successful"), 1);
    assert_eq!((server.counts().applied, server.counts().unchanged, server.counts().refused), (0, 1, 7));
}

#[test]
fn what_needs_a_new_start_keeps_its_value() {
    let server = ReloadingServer::start("", &app_file("one", ""));
    let text = fs::read_to_string(&server.file).unwrap();
    let moved = text.replace("workers = 2", "workers = 3\npath = \"ws\"");
    assert_eq!(server.reload_text(&moved), "unchanged");
    assert_eq!(server.reload_text(&moved.replace("[admin]", "drain_seconds = 1\n[admin]")), "applied");
    assert_eq!(server.reload_again(), "unchanged");
    server.connect_as("one").expect_silence();
    assert_eq!(server.http().get("/ws/up").status, 404, "the prefix is still none");
}

#[test]
fn a_public_secret_is_refused_where_other_machines_reach_the_server() {
    let text = |host: &str, secret: &str| {
        let app = app_file("one", "").replace("secret-one", secret);
        format!("[server]\nhost = \"{host}\"\nport = 0\nworkers = 1\n[admin]\nport = 0\n{app}")
    };
    let server = ReloadingServer::start("", &app_file("one", ""));
    // Only this machine reaches it.
    assert_eq!(server.reload_text(&text("127.0.0.1", "soundpost-secret")), "applied");
    assert_eq!(server.reload_text(&text("0.0.0.0", "soundpost-secret")), "refused");
}

#[test]
fn a_changed_file_is_read_without_being_asked() {
    let server = ReloadingServer::start("", &app_file("one", ""));
    let mut one = server.connect_as("one");
    let text = fs::read_to_string(&server.file).unwrap();
    let write = |name: &str, text: &str| {
        let path = server.file.with_file_name(name);
        fs::write(&path, text).unwrap();
        path
    };
    let before = server.counts();
    fs::rename(write("next", &(text.clone() + &app_file("two", ""))), &server.file).unwrap();
    assert_eq!(server.await_count(before), "applied");
    server.connect_as("two").expect_silence();
    let before = server.counts();
    fs::write(&server.file, text.clone() + "[[apps]]\n").unwrap();
    assert_eq!(server.await_count(before), "refused");
    server.connect_as("two").expect_silence();
    let before = server.counts();
    let unwatched = text.replace("workers = 2", "workers = 2\nwatch_files = false");
    fs::rename(write("next", &unwatched), &server.file).unwrap();
    assert_eq!(server.await_count(before), "applied");
    server.expect_refused("two", 4001, NO_APP);
    one.expect_silence();
    // From now on only when asked.
    assert_eq!(server.reload("", &app_file("one", "")), "applied");
}
