//! Redis for tests: real processes on free ports of 127.0.0.1, each in a folder of its own, gone with the value.
//!
//! To be used as `#[path = "../support/redis/mod.rs"] mod redis;`.

#![allow(dead_code, reason = "each suite uses a part of it")]

mod cluster;
#[path = "../ports.rs"]
mod ports;
mod process;
mod sentinel;

use std::time::{Duration, Instant};

use soundpost_server::config::{RedisAddress, RedisPassword, RedisSettings, RedisTls};

pub(crate) use self::{
    cluster::Cluster,
    ports::free_port,
    process::{Data, Listen, RedisServer},
    sentinel::Sentinel,
};

/// Whatever a test waits for must have happened by then, however busy the machine is with other things.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until it holds. What is waited for is in another process, which can only be asked again and again.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether what takes `time` takes less than `limit`, once in a few times: on a busy machine a single time says nothing,
/// and what is slow by itself always is.
pub(crate) fn is_within(limit: Duration, mut time: impl FnMut() -> Duration) -> bool {
    (0..8).any(|_| time() < limit)
}

/// An address of 127.0.0.1.
pub(crate) fn local(port: u16) -> RedisAddress {
    RedisAddress::Tcp("127.0.0.1".to_owned(), port)
}

/// With a password, and perhaps a user.
pub(crate) fn known_as(settings: RedisSettings, username: Option<&str>, password: &str) -> RedisSettings {
    let password = Some(RedisPassword::new(password));
    RedisSettings { username: username.map(str::to_owned), password, ..settings }
}

/// With TLS.
pub(crate) fn secured(settings: RedisSettings, tls: RedisTls) -> RedisSettings {
    RedisSettings { tls: Some(tls), ..settings }
}
