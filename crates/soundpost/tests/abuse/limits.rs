//! Every limit says no, says it in the protocol's words, and counts it.

use crate::{
    client::{Client, member},
    http::{SHOP, event},
    server::{Server, Setup, until},
};

#[test]
fn an_app_that_asks_too_often_hears_429() {
    let server = Server::start(&Setup { apps: "requests_per_second = 5", ..Setup::default() });
    let refused = (0..50)
        .map(|_| SHOP.trigger(server.address, "room", "tick", "x"))
        .find(|reply| reply.status != 200)
        .expect("a request over the rate");
    assert_eq!(refused.status, 429);
    assert!(refused.head.contains("\r\nretry-after: 1"), "{refused:?}");
    assert!(server.metric(r#"soundpost_triggers_total{app="shop",result="refused"}"#) >= 1);
    assert!(server.refused("shop", "request_rate") >= 1);
    until("the rate to allow more", || SHOP.trigger(server.address, "room", "tick", "x").status == 200);
}

#[test]
fn an_address_has_as_many_connections_as_it_may() {
    let server = Server::start(&Setup { server: "connections_per_address_max = 8", ..Setup::default() });
    let mut inside: Vec<Client> = (0..8).map(|_| Client::connect(server.address, &SHOP)).collect();
    let refused = Client::try_connect(server.address, &SHOP).unwrap_err();
    assert_eq!(refused.status, 429);
    assert!(refused.head.contains("\r\nretry-after: 1"), "{refused:?}");
    assert!(server.refused("", "address") >= 1);
    drop(inside.pop());
    until("a place", || Client::try_connect(server.address, &SHOP).is_ok());
    for client in &mut inside {
        client.ping();
    }
}

#[test]
fn a_connection_holds_as_many_channels_as_it_may() {
    let server = Server::start(&Setup { apps: "channels_per_connection_max = 2", ..Setup::default() });
    let mut client = Client::connect(server.address, &SHOP);
    client.subscribe(&SHOP, "a", None);
    client.subscribe(&SHOP, "b", None);
    client.ask_to_subscribe(&SHOP, "c", None);
    let refused = client.event("pusher:subscription_error");
    assert_eq!((&refused["channel"], &refused["data"]["type"]), (&"c".into(), &"LimitReached".into()));
    assert_eq!(client.event("pusher:error")["data"]["code"], 4100);
    assert_eq!(server.refused("shop", "subscription"), 1);
    client.unsubscribe("a");
    client.subscribe(&SHOP, "c", None);
}

#[test]
fn a_presence_channel_has_as_many_users_as_it_may() {
    let server = Server::start(&Setup { apps: "presence_members_max = 2", ..Setup::default() });
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(server.address, &SHOP)).collect();
    clients[0].subscribe(&SHOP, "presence-a", Some(&member("1", "x")));
    clients[1].subscribe(&SHOP, "presence-a", Some(&member("2", "x")));
    // A second connection of a user who is there takes no place.
    clients[2].subscribe(&SHOP, "presence-a", Some(&member("2", "x")));
    clients[3].ask_to_subscribe(&SHOP, "presence-a", Some(&member("3", "x")));
    let refused = clients[3].event("pusher:subscription_error");
    assert_eq!(refused["data"]["type"], "LimitReached");
    assert_eq!(server.refused("shop", "subscription"), 1);
    let users = SHOP.get(server.address, "channels/presence-a/users", &[]).json();
    assert_eq!(users["users"].as_array().unwrap().len(), 2);
}

#[test]
fn an_event_is_as_large_as_it_may_be() {
    let server = Server::start(&Setup { apps: "event_data_bytes_max = 1000", ..Setup::default() });
    assert_eq!(SHOP.trigger(server.address, "room", "tick", &"x".repeat(1000)).status, 200);
    for bytes in [1001, 100_000] {
        let reply = SHOP.trigger(server.address, "room", "tick", &"x".repeat(bytes));
        assert_eq!(reply.status, 413, "{reply:?}");
        assert!(reply.body.contains("event_data_bytes_max"), "{reply:?}");
    }
    assert_eq!(server.metric(r#"soundpost_triggers_total{app="shop",result="refused"}"#), 2);
    assert_eq!(SHOP.post(server.address, "events", &event("room", "tick", "x")).status, 200);
}

#[test]
fn a_message_is_as_large_as_it_may_be() {
    let server = Server::start(&Setup { apps: "message_bytes_max = 1000", ..Setup::default() });
    let mut client = Client::connect(server.address, &SHOP);
    let ping = |bytes: usize| format!(r#"{{"event":"pusher:ping","data":"{}"}}"#, "x".repeat(bytes - 33));
    assert_eq!(ping(1000).len(), 1000);
    client.send_text(&ping(1000));
    client.event("pusher:pong");
    client.send_text(&ping(1001));
    assert_eq!(client.ending(), Some(1009));
    assert_eq!(server.closed(&SHOP, "message_too_big"), 1);
}

#[test]
fn a_connection_whispers_as_often_as_it_may() {
    let server = Server::start(&Setup { apps: "client_events_per_second = 5", ..Setup::default() });
    let mut client = Client::connect(server.address, &SHOP);
    client.subscribe(&SHOP, "private-a", None);
    for _ in 0..50 {
        client.send_text(r#"{"event":"client-a","channel":"private-a","data":1}"#);
    }
    assert_eq!(client.event("pusher:error")["data"]["code"], 4301);
    assert!(server.refused("shop", "client_event_rate") >= 1);
    client.ping();
}
