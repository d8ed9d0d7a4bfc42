//! An async client of the Pusher protocol for our own tools and tests: connect, subscribe, listen, publish.
//!
//! [`Connection`] is a bare WebSocket that carries events; [`Client`] is one that has been greeted and signs its own
//! subscriptions; [`Publisher`] is the signed HTTP API. It knows no TLS and never reconnects: what happens on the wire
//! is for its user to see. Every wait has a deadline and every message a bound, both in [`Options`].

mod client;
mod connection;
mod error;
mod event;
mod publisher;
mod target;

pub use client::Client;
pub use connection::{Connection, Options};
pub use error::ClientError;
pub use event::Event;
pub use publisher::Publisher;
