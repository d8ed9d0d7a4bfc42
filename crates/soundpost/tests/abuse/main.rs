//! What strangers and bad luck do to a server: the real binary under exhaustion, abuse, forgery and silence.
//!
//! Each test starts its own server on a free port of loopback and ends it by its id. Every load has a bound in count
//! and time, and nothing sleeps for luck: conditions are awaited with deadlines.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do: loudly and at once"
)]

mod apps;
mod churn;
mod client;
mod descriptors;
mod floods;
mod http;
mod limits;
mod liveness;
mod random;
mod readers;
mod secrets;
mod server;
mod signatures;
mod slow;
mod smuggling;
mod stop;
mod tls;
