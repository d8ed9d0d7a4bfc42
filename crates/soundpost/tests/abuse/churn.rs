//! Connections that come and break off, thousands of them.

use std::{io::Write, thread};

use crate::{
    client::{Client, handshake, reset},
    http::{self, SHOP},
    server::{Server, Setup, until},
};

#[test]
fn two_thousand_resets_leave_nothing_behind() {
    let mut server = Server::start(&Setup::default());
    let address = server.address;
    // What the first connection makes the runtime open stays open.
    Client::connect(address, &SHOP).reset();
    until("the first to be gone", || server.connections(&SHOP) == 0);
    let before = server.descriptors();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || (0..500).for_each(|number| break_off(address, number)));
        }
    });
    until("all to be gone", || server.connections(&SHOP) == 0);
    until("their descriptors to be free", || server.descriptors() <= before);
    assert!(server.is_alive());
    assert_eq!(SHOP.get(address, "channels", &[]).body, r#"{"channels":{}}"#);
    println!("{before} descriptors before, {} after", server.descriptors());
    let mut client = Client::connect(address, &SHOP);
    client.subscribe(&SHOP, "room", None);
    client.ping();
}

/// One connection that ends at one of four moments.
fn break_off(address: std::net::SocketAddr, number: usize) {
    if number.is_multiple_of(4) {
        let mut client = Client::connect(address, &SHOP);
        client.subscribe(&SHOP, "room", None);
        return client.reset();
    }
    let mut stream = http::connect(address);
    let head = handshake(SHOP.key);
    let sent = [0, head.len() / 2, head.len()][number % 4 - 1];
    stream.write_all(&head.as_bytes()[..sent]).unwrap();
    reset(&stream);
}
