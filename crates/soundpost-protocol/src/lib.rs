//! The Pusher Channels protocol (version 7) as values and functions: names, frames, signatures, the state machine of
//! one connection, presence rosters, the bodies of the HTTP API and the WebSocket frame codec.
//!
//! It refuses to know sockets, clocks, random numbers, the environment and every library that brings one: time and
//! ids come in as arguments, what is to be done goes out as values.

pub mod app;
pub mod auth;
pub mod channel;
pub mod close;
pub mod socket_id;
pub mod websocket;
