//! Webhooks: from what happens on a channel to the app that wants to be told.
//!
//! What happens is noted by workers in one [`Inbox`], which costs them a lock and an encoded event at most; everything
//! else is done on the main thread, never on a worker.

mod inbox;

pub use inbox::{Happening, Inbox, What};
