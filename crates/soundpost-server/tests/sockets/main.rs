//! The whole server over real sockets: what only a socket can show, as a client and as a publisher see it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail like tests"
)]

mod api;
mod bad_input;
mod client_events;
mod closing;
mod connect;
mod delivery;
mod drain;
mod isolation;
mod liveness;
mod metrics;
mod prefix;
mod presence;
mod proxies;
mod reload;
mod reload_storm;
mod slow_consumer;
mod start;
mod subscribe;
mod support;
mod tls;
mod tls_mistakes;
mod tls_strangers;
mod unix;
