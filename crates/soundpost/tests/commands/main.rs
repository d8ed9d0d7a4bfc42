//! The commands that end by themselves, as a person or a script sees them: output, exit code, files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do: loudly and at once"
)]

#[path = "../../../soundpost-server/tests/webhooks/authority.rs"]
#[allow(dead_code, reason = "shared with the tests of the server")]
mod authority;
mod check;
mod import;
#[path = "../../../soundpost-server/tests/support/receiver.rs"]
mod receiver;
#[path = "../../../soundpost-server/tests/support/redis/mod.rs"]
#[allow(unused_imports, reason = "shared with the tests of the server")]
mod redis;
mod run;
mod webhook_test;
