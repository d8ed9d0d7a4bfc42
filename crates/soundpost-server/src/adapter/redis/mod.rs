//! The adapter of a node that is one of several: Redis carries what they say to one another.

mod metrics;
pub mod wire;

pub use metrics::{Histogram, Published, RedisMetrics, Tally};
