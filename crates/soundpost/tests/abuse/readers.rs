//! Clients that read slowly, or not at all.

use std::{
    fs,
    io::Read,
    sync::atomic::{
        AtomicUsize,
        Ordering::{Acquire, Release},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    client::Client,
    http::{SHOP, event},
    server::{Server, Setup, until},
};

const EVENT_BYTES: usize = 100_000;

/// The data of an event: its number, then nothing of interest.
fn numbered(number: usize) -> String {
    let number = number.to_string();
    let rest = " ".repeat(EVENT_BYTES - number.len());
    number + &rest
}

/// The longest send queue of the kernel for any connection of the server, bytes.
fn send_queue_max(server: &Server) -> u64 {
    let port = format!(":{:04X}", server.address.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let queues = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (queue, _) = fields[4].split_once(':')?;
        fields[1].ends_with(&port).then(|| u64::from_str_radix(queue, 16).unwrap())
    });
    queues.max().unwrap_or(0)
}

/// Reads `count` events that are numbered in order.
fn read_all(client: &mut Client, count: usize, done: &AtomicUsize) {
    for number in 0..count {
        // Who is pinged in between was heard of for a long time; it answers.
        let event = client.event("tick");
        let data = event["data"].as_str().unwrap();
        assert_eq!(data.split(' ').next().unwrap(), number.to_string(), "lost or out of order");
        assert_eq!(data.len(), EVENT_BYTES);
        done.fetch_add(1, Release);
    }
}

#[test]
fn who_stops_reading_is_cut_and_who_reads_loses_nothing() {
    const EVENTS: usize = 200;
    let server = Server::start(&Setup::default());
    let mut healthy: Vec<Client> = (0..50).map(|_| Client::connect(server.address, &SHOP)).collect();
    let mut stalled: Vec<Client> = (0..50).map(|_| Client::connect(server.address, &SHOP)).collect();
    for client in healthy.iter_mut().chain(&mut stalled) {
        client.subscribe(&SHOP, "feed", None);
    }
    let before = server.resident();
    let counts: Vec<AtomicUsize> = healthy.iter().map(|_| AtomicUsize::new(0)).collect();
    let (mut queue_max, mut resident_max) = (0, 0);
    thread::scope(|scope| {
        for (client, done) in healthy.iter_mut().zip(&counts) {
            scope.spawn(move || read_all(client, EVENTS, done));
        }
        for number in 0..EVENTS {
            // A healthy reader is at most five events behind, a third of what may wait for it.
            until("healthy readers", || counts.iter().all(|count| count.load(Acquire) + 5 > number));
            assert_eq!(SHOP.trigger(server.address, "feed", "tick", &numbered(number)).status, 200);
            if number < 40 {
                queue_max = queue_max.max(send_queue_max(&server));
                resident_max = resident_max.max(server.resident());
            }
        }
    });
    until("the stalled to be cut", || server.closed(&SHOP, "slow_consumer") == 50);
    assert_eq!(server.connections(&SHOP), 50);
    until("empty queues", || server.metric("soundpost_queued_bytes") == 0);
    until("the memory to come back", || server.resident() < before + (16 << 20));
    println!(
        "kernel send queue at most {queue_max}, resident {} MiB before, {} MiB at most, {} MiB after",
        before >> 20,
        resident_max >> 20,
        server.resident() >> 20
    );
    // The kernel doubles `send_buffer_bytes`, and may exceed it by what it takes at once.
    assert!(queue_max > 0 && queue_max <= 4 * 65_536, "{queue_max}");
    for client in &mut healthy {
        client.ping();
    }
    // The cut see a reset or an end, not silence.
    for client in &mut stalled {
        client.ending();
    }
}

#[test]
fn who_reads_slowly_but_steadily_gets_a_burst_whole() {
    let server = Server::start(&Setup::default());
    let mut client = Client::connect(server.address, &SHOP);
    socket2::SockRef::from(&client.stream).set_recv_buffer_size(16 << 10).unwrap();
    client.subscribe(&SHOP, "feed", None);
    let items: Vec<_> = (0..10)
        .map(|number| json!({ "channel": "feed", "name": "tick", "data": numbered(number) }))
        .collect();
    assert_eq!(SHOP.post(server.address, "batch_events", &json!({ "batch": items }).to_string()).status, 200);
    assert_eq!(SHOP.post(server.address, "events", &event("feed", "tick", &numbered(10))).status, 200);
    // A megabyte a second, past the decoder, which would read ahead.
    let began_at = Instant::now();
    let mut raw = Vec::new();
    let mut buffer = vec![0; 10_000];
    while raw.len() < 11 * EVENT_BYTES {
        let due = Duration::from_micros(raw.len() as u64);
        thread::sleep(due.saturating_sub(began_at.elapsed()));
        let count = client.stream.read(&mut buffer).expect("not cut");
        assert_ne!(count, 0, "closed after {} bytes", raw.len());
        raw.extend_from_slice(&buffer[..count]);
    }
    let text = String::from_utf8_lossy(&raw);
    let numbers: Vec<&str> =
        text.split(r#""data":""#).skip(1).map(|data| data.split(' ').next().unwrap()).collect();
    assert_eq!(numbers, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
    println!("{} bytes in {:?}", raw.len(), began_at.elapsed());
    assert_eq!(server.closed(&SHOP, "slow_consumer"), 0);
}
