//! The files in `deploy/`, and the lines in `docs/proxies.md`: each checked by the program it is written for, and the
//! server run for real behind the files.
//!
//! A program that is missing fails its tests by name; `cargo xtask test` installs them all.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do: loudly and at once"
)]

mod caddy;
mod containers;
mod health;
mod metrics;
mod nginx;
mod prometheus;
mod promql;
mod proxies;
mod server;
mod supervisor;
mod systemd;
mod tools;
