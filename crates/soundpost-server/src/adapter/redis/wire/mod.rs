//! How Redis is reached and what is said on its connections: bytes, dialling, and who the masters are.
//!
//! Knows nothing of channels, events or scripts. Nothing in here takes a read for a whole reply.

pub mod dial;
pub mod error;
pub mod link;
pub mod place;
pub mod resp;
pub mod server;
pub mod slots;
pub mod topology;
