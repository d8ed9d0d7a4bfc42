//! What Redis answers, as what channels hear.

use std::time::Instant;

use soundpost_protocol::{
    cluster::{
        channel::Answer,
        lives::Lives,
        message::{Body, Message},
        share::{Entry, Share},
    },
    presence::NodeId,
    websocket::Frame,
};

use super::{keys, wire::resp::Reply};
use crate::adapter::KeptFrame;

/// A share as it stands in Redis.
#[derive(Debug)]
pub(super) struct Stored {
    /// The number of its last change.
    pub(super) sequence: u64,
    /// Its connections, where there are members.
    pub(super) entries: Vec<Entry>,
    /// How many connections there are.
    pub(super) count: u32,
}

/// What an answer of a script begins with.
pub(super) fn word(reply: &Reply) -> &[u8] {
    match items(reply).first() {
        Some(Reply::Bulk(word) | Reply::Simple(word)) => word,
        Some(Reply::Error(_) | Reply::Integer(_) | Reply::Nil | Reply::Array(_)) | None => b"",
    }
}

/// The elements of an array; none of anything else.
pub(super) fn items(reply: &Reply) -> &[Reply] {
    if let Reply::Array(items) = reply { items } else { &[] }
}

/// The text of a reply; empty if it is none.
pub(super) fn text(reply: &Reply) -> &[u8] {
    if let Reply::Bulk(text) = reply { text } else { b"" }
}

/// A number, also where it is written as a text.
pub(super) fn number(reply: &Reply) -> Option<u64> {
    match reply {
        Reply::Integer(number) => u64::try_from(*number).ok(),
        Reply::Bulk(text) => str::from_utf8(text).ok()?.parse().ok(),
        Reply::Simple(_) | Reply::Error(_) | Reply::Nil | Reply::Array(_) => None,
    }
}

/// Reads a share. Entries that are none are counted in `malformed` and left out.
pub(super) fn share(reply: &Reply, malformed: &mut u64) -> Stored {
    let mut stored = Stored { sequence: 0, entries: Vec::new(), count: 0 };
    let mut count = None;
    for pair in items(reply).chunks_exact(2) {
        let [name, value] = pair else { continue };
        match text(name) {
            b"s" => {
                let digits = str::from_utf8(text(value)).unwrap_or_default();
                stored.sequence = u64::from_str_radix(digits, 16).unwrap_or(0);
            }
            b"c" => count = number(value).and_then(|count| u32::try_from(count).ok()),
            name => match Entry::read(name, text(value)) {
                Ok(entry) => stored.entries.push(entry),
                Err(_) => *malformed += 1,
            },
        }
    }
    stored.count = count.unwrap_or_else(|| u32::try_from(stored.entries.len()).unwrap_or(u32::MAX));
    stored
}

/// The lives that a list of lives and what belongs to each names.
pub(super) fn by_life(reply: &Reply) -> impl Iterator<Item = (NodeId, &Reply)> {
    items(reply).chunks_exact(2).filter_map(|pair| match pair {
        [life, what] => keys::life(text(life)).map(|life| (life, what)),
        _ => None,
    })
}

/// The lives that a list names.
fn lives(reply: &Reply) -> Vec<NodeId> {
    items(reply).iter().filter_map(|life| keys::life(text(life))).collect()
}

/// What is known of who is alive.
pub(super) struct Known<'a> {
    pub(super) own: NodeId,
    pub(super) lives: &'a mut Lives,
    pub(super) has_lease: &'a dyn Fn(NodeId) -> bool,
    pub(super) now: Instant,
}

impl Known<'_> {
    fn shares(&mut self, reply: &Reply, malformed: &mut u64) -> Vec<Share> {
        let mut shares = Vec::new();
        for (life, stored) in by_life(reply) {
            let stored = share(stored, malformed);
            if life != self.own {
                self.lives.find(life, self.now);
            }
            let may_live = life == self.own || self.lives.may_live(life, (self.has_lease)(life), self.now);
            let Stored { sequence, entries, count } = stored;
            // The own share stands in the list also where there is none.
            if sequence > 0 || count > 0 {
                shares.push(Share { life, sequence, entries, count, may_live });
            }
        }
        shares
    }

    /// What [`super::scripts::Script::Replace`] answers; `None`: not that.
    pub(super) fn replaced(
        &mut self,
        reply: &Reply,
        malformed: &mut u64,
    ) -> Option<(Answer, Option<KeptFrame>)> {
        let [_, _, shares, over, kept @ ..] = items(reply) else { return None };
        let shares = self.shares(shares, malformed);
        Some((Answer { shares, over: lives(over) }, kept_frame(kept)))
    }

    /// What [`super::scripts::Script::Read`] answers; `None`: not that.
    pub(super) fn read(&mut self, reply: &Reply, malformed: &mut u64) -> Option<(Answer, Option<KeptFrame>)> {
        let [shares, over, kept @ ..] = items(reply) else { return None };
        let shares = self.shares(shares, malformed);
        Some((Answer { shares, over: lives(over) }, kept_frame(kept)))
    }
}

/// The kept event, from the message and the milliseconds for which it is kept.
pub(super) fn kept_frame(replies: &[Reply]) -> Option<KeptFrame> {
    let [Reply::Bulk(message), milliseconds] = replies else { return None };
    let milliseconds = number(milliseconds)?;
    let Body::Event { keep: Some(data_bytes), frame, .. } = Message::decode(message).ok()?.body else {
        return None;
    };
    let frame = Frame::received(message.slice_ref(frame))?;
    Some(KeptFrame { frame, data_bytes: usize::try_from(data_bytes).ok()?, milliseconds })
}
