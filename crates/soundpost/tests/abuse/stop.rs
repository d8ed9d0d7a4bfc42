//! How a server ends.

use std::time::{Duration, Instant};

use crate::{
    client::Client,
    http::{self, SHOP},
    server::{Server, Setup, until},
};

#[test]
fn a_signal_drains_and_publishers_are_served_meanwhile() {
    let mut server = Server::start(&Setup { server: "drain_seconds = 5", ..Setup::default() });
    assert_eq!(http::get(server.address, "/ready").status, 200);
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(server.address, &SHOP)).collect();
    let asked_at = Instant::now();
    server.terminate();
    until("/ready to say so", || http::get(server.admin, "/ready").status == 503);
    assert_eq!(http::get(server.address, "/ready").status, 503);
    let body = http::event("room", "tick", "x");
    let keep_alive = http::request("POST", &SHOP.target("POST", "events", &[], &body), &body)
        .replace("Connection: close\r\n", "");
    let reply = http::exchange(server.address, &keep_alive);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(reply.head.contains("\r\nconnection: close"), "{reply:?}");
    let mut newcomer = Client::open(http::connect(server.address), &SHOP).unwrap();
    assert_eq!(newcomer.event("pusher:error")["data"]["code"], 4100);
    assert_eq!(newcomer.ending(), Some(4100));
    for client in &mut clients {
        assert_eq!(client.event("pusher:error")["data"]["code"], 4200);
        assert_eq!(client.ending(), Some(4200));
    }
    drop(clients);
    assert_eq!(server.ended().code(), Some(0));
    println!("ended after {:?}", asked_at.elapsed());
    assert!(asked_at.elapsed() >= Duration::from_secs(5), "publishers are served for the whole window");
    assert!(asked_at.elapsed() < Duration::from_secs(30), "{:?}", asked_at.elapsed());
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut server = Server::start(&Setup { server: "drain_seconds = 60", ..Setup::default() });
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(server.address, &SHOP)).collect();
    server.terminate();
    until("the draining", || http::get(server.admin, "/ready").status == 503);
    assert!(server.is_alive());
    let asked_at = Instant::now();
    server.terminate();
    assert_eq!(server.ended().code(), Some(0));
    println!("ended {:?} after the second signal", asked_at.elapsed());
    assert!(asked_at.elapsed() < Duration::from_secs(30), "{:?}", asked_at.elapsed());
    for client in &mut clients {
        client.ending();
    }
}
