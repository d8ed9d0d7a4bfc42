//! No file descriptors left.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    client::Client,
    http::{self, SHOP},
    server::{Server, Setup, until},
};

#[test]
fn out_of_descriptors_newcomers_hear_503_and_who_is_there_is_served() {
    let server = Server::start(&Setup { files_max: Some(64), ..Setup::default() });
    let mut inside = Vec::new();
    let refusal = loop {
        match Client::try_connect(server.address, &SHOP) {
            Ok(client) => inside.push(client),
            Err(reply) => break reply,
        }
        assert!(inside.len() < 64, "more connections than descriptors");
    };
    assert!(matches!(refusal.status, 0 | 503), "{refusal:?}");
    assert!(inside.len() >= 16, "only {} connections with 64 descriptors", inside.len());

    // A queue of newcomers knocks throughout, and each is answered.
    let (cpu_before, began_at) = (server.cpu(), Instant::now());
    let waiting: Vec<_> = (0..30).map(|_| http::connect(server.address)).collect();
    let mut answered = 0;
    for mut stream in waiting {
        let reply = http::Reply::parse(&http::read_to_end(&mut stream));
        assert!(matches!(reply.status, 0 | 503), "{reply:?}");
        answered += usize::from(reply.status == 503);
    }
    thread::sleep(Duration::from_secs(1).saturating_sub(began_at.elapsed()));
    let (cpu, elapsed) = (server.cpu() - cpu_before, began_at.elapsed());
    println!("{} inside, {answered} of 30 heard 503, CPU {cpu:?} in {elapsed:?}", inside.len());
    assert!(cpu * 5 < elapsed, "spinning: {cpu:?} of CPU in {elapsed:?}");
    assert!(answered > 0);

    for client in &mut inside {
        client.ping();
    }
    inside.truncate(inside.len() / 2);
    until("room for newcomers", || Client::try_connect(server.address, &SHOP).is_ok());
    for client in &mut inside {
        client.ping();
    }
}
