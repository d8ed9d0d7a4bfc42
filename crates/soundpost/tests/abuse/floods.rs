//! Clients that send as much as they can.

use std::{
    io::{Read, Write},
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
    http::{self, SHOP},
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
        let watching = scope.spawn(|| latencies(&mut others, &over));
        pinging.join().unwrap();
        joining.join().unwrap();
        over.store(true, Release);
        watching.join().unwrap()
    });
    check_turns(latencies);
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

/// That the others had their turn in between: nearly every pong came soon. The slowest of thousands tells how busy this
/// machine is with other things; who has no turn waits for all of the flood, every time.
fn check_turns(mut latencies: Vec<Duration>) {
    latencies.sort_unstable();
    let (count, slowest) = (latencies.len(), latencies.last().unwrap());
    let nearly_all = latencies[count * 9 / 10];
    println!("{count} pongs of others, nine of ten within {nearly_all:?}, slowest {slowest:?}");
    assert!(count >= 20 && nearly_all < Duration::from_millis(500), "{count} pongs, {nearly_all:?}");
}

/// How long pongs take until it is over.
fn latencies(clients: &mut [Client], over: &AtomicBool) -> Vec<Duration> {
    let mut all = Vec::new();
    while !over.load(Acquire) {
        all.extend(clients.iter_mut().map(Client::ping));
        thread::sleep(Duration::from_millis(5));
    }
    all
}

#[test]
fn a_publisher_that_pipelines_leaves_the_others_their_turn() {
    const REQUESTS: usize = 20_000;
    let server = Server::start(&Setup::default());
    let mut others: Vec<Client> = (0..4).map(|_| Client::connect(server.address, &SHOP)).collect();
    let request = format!("GET {} HTTP/1.1\r\nHost: s\r\n\r\n", SHOP.target("GET", "channels", &[], ""));
    let mut stream = http::connect(server.address);
    let mut answers = stream.try_clone().unwrap();
    let over = AtomicBool::new(false);
    let latencies = thread::scope(|scope| {
        let watching = scope.spawn(|| latencies(&mut others, &over));
        let reading = scope.spawn(|| http::read_to_end(&mut answers).matches("HTTP/1.1 200 OK").count());
        for _ in 0..REQUESTS / 100 {
            stream.write_all(request.repeat(100).as_bytes()).unwrap();
        }
        stream.write_all(request.replace("Host: s", "Connection: close").as_bytes()).unwrap();
        let answered = reading.join().unwrap();
        over.store(true, Release);
        assert_eq!(answered, REQUESTS + 1);
        watching.join().unwrap()
    });
    check_turns(latencies);
}
