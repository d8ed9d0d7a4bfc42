//! The one path from an accepted event to the inboxes of all workers that have subscribers: the HTTP API and client
//! events both end here, so the rule of `socket_id` exclusion is written once.

use std::sync::Arc;

use soundpost_protocol::{socket_id::SocketId, websocket::Frame};

use super::{ChannelKey, Delivery, Item, Wakes, inbox::Urgency};

/// The inbox of some worker is full; nothing was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server is busy, the event was not accepted; try again")]
pub struct Full;

impl Delivery {
    /// Hands the frame to every subscriber of the channel on this node but `exclude`, in one order for all of them.
    pub fn trigger(
        &self,
        key: &ChannelKey,
        frame: &Frame,
        exclude: Option<SocketId>,
        wakes: &mut Wakes<'_>,
    ) -> Result<(), Full> {
        let mut shard = self.directory.lock(key);
        let Some(channel) = shard.get_mut(key) else { return Ok(()) };
        let accepted = self.put_all(channel, frame, Urgency::Event, wakes, || Item::Event {
            channel: Arc::clone(&channel.key),
            frame: frame.clone(),
            exclude,
        });
        if accepted { Ok(()) } else { Err(Full) }
    }
}
