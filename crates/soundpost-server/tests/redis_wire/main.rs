//! Connecting to real Redis processes: every way in, and what is said where there is none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail like tests"
)]

mod cluster;
mod login;
#[path = "../support/redis/mod.rs"]
mod redis;
mod secure;
mod sentinel;
mod strange;

use soundpost_server::{
    adapter::redis::wire::{
        error::ConnectError,
        link::Link,
        resp::Reply,
        topology::{self, Master},
    },
    config::RedisSettings,
};

/// As the adapter's thread does it.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn connect(settings: &RedisSettings) -> Result<Vec<Master>, ConnectError> {
    topology::connect(settings).await
}

/// What is said where there is no way in. It is one line, and no secret is in it.
fn refusal(settings: &RedisSettings) -> String {
    let error = block_on(connect(settings)).unwrap_err().to_string();
    assert!(!error.contains('\n') && !error.contains("secret"), "{error}");
    error
}

/// Asks, in words without spaces.
async fn ask(link: &mut Link, command: &str) -> Reply {
    let words: Vec<_> = command.split(' ').map(str::as_bytes).collect();
    link.ask(&words).await.unwrap()
}

/// That both connections of the only master work together.
async fn try_out(masters: &mut [Master]) {
    let [master] = masters else { panic!("{} masters", masters.len()) };
    assert_eq!(master.slots, [0..=16_383]);
    assert_eq!(master.run_id.len(), 40);
    let topic = "soundpost:0:reverb:{a/b}:t";
    let reply = ask(&mut master.topics, &format!("SUBSCRIBE {topic}")).await;
    assert!(matches!(reply, Reply::Array(_)), "{reply:?}");
    assert_eq!(ask(&mut master.commands, &format!("PUBLISH {topic} hello")).await, Reply::Integer(1));
}
