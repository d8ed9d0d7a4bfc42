//! What apps are told by webhooks: the exact bodies, who wants which event, and in which order and how often each is sent.
//!
//! Source: Pusher docs, "Webhooks". Knows nothing of HTTP clients, of Redis, of clocks: whoever sends does.

pub mod event;
pub mod hold;
pub mod laravel_queue;
pub mod queue;
pub mod signature;
pub mod target;
