//! How Redis is reached and what is said on its connections: bytes, dialling, and who the masters are.
//!
//! Knows nothing of channels, events or scripts.

pub mod resp;
