//! The stream of a webhook: what waits in Redis to be sent, and who sends it.
//!
//! What stands where is in `keys.rs`, under `HOOK`. The stream's group is `soundpost`, with one consumer: who sends is decided by
//! the lease, and what another has read and not settled is found as if this node had read it.
//!
//! An entry has the fields `k` (kind), `c` (channel), `j` (JSON of the event), and `i` (id) if a node has named it; else its
//! id is made of those of app, webhook and entry.

mod entries;

use bytes::Bytes;
use soundpost_protocol::{
    app::AppId,
    presence::NodeId,
    webhook::{WebhookId, event::Encoded},
};

pub use self::entries::{Entries, Entry};
use super::{
    Redis,
    keys::{self, WebhookKeys},
    scripts::Script,
    wire::resp::Reply,
};
use crate::{adapter::Refused, webhook::target::Place};

/// So long a stream stays that nobody uses: that of a webhook that was removed everywhere.
const KEPT_MILLISECONDS: &str = "86400000";
/// What one webhook may have waiting, requests too: events, and bytes of their JSON.
pub const EVENTS_MAX: usize = 10_000;
/// See [`EVENTS_MAX`].
pub const BYTES_MAX: usize = 16 << 20;
/// So long a lease holds.
pub const LEASE: std::time::Duration = std::time::Duration::from_secs(6);
const LEASE_MILLISECONDS: &str = "6000";
/// Entries that are read at once, and about how many bytes: little enough that nothing else on the connection waits for it.
pub const READ_ENTRIES: usize = 96;
const READ_BYTES: &str = "262144";

/// One command, to the server that has its tag.
#[derive(Clone, Debug)]
pub struct Call {
    pub(super) tag: Bytes,
    pub(super) words: Vec<Bytes>,
}

/// Who has the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// Another node.
    Other,
    /// The asker, and since it held it last nobody else has.
    Own,
    /// The asker, after another node.
    After,
}

/// From behind which entry to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// What nobody has read.
    New,
    /// What was read before and is not settled, behind this place.
    Pending(Place),
}

/// Why an entry is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The receiver has taken or refused it, which is true whoever holds the lease now.
    Ended,
    /// This node has given it up, which counts only as long as it is the holder: another may just have begun.
    GivenUp,
    /// The same for want of room, so that it is counted as lost in the act that takes it out.
    PushedOut,
}

/// What is said about one stream.
#[derive(Clone, Debug)]
pub struct Stream {
    redis: Redis,
    /// Who tells the events that no node has named.
    teller: NodeId,
    life: Bytes,
    keys: WebhookKeys,
}

impl Redis {
    /// The stream of a webhook, for the node that says `life` of itself.
    pub fn stream(&self, app: &AppId, webhook: WebhookId, life: NodeId) -> Stream {
        let keys = self.0.names.webhook(app, webhook);
        Stream { redis: self.clone(), teller: webhook.teller(app), life: keys::hex(life).into(), keys }
    }

    fn script(&self, script: Script, tag: &Bytes, keys: &[&Bytes], arguments: Vec<Bytes>) -> Call {
        let digest = self.0.digests.get().map(|digests| digests.of(script).to_vec());
        let mut words = Vec::with_capacity(3 + keys.len() + arguments.len());
        words.extend([
            Bytes::from_static(b"EVALSHA"),
            digest.unwrap_or_default().into(),
            keys.len().to_string().into(),
        ]);
        words.extend(keys.iter().map(|key| (*key).clone()));
        words.extend(arguments);
        Call { tag: tag.clone(), words }
    }
}

impl Stream {
    /// Says some commands at once and gives their replies in the same order; an error that Redis replies is a reply. Never
    /// takes more than a second.
    ///
    /// Errors: [`Refused`]. After [`Refused::Unconfirmed`], and after [`Refused::Away`] too, they may have been carried out.
    pub async fn say(&self, calls: Vec<Call>) -> Result<Vec<Reply>, Refused> {
        self.redis.call(calls).await
    }

