//! What apps are told by webhooks: the exact bodies, who wants which event, and in which order and how often each is sent.
//!
//! A [`Webhook`] is what was configured. An [`event::Event`] is written once, as an [`event::Encoded`], and shared by all who want it. [`hold::Holds`] keeps back
//! what the reload of a page would take back. A [`target::Target`] says what one webhook wants; a [`queue::Queue`] of its own
//! decides what is sent to it when. [`signature`] is what the Pusher SDKs verify; [`laravel_queue`] says the same to a
//! Laravel worker instead.
//!
//! Source: Pusher docs, "Webhooks". Knows nothing of HTTP clients, of Redis, of clocks: whoever sends does.

mod definition;
pub mod event;
pub mod hold;
pub mod laravel_queue;
pub mod queue;
pub mod signature;
pub mod target;

pub use definition::{Carrier, HttpTarget, LaravelQueue, Webhook, WebhookId};
