//! Clients that send a byte now and then.

use std::{
    io::Write,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use crate::{
    client::Client,
    http::{self, SHOP, event},
    server::{Server, Setup, until},
};

/// The usual limit is 1,024, fewer than these tests open.
fn room_for_files() {
    let files = rlimit::increase_nofile_limit(4_096).unwrap();
    assert!(files >= 4_096, "the hard limit of open files is {files}; these tests need 4,096");
}

#[test]
fn heads_that_trickle_in_end_after_ten_seconds_and_hold_nobody_up() {
    let server = Server::start(&Setup::default());
    let mut reader = Client::connect(server.address, &SHOP);
    reader.subscribe(&SHOP, "news", None);
    let began_at = Instant::now();
    room_for_files();
    let mut slow: Vec<TcpStream> = (0..1_500).map(|_| http::connect(server.address)).collect();
    let text = b"GET /up HTTP/1.1\r\nHost: soundpost.test\r\nX-Slow: ";
    for stream in &mut slow {
        stream.write_all(text).unwrap();
    }
    let opened_after = began_at.elapsed();
    let mut slowest = Duration::ZERO;
    // One byte each, every half second, for as long as the server bears it.
    while began_at.elapsed() < Duration::from_secs(8) {
        for stream in &mut slow {
            stream.write_all(b"x").expect("no head is given up before its ten seconds are over");
        }
        let asked_at = Instant::now();
        assert_eq!(SHOP.trigger(server.address, "news", "tick", "x").status, 200);
        reader.event("tick");
        slowest = slowest.max(asked_at.elapsed());
        thread::sleep(Duration::from_millis(500));
    }
    for stream in &mut slow {
        assert_eq!(http::read_to_end(stream), "", "an answer to half a head");
    }
    let ended_after = began_at.elapsed();
    println!("opened in {opened_after:?}, all gone after {ended_after:?}, slowest neighbour {slowest:?}");
    assert!(ended_after > Duration::from_millis(9_900), "{ended_after:?}");
    assert!(ended_after < opened_after + Duration::from_secs(30), "{ended_after:?}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}

#[test]
fn bodies_that_trickle_in_hold_nobody_up() {
    let server = Server::start(&Setup::default());
    let mut reader = Client::connect(server.address, &SHOP);
    reader.subscribe(&SHOP, "news", None);
    let body = event("news", "slow", &"x".repeat(1000));
    room_for_files();
    let mut slow: Vec<(TcpStream, usize)> = (0..500)
        .map(|_| {
            let request = http::request("POST", &SHOP.target("POST", "events", &[], &body), &body);
            let mut stream = http::connect(server.address);
            let head = request.len() - body.len();
            stream.write_all(&request.as_bytes()[..head]).unwrap();
            (stream, 0)
        })
        .collect();
    for _ in 0..5 {
        for (stream, sent) in &mut slow {
            stream.write_all(&body.as_bytes()[*sent..=*sent]).unwrap();
            *sent += 1;
        }
        let asked_at = Instant::now();
        assert_eq!(SHOP.trigger(server.address, "news", "tick", "x").status, 200);
        reader.event("tick");
        // Behind those who are slow it would wait for ever: they go on after this.
        assert!(asked_at.elapsed() < Duration::from_secs(20), "{:?}", asked_at.elapsed());
    }
    // Who is slow and honest is served in the end.
    let (mut stream, sent) = slow.pop().unwrap();
    stream.write_all(&body.as_bytes()[sent..]).unwrap();
    assert_eq!(http::Reply::parse(&http::read_to_end(&mut stream)).status, 200);
    reader.event("slow");
    assert_eq!(server.metric(r#"soundpost_triggers_total{app="shop",result="accepted"}"#), 6);
}

#[test]
fn a_node_holds_256_mib_of_bodies_and_no_more() {
    const BODY_BYTES: usize = 64 << 20;
    let server = Server::start(&Setup { server: "request_bytes_max = 67108864", ..Setup::default() });
    let before = server.resident();
    let target = SHOP.target("POST", "events", &[], "not the body that comes");
    let head = format!("POST {target} HTTP/1.1\r\nHost: s\r\nContent-Length: {BODY_BYTES}\r\n\r\n");
    let body = vec![b'x'; BODY_BYTES - 1];
    // Four bodies that lack their last byte.
    let held: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = http::connect(server.address);
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
            stream
        })
        .collect();
    until("the node to be full", || SHOP.trigger(server.address, "news", "tick", "x").status == 503);
    let full = server.resident();
    println!("resident {} MiB before, {} MiB when full", before >> 20, full >> 20);
    assert!(full < before + (600 << 20), "{} MiB", full >> 20);
    // Questions have no body, and what needs no room is served.
    assert_eq!(SHOP.get(server.address, "channels", &[]).status, 200);
    Client::connect(server.address, &SHOP).ping();
    drop(held);
    until("room for bodies", || SHOP.trigger(server.address, "news", "tick", "x").status == 200);
    until("the memory to come back", || server.resident() < before + (64 << 20));
}
