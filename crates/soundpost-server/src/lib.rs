//! The Soundpost server as a library: configuration in, a running server out.
//!
//! The rooms and what each may know of the others are mapped in `docs/architecture.md`.

mod accept;
pub mod adapter;
pub mod addresses;
pub mod admin;
pub mod api;
pub mod apps;
pub mod cache;
pub mod config;
pub mod delivery;
pub mod doorstep;
pub mod drain;
mod faults;
pub mod http;
mod listen;
pub mod memory;
pub mod metrics;
pub mod node;
mod process;
pub mod proxy;
pub mod reload;
pub mod seldom;
pub mod server;
pub mod socket;
pub mod tls;
pub mod webhook;
pub mod worker;
