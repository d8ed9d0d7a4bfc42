//! Webhooks: from what happens on a channel to the app that wants to be told.
//!
//! What happens is noted by workers in one [`Inbox`], which costs them a lock and an encoded event at most; everything
//! else is done on the main thread, never on a worker: a [`target`] for each webhook keeps what it is still to be sent,
//! and a [`carrier`] sends it. The [`engine`] is what turns the one into the other.

pub mod carrier;
pub mod engine;
pub mod http;
mod inbox;
pub mod laravel;
pub mod metrics;
pub mod stream;
pub mod target;
pub mod trial;

pub use engine::Engine;
pub use inbox::{Happening, Inbox, Noted, What};
pub use metrics::{Meters, WebhookMetrics};
