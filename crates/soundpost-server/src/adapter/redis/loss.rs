//! The end of a connected stretch: what becomes of all that was on its way.

use std::{mem, time::Duration};

use soundpost_protocol::presence::NodeId;

use super::{
    Shared,
    commands::Expect,
    keys,
    lives::Here,
    outbox::{Done, Publish},
    session::Session,
};
use crate::{
    adapter::{Broadcast, Refused, Subject},
    config::OnOutage,
};

/// Topics of which it is remembered what was delivered on this node.
const TOPICS_MAX: usize = 65_536;
/// For how long: a server that hung may do what it was told before it did.
const REMEMBERED: Duration = Duration::from_secs(60);

impl Shared {
    /// Tells whoever waits for it.
    pub(super) fn complete(&self, done: Done, outcome: Result<(), Refused>) {
        if let Some((sender, channel)) = done.complete(outcome) {
            self.hearing.relay_failed(sender, &channel);
        }
    }
}

impl Session<'_> {
    /// Redis is away from now on. Publishes that nobody can confirm are delivered on this node, or refused; channels
    /// are told.
    pub(super) fn end(mut self) {
        self.shared.cluster.leave();
        self.node.lives.disconnect();
        let now = self.now;
        self.node.delivered_here.retain(|_, here| now.saturating_duration_since(here.at) < REMEMBERED);
        let mut flights: Vec<_> =
            self.servers.iter_mut().flat_map(|server| mem::take(&mut server.flights)).collect();
        // Of one server they are in order already.
        flights.sort_by_key(|flight| flight.sent_at);
        let mut publishes = Vec::new();
        for flight in flights {
            if let Expect::Publish(publish) = flight.expect {
                publishes.push(*publish);
            }
        }
        publishes.into_iter().for_each(|publish| self.unanswered(publish));
        // Who comes meanwhile stands behind those who came before.
        loop {
            let waiting = self.shared.outbox.close();
            if waiting.is_empty() {
                break;
            }
            waiting.into_iter().for_each(|publish| self.unwritten(publish));
        }
        self.shared.queries.close();
        self.shared.hearing.lost();
    }

    /// It was written; what became of it is not known.
    fn unanswered(&mut self, mut publish: Publish) {
        let done = mem::replace(&mut publish.done, Done::Nobody);
        let metrics = &self.shared.metrics;
        let topic = publish.broadcast.as_ref().and_then(|broadcast| self.topic(broadcast));
        let life = self.node.life;
        if let Some(topic) = &topic
            && self.topics.last(topic, life).is_some_and(|last| last >= publish.sequence)
        {
            metrics.accepted.add(1);
            return self.shared.complete(done, Ok(()));
        }
        if self.is_refused(&publish) {
            if !matches!(done, Done::Nobody) {
                metrics.unconfirmed.add(1);
            }
            return self.shared.complete(done, Err(Refused::Unconfirmed));
        }
        if let Some(topic) = topic {
            self.remember(topic, life, publish.sequence);
        }
        let outcome = self.here(publish.broadcast.as_deref());
        self.shared.complete(done, outcome);
    }

    /// Redis has never seen it.
    fn unwritten(&mut self, mut publish: Publish) {
        let done = mem::replace(&mut publish.done, Done::Nobody);
        if self.is_refused(&publish) {
            self.shared.metrics.withdrawn.add(1);
            return self.shared.complete(done, Err(self.shared.not_taken(&publish)));
        }
        let outcome = self.here(publish.broadcast.as_deref());
        self.shared.complete(done, outcome);
    }

    /// Whether it is not delivered on this node alone: nothing is, or it is no event.
    fn is_refused(&self, publish: &Publish) -> bool {
        self.shared.settings.on_outage == OnOutage::Refuse || publish.message_at.is_none()
    }

    /// Delivers on this node, unless that was done first thing.
    fn here(&self, broadcast: Option<&Broadcast>) -> Result<(), Refused> {
        let is_delivered = broadcast
            .is_none_or(|broadcast| self.shared.hearing.deliver_here(std::slice::from_ref(broadcast)));
        let metrics = &self.shared.metrics;
        let total = if is_delivered { &metrics.accepted } else { &metrics.refused };
        total.add(1);
        if is_delivered { Ok(()) } else { Err(Refused::Full) }
    }

    fn topic(&mut self, broadcast: &Broadcast) -> Option<bytes::Bytes> {
        let app = self.app_of(&Subject::Channel(std::sync::Arc::new(broadcast.key.clone())))?;
        Some(self.shared.names.topic(&keys::channel_tag(&app, broadcast.key.name.as_str())))
    }

    fn remember(&mut self, topic: bytes::Bytes, life: NodeId, sequence: u64) {
        let here = &mut self.node.delivered_here;
        if here.len() < TOPICS_MAX || here.contains_key(&topic) {
            here.insert(topic, Here { life, sequence, at: self.now });
        }
    }
}
