//! The Pusher Channels protocol (version 7) as values and functions: names, frames, signatures, the state machine of
//! one connection, presence rosters, how the nodes of a cluster agree on them, the bodies of the HTTP API, what apps are
//! told by webhooks, and the WebSocket frame codec.
//!
//! It refuses to know sockets, clocks, random numbers, the environment and every library that brings one: time and
//! ids come in as arguments, what is to be done goes out as values.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests may look at the clock"))]

pub mod api;
pub mod app;
pub mod auth;
pub mod channel;
pub mod client_frame;
pub mod close;
pub mod cluster;
pub mod connection;
pub mod json;
pub mod presence;
pub mod rate;
pub mod server_frame;
pub mod socket_id;
pub mod user;
pub mod webhook;
pub mod websocket;
