//! What comes on the topics.

use std::{hash::BuildHasher, sync::Arc};

use bytes::Bytes;
use soundpost_protocol::{
    cluster::message::{Body, Message},
    presence::{NodeId, UserId},
    socket_id::SocketId,
    websocket::Frame,
};

use super::{
    answers,
    session::{Lost, Session},
    topics::Number,
    wire::resp::Reply,
};
use crate::{
    adapter::{HeardEvent, Subject},
    apps::UserKey,
};

/// An event, out of its message.
struct Event<'a> {
    life: NodeId,
    sequence: u64,
    exclude: Option<SocketId>,
    keep: Option<u32>,
    frame: &'a [u8],
}

impl Session<'_> {
    /// Takes what has come, as long as the workers have room for it.
    pub(super) fn hear(&mut self) -> Result<(), Lost> {
        self.is_paused = false;
        for at in 0..self.servers.len() {
            loop {
                if !self.shared.hearing.has_room() {
                    self.is_paused = true;
                    return Ok(());
                }
                let Some(server) = self.servers.get_mut(at) else { break };
                let Some(reply) = server.topics.reply()? else { break };
                self.pushed(at, &reply)?;
            }
        }
        Ok(())
    }

    fn pushed(&mut self, at: usize, reply: &Reply) -> Result<(), Lost> {
        let name = match answers::items(reply) {
            [_, Reply::Bulk(name), ..] => name,
            // Before anything is subscribed to, a sign of life comes as a line.
            _ if matches!(reply, Reply::Simple(_)) => &Bytes::new(),
            _ => {
                return Err(if let Reply::Error(line) = reply { Lost::said(line) } else { Lost::Unexpected });
            }
        };
        match (answers::word(reply), answers::items(reply)) {
            (b"message" | b"smessage", [_, _, Reply::Bulk(message)]) => self.message(name, message),
            (b"subscribe" | b"ssubscribe", _) => {
                if let Some((subject, ticket)) = self.topics.acknowledged(name) {
                    self.shared.hearing.acknowledged(subject, ticket);
                }
            }
            // Nobody has asked for that: the slot has moved to another server.
            (b"sunsubscribe", _) if self.topics.is_settled(name) || *name == self.control => {
                return Err(Lost::Said("sunsubscribe".to_owned()));
            }
            (b"unsubscribe" | b"sunsubscribe", _) => {}
            _ => {
                if let Some(server) = self.servers.get_mut(at) {
                    server.pinged_at = None;
                }
            }
        }
        Ok(())
    }

    fn message(&mut self, name: &Bytes, bytes: &Bytes) {
        self.shared.metrics.received.add(1);
        let Ok(message) = Message::decode(bytes) else {
            return self.shared.malformed("a message is malformed", name);
        };
        let Message { app, life, sequence, body } = message;
        if matches!(body, Body::Unknown { .. }) {
            self.shared.metrics.unknown.add(1);
            return;
        }
        if *name == self.control {
            return self.controlled(app, life, sequence, body);
        }
        match body {
            Body::Event { exclude, keep, frame } => {
                self.event(name, bytes, &Event { life, sequence, exclude, keep, frame });
            }
            Body::Notice(notice) => {
                if let Some(subject) = self.topics.subject(name) {
                    self.shared.hearing.notice(subject, life, sequence, notice);
                }
            }
            Body::Heartbeat(_) | Body::Terminate { .. } | Body::Farewell | Body::Unknown { .. } => {
                self.shared.malformed("a message is not on its topic", name);
            }
        }
    }

    fn event(&mut self, name: &Bytes, bytes: &Bytes, event: &Event<'_>) {
        let Event { life, sequence, exclude, keep, frame } = *event;
        let Some((subject, number)) = self.topics.count(name, life, sequence) else { return };
        let metrics = &self.shared.metrics;
        match number {
            Number::Fine => {}
            Number::Gap(missing) => metrics.gaps.add(missing),
            Number::Duplicate => return metrics.duplicates.add(1),
        }
        let Subject::Channel(channel) = subject else {
            return self.shared.malformed("an event is not on the topic of a channel", name);
        };
        let channel = Arc::clone(channel);
        let Some(frame) = Frame::received(bytes.slice_ref(frame)) else {
            return self.shared.malformed("an event holds no frame", name);
        };
        let keep = keep.and_then(|bytes| usize::try_from(bytes).ok());
        if self.is_delivered(name, life, sequence) {
            if let Some(data_bytes) = keep {
                let is_newest = self.is_newest(name, life, sequence);
                self.shared.hearing.kept(&channel, &frame, data_bytes, is_newest);
            }
            return;
        }
        self.shared.hearing.event(&channel, HeardEvent { frame, exclude, keep });
    }

    /// Whether this node has delivered an event of its own before it came back.
    fn is_delivered(&self, name: &Bytes, life: NodeId, sequence: u64) -> bool {
        if self.shared.settings.local_first {
            return self.node.is_own(life);
        }
        let here = self.node.delivered_here.get(name);
        here.is_some_and(|here| here.life == life && sequence <= here.sequence)
    }

    /// Whether this node has published nothing on the topic after this event of its own.
    fn is_newest(&self, name: &Bytes, life: NodeId, sequence: u64) -> bool {
        let topic = self.shared.hasher.hash_one(name);
        // Those of an earlier life were before all of this one.
        let expected = (life == self.node.life).then_some(sequence);
        let is_last = self.node.numbers.last(topic) == expected;
        is_last && !self.shared.outbox.has_lately(topic)
    }

    fn controlled(&mut self, app: &str, life: NodeId, sequence: u64, body: Body<'_>) {
        match body {
            Body::Heartbeat(apps) => self.heard_beat(life, sequence, &apps),
            Body::Farewell => {
                // It holds nothing any more, but something may still be held for webhooks.
                if self.node.end(life, self.now) && !self.node.is_own(life) {
                    self.reap_life(life);
                }
            }
            Body::Terminate { user_id, present } => self.terminate(app, user_id, present),
            Body::Event { .. } | Body::Notice(_) | Body::Unknown { .. } => {
                let control = self.control.clone();
                self.shared.malformed("a message is not on its topic", &control);
            }
        }
    }

    fn terminate(&self, app: &str, id: UserId, present: bool) {
        if let Some(app) = self.shared.apps.by_id(app) {
            self.shared.hearing.terminate(&UserKey { app: app.index, id }, present);
        }
    }
}
