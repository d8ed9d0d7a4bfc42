//! Client events: which are let through, and what is said of them.

use std::time::Instant;

use super::{Connection, Effect};
use crate::{
    app::{ClientEvents, JSON_DEPTH_MAX},
    channel::{ChannelKind, ChannelName},
    client_frame::ClientEvent,
    close::Refusal,
    json,
    presence::UserId,
    rate::Bucket,
    server_frame,
    socket_id::SocketId,
    webhook::event::{Event, EventKind},
};

/// A client event as its sender wrote it, for webhooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayedEvent {
    event: Box<str>,
    /// JSON text.
    data: Option<Box<str>>,
    socket_id: SocketId,
    user_id: Option<UserId>,
}

impl RelayedEvent {
    /// What webhooks tell of it.
    pub fn event(&self) -> Event<'_> {
        let Self { event, data, socket_id, user_id } = self;
        let (data, user_id) = (data.as_deref(), user_id.as_ref());
        Event::ClientEvent { event, data, socket_id: *socket_id, user_id }
    }
}

impl Connection {
    /// A client event that [`Effect::Relay`] asked to deliver was refused because the server is too busy.
    pub fn relay_failed(&self, channel: &ChannelName, effects: &mut Vec<Effect>) {
        let refusal = Refusal::ClientEvent("The server is busy, the event was not delivered");
        effects.push(Effect::Send(server_frame::refusal(&refusal, Some(channel.as_str()))));
    }

    /// The rules of client events, in the order of the Pusher docs, "Client events".
    pub(super) fn relay(
        &mut self,
        now: Instant,
        event: &ClientEvent<'_>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        if self.app.client_events == ClientEvents::None {
            return Err(Refusal::ClientEventsOff);
        }
        let limits = &self.app.limits;
        if event.event.chars().count() > limits.event_name_chars_max {
            return Err(Refusal::ClientEvent("The event name is too long (event_name_chars_max)"));
        }
        let channel = ChannelName::parse(&event.channel, limits)
            .map_err(|_| Refusal::ClientEvent("The channel name is not valid"))?;
        let kind = channel.kind();
        let on_public = self.app.client_events_on_public && kind != ChannelKind::ServerToUser;
        if !(kind.takes_client_events() || on_public) {
            return Err(Refusal::ClientEvent(
                "Client events are only supported on private and presence channels",
            ));
        }
        let held = self.find(&channel).ok().and_then(|at| self.subscriptions.get(at));
        if held.is_none() && self.app.client_events != ClientEvents::All {
            return Err(Refusal::Unauthorized);
        }
        if event.data.is_some_and(|data| json::is_deeper_than(data, JSON_DEPTH_MAX)) {
            return Err(Refusal::ClientEvent("The event data is nested too deeply"));
        }
        let user_id = held.and_then(|held| held.member.as_ref()).map(|member| member.user_id.clone());
        if let Some(per_second) = self.app.client_events_per_second {
            let rates = self.rates.get_or_insert_default();
            let bucket = rates.client_events.get_or_insert(Bucket::new(per_second, now));
            if !bucket.take(per_second, now) {
                return Err(Refusal::RateLimit);
            }
        }
        let frame = server_frame::client_event(&channel, &event.event, event.data, user_id.as_ref());
        let told = self.app.tells(EventKind::ClientEvent, &channel).then(|| {
            let data = event.data.map(Box::from);
            Box::new(RelayedEvent { event: (*event.event).into(), data, socket_id: self.socket_id, user_id })
        });
        effects.push(Effect::Relay { channel, frame, told });
        Ok(())
    }
}
