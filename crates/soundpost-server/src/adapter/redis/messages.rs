//! Messages of this node, packed into the commands that publish them.

use std::io::Write;

use bytes::Bytes;
use soundpost_protocol::{
    app::AppId,
    cluster::{
        message::{Body, Message, Notice, REPLACE_BYTES_MAX},
        share::{Change, Entry},
    },
    presence::NodeId,
    webhook::event::Encoded,
};

use crate::{adapter::Broadcast, apps::UserKey};

/// How an event is kept.
pub(super) struct Kept<'a> {
    /// Of the script that does it.
    pub(super) digest: &'a [u8],
    /// Where.
    pub(super) name: Bytes,
    /// For how long.
    pub(super) milliseconds: u128,
}

/// What webhooks are told of an event in the same act in which it is published.
pub(super) struct Telling<'a> {
    /// Of the script that does it.
    pub(super) digest: &'a [u8],
    /// What they are told.
    pub(super) event: &'a Encoded,
    /// What the names of all that belongs to each of them begin with.
    pub(super) webhooks: &'a [Bytes],
}

/// What is done with an event beside publishing it.
pub(super) enum Beside<'a> {
    Nothing,
    Keep(Kept<'a>),
    Tell(Telling<'a>),
}

impl Beside<'_> {
    /// About how many bytes of the command it takes.
    fn bytes(&self) -> usize {
        const EACH: usize = 24;
        match self {
            Self::Nothing => 0,
            Self::Keep(kept) => kept.name.len() + 120,
            Self::Tell(Telling { event, webhooks, .. }) => {
                let names: usize = webhooks.iter().map(|base| base.len() + EACH).sum();
                names + event.json.len() + event.channel.as_str().len() + 200
            }
        }
    }

    /// What stands before the message.
    fn begin(&self, out: &mut Vec<u8>, topic: &[u8], is_sharded: bool) {
        match self {
            Self::Nothing => out.extend_from_slice(verb(is_sharded)),
            Self::Keep(kept) => {
                out.extend_from_slice(b"*7\r\n$7\r\nEVALSHA\r\n");
                push(out, kept.digest);
                push(out, b"2");
                push(out, &kept.name);
            }
            Self::Tell(telling) => {
                let words = 9 + telling.webhooks.len();
                // Writing to memory does not fail.
                drop(write!(out, "*{words}\r\n$7\r\nEVALSHA\r\n"));
                push(out, telling.digest);
                push(out, b"1");
            }
        }
        push(out, topic);
    }

    /// What stands behind it.
    fn end(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nothing => {}
            Self::Keep(kept) => push(out, kept.milliseconds.max(1).to_string().as_bytes()),
            Self::Tell(Telling { event, webhooks, .. }) => {
                push(out, event.kind.word().as_bytes());
                push(out, event.channel.as_str().as_bytes());
                push(out, &event.json);
                push(out, event.id.to_string().as_bytes());
                webhooks.iter().for_each(|base| push(out, base));
            }
        }
    }
}

/// Puts a text into a command.
fn push(out: &mut Vec<u8>, text: &[u8]) {
    begin(out, text.len());
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

fn begin(out: &mut Vec<u8>, bytes: usize) {
    // Writing to memory does not fail.
    drop(write!(out, "${bytes}\r\n"));
}

const fn verb(is_sharded: bool) -> &'static [u8] {
    if is_sharded { b"*3\r\n$8\r\nSPUBLISH\r\n" } else { b"*3\r\n$7\r\nPUBLISH\r\n" }
}

/// The command that publishes an event, and where in it the message stands. Life and number are left for later.
pub(super) fn event(
    app: &AppId,
    broadcast: &Broadcast,
    topic: &[u8],
    beside: &Beside<'_>,
    is_sharded: bool,
) -> (Vec<u8>, usize) {
    let Broadcast { frame, exclude, keep, .. } = broadcast;
    let frame = &frame.bytes()[..];
    let keep = keep.as_ref().map(|keep| u32::try_from(keep.data_bytes).unwrap_or(u32::MAX));
    let bytes = Message::event_bytes(app.as_str(), exclude.is_some(), keep.is_some(), frame.len());
    let mut out = Vec::with_capacity(96 + topic.len() + beside.bytes() + bytes);
    beside.begin(&mut out, topic, is_sharded);
    begin(&mut out, bytes);
    let message_at = out.len();
    let body = Body::Event { exclude: *exclude, keep, frame };
    Message { app: app.as_str(), life: NodeId(0), sequence: 0, body }.push(&mut out);
    debug_assert_eq!(out.len() - message_at, bytes, "as announced");
    out.extend_from_slice(b"\r\n");
    beside.end(&mut out);
    (out, message_at)
}

/// The command that publishes a message.
pub(super) fn publish_command(topic: &[u8], message: &[u8], is_sharded: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + topic.len() + message.len());
    out.extend_from_slice(verb(is_sharded));
    push(&mut out, topic);
    push(&mut out, message);
    out
}

/// A user's connections end.
pub(super) fn terminate(app: &AppId, life: NodeId, user: &UserKey, present: bool) -> Vec<u8> {
    let body = Body::Terminate { user_id: user.id.clone(), present };
    Message { app: app.as_str(), life, sequence: 0, body }.encode()
}

/// A share has changed.
pub(super) fn change(app: &AppId, life: NodeId, sequence: u64, follows: u64, change: Change) -> Vec<u8> {
    let body = Body::Notice(Notice::Change { follows, change });
    Message { app: app.as_str(), life, sequence, body }.encode()
}

/// A share was replaced. With too many entries, others read them from the store.
pub(super) fn replace(
    app: &AppId,
    life: NodeId,
    sequence: u64,
    predecessors: &[NodeId],
    entries: &[Entry],
    count: u32,
) -> Vec<u8> {
    let message = |entries| {
        let body = Body::Notice(Notice::Replace { predecessors: predecessors.to_vec(), count, entries });
        Message { app: app.as_str(), life, sequence, body }.encode()
    };
    let whole = message(Some(entries.to_vec()));
    if whole.len() <= REPLACE_BYTES_MAX { whole } else { message(None) }
}

/// The share of a life was taken away.
pub(super) fn gone(life: NodeId, dead: NodeId) -> Vec<u8> {
    Message { app: "", life, sequence: 0, body: Body::Notice(Notice::Gone(dead)) }.encode()
}

/// The node is alive.
pub(super) fn heartbeat(life: NodeId, beat: u64, apps: &[(&str, u32)]) -> Vec<u8> {
    Message { app: "", life, sequence: beat, body: Body::Heartbeat(apps.to_vec()) }.encode()
}

/// The node has left.
pub(super) fn farewell(life: NodeId) -> Vec<u8> {
    Message { app: "", life, sequence: 0, body: Body::Farewell }.encode()
}
