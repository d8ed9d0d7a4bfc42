//! The adapter of a node that is one of several: Redis carries what they say to one another.

mod metrics;
pub mod wire;

pub use metrics::{Fill, Level, RedisMetrics, Total};

/// Publishes that may wait to be written.
pub const PUBLISHES_MAX: usize = 65_536;
/// Their bytes.
pub const PUBLISH_BYTES_MAX: usize = 64 << 20;
