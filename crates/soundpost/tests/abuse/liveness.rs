//! Peers that have gone without saying so.

use crate::{
    client::{Client, member},
    http::SHOP,
    server::{Server, Setup},
};

#[test]
fn who_falls_silent_is_closed_with_4201_and_leaves_its_channel() {
    let server = Server::start(&Setup {
        // Time enough for who answers on a busy machine.
        apps: "ping_interval_seconds = 1\npong_timeout_seconds = 5",
        ..Setup::default()
    });
    let mut watcher = Client::connect(server.address, &SHOP);
    watcher.subscribe(&SHOP, "presence-room", Some(&member("1", "watcher")));
    let mut silent = Client::connect(server.address, &SHOP);
    silent.answers_pings = false;
    silent.subscribe(&SHOP, "presence-room", Some(&member("2", "silent")));
    watcher.event("pusher_internal:member_added");
    let removed = watcher.event("pusher_internal:member_removed");
    assert_eq!(removed["data"], r#"{"user_id":"2"}"#);
    let error = silent.event("pusher:error");
    assert_eq!(error["data"]["code"], 4201);
    assert_eq!(silent.ending(), Some(4201));
    assert_eq!(server.closed(&SHOP, "pong_timeout"), 1);
    // Who answers stays.
    watcher.event("pusher:ping");
    watcher.ping();
    assert_eq!(server.connections(&SHOP), 1);
}
