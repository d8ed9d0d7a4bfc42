//! Clients that send as much as they can.

use std::{
    io::Read,
    sync::atomic::{
        AtomicBool,
        Ordering::{Acquire, Release},
    },
    thread,
    time::Duration,
};

use serde_json::json;

use crate::{
    client::Client,
    http::SHOP,
    server::{PATIENCE, Server, Setup},
};

#[test]
fn floods_of_one_client_leave_the_others_their_turn() {
    const MESSAGES: usize = 60_000;
    // Who floods is owed as many answers; a reader that this machine holds up must not be cut for it.
    let mut server = Server::start(&Setup { server: "queue_bytes_max = 16777216", ..Setup::default() });
    let mut flooders = [Client::connect(server.address, &SHOP), Client::connect(server.address, &SHOP)];
    let mut others: Vec<Client> = (0..4).map(|_| Client::connect(server.address, &SHOP)).collect();
    let over = AtomicBool::new(false);
    let latencies = thread::scope(|scope| {
        let [pinger, joiner] = &mut flooders;
        let pinging =
            scope.spawn(|| flood(pinger, MESSAGES, |_| json!({ "event": "pusher:ping" }).to_string()));
        let joining = scope.spawn(|| {
            flood(joiner, MESSAGES, |number| {
                let event = if number % 2 == 0 { "pusher:subscribe" } else { "pusher:unsubscribe" };
                json!({ "event": event, "data": { "channel": format!("room-{}", number / 2 % 10) } })
                    .to_string()
            });
        });
        let watching = scope.spawn(|| {
            let mut latencies = Vec::new();
            while !over.load(Acquire) {
                latencies.extend(others.iter_mut().map(Client::ping));
                thread::sleep(Duration::from_millis(5));
            }
            latencies
        });
        pinging.join().unwrap();
        joining.join().unwrap();
        over.store(true, Release);
        let mut latencies = watching.join().unwrap();
        latencies.sort();
        latencies
    });
    // One in ten may meet a machine that is busy with something else.
    let (most, slowest) = (latencies[latencies.len() * 9 / 10], latencies[latencies.len() - 1]);
    println!("{} pongs of others, nine in ten within {most:?}, slowest {slowest:?}", latencies.len());
    assert!(most < Duration::from_millis(500), "{most:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert!(server.is_alive());
    assert_eq!(server.connections(&SHOP), 6);
    let channels = SHOP.get(server.address, "channels", &[("info", "subscription_count")]).json();
    assert_eq!(channels, json!({ "channels": {} }));
    flooders[1].subscribe(&SHOP, "room-1", None);
    let channels = SHOP.get(server.address, "channels", &[("info", "subscription_count")]).json();
    assert_eq!(channels, json!({ "channels": { "room-1": { "subscription_count": 1 } } }));
}

/// Sends all messages as fast as the socket takes them, reading what comes back, then waits until the last is answered.
fn flood(client: &mut Client, messages: usize, text: impl Fn(usize) -> String + Sync) {
    let mut answers = client.stream.try_clone().unwrap();
    let answered = thread::scope(|scope| {
        let reading = scope.spawn(|| {
            answers.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut all = Vec::new();
            let mut buffer = vec![0; 64 << 10];
            // The last message is the only one that is refused.
            while !all.ends_with(b"format\"}}") {
                let count = answers.read(&mut buffer).unwrap();
                assert_ne!(count, 0, "a flooder was cut");
                all.extend_from_slice(&buffer[..count]);
                let keep = all.len().saturating_sub(64);
                all.drain(..keep);
            }
            true
        });
        for number in 0..messages {
            client.send_text(&text(number));
        }
        client.send_text("the last");
        reading.join().unwrap()
    });
    assert!(answered);
}