    /// Takes the lease or renews it; answered by [`Holding::of`].
    pub fn hold(&self) -> Call {
        let arguments = vec![
            self.life.clone(),
            Bytes::from_static(LEASE_MILLISECONDS.as_bytes()),
            Bytes::from_static(KEPT_MILLISECONDS.as_bytes()),
        ];
        self.redis.script(
            Script::Hold,
            &self.keys.tag,
            &[&self.keys.lease, &self.keys.fill, &self.keys.stream],
            arguments,
        )
    }

    /// Whether anybody holds the lease: answered with a number, 0 if nobody does.
    pub fn is_held(&self) -> Call {
        let words = vec![Bytes::from_static(b"EXISTS"), self.keys.lease.clone()];
        Call { tag: self.keys.tag.clone(), words }
    }

    /// Gives the lease up. `known`: as for [`Self::read`].
    pub fn let_go(&self, known: Option<u64>) -> Call {
        self.redis.script(
            Script::LetGo,
            &self.keys.tag,
            &[&self.keys.lease, &self.keys.fill],
            vec![self.life.clone(), number(known)],
        )
    }

    /// Reads on; answered by [`Entries`]. `known`: [`Entries::lost`] of the last answer that this node had as the holder.
    pub fn read(&self, from: From, known: Option<u64>) -> Call {
        let from = match from {
            From::New => Bytes::from_static(b">"),
            From::Pending(place) => place.to_string().into(),
        };
        let arguments = vec![
            self.life.clone(),
            from,
            READ_ENTRIES.to_string().into(),
            Bytes::from_static(READ_BYTES.as_bytes()),
            number(known),
        ];
        self.redis.script(
            Script::ReadStream,
            &self.keys.tag,
            &[&self.keys.lease, &self.keys.stream, &self.keys.fill],
            arguments,
        )
    }

    /// What a [`Self::read`] was answered; `None`: the lease is lost, or Redis has replied an error.
    pub fn entries(&self, reply: &Reply) -> Option<Entries> {
        Entries::of(reply, self.teller)
    }

    /// Takes entries out, each with the bytes of its JSON.
    pub fn settle(&self, places: &[(Place, usize)], why: Why) -> Call {
        let mut arguments = Vec::with_capacity(2 + 2 * places.len());
        arguments.push(if why == Why::Ended { Bytes::new() } else { self.life.clone() });
        arguments.push(Bytes::from_static(if why == Why::PushedOut { b"lost" } else { b"" }));
        for (place, bytes) in places {
            arguments.extend([place.to_string().into(), bytes.to_string().into()]);
        }
        self.redis.script(
            Script::Settle,
            &self.keys.tag,
            &[&self.keys.stream, &self.keys.fill, &self.keys.lease],
            arguments,
        )
    }

    /// Appends events; repeated, they have the same ids.
    pub fn add<'a>(&self, events: impl IntoIterator<Item = &'a Encoded>) -> Call {
        let mut arguments = vec![self.keys.base.clone()];
        for event in events {
            arguments.extend([
                Bytes::from_static(event.kind.word().as_bytes()),
                Bytes::copy_from_slice(event.channel.as_str().as_bytes()),
                event.json.clone(),
                event.id.to_string().into(),
            ]);
        }
        self.redis.script(Script::Add, &self.keys.tag, &[&self.keys.stream], arguments)
    }
}

/// A number as an argument; empty if there is none.
fn number(number: Option<u64>) -> Bytes {
    number.map(|number| number.to_string()).unwrap_or_default().into()
}

impl Holding {
    /// What a [`Stream::hold`] was answered; `None`: an error.
    pub const fn of(reply: &Reply) -> Option<Self> {
        let Reply::Integer(number) = reply else { return None };
        match number {
            0 => Some(Self::Other),
            1 => Some(Self::Own),
            2 => Some(Self::After),
            _ => None,
        }
    }
}
