//! Webhooks over real sockets: requests as they are on the wire, receivers of every temper, and a whole node that tells them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail like tests"
)]

#[path = "../support/receiver.rs"]
mod receiver;

mod addresses;
mod answers;
mod authority;
mod ending;
mod hook;
mod node;
mod reload;
mod requests;
mod sending;
mod tls;
