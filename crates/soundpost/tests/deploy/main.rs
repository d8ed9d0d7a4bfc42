//! The files in `deploy/`, and the lines in `docs/proxies.md` and `docs/migrating`: each checked by the program it is
//! written for, and the server run for real behind the files. And the links of all documents.
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
mod links;
mod metrics;
mod migrating;
mod nginx;
#[path = "../../../soundpost-server/tests/support/ports.rs"]
mod ports;
mod prometheus;
mod promql;
mod proxies;
mod server;
mod supervisor;
mod systemd;
mod tools;
