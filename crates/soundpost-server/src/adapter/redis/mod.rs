//! The adapter of several nodes: events and membership over Redis.

pub mod wire;
