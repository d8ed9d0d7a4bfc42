//! What channels ask for, as commands, and what each command is answered with.

use std::{cell::RefCell, collections::HashSet, iter, rc::Rc, time::Instant};

use bytes::Bytes;
use soundpost_protocol::{
    cluster::{
        channel::{Confirmed, Effect, KnownUser},
        share::{Change, field},
    },
    presence::NodeId,
};

use super::{
    holding::Carrying,
    keys, messages,
    outbox::Publish,
    query::Gathering,
    scripts::{MARKER_MILLISECONDS, Script, TOMBSTONE_MILLISECONDS},
    session::Session,
};
use crate::adapter::{Ask, Subject};

/// A command that was written and is not answered.
#[derive(Debug)]
pub(super) struct Flight {
    /// When it was written.
    pub(super) sent_at: Instant,
    /// Its bytes.
    pub(super) bytes: usize,
    /// What the answer is for.
    pub(super) expect: Expect,
}

/// What an answer is for.
#[derive(Debug)]
pub(super) enum Expect {
    /// An event, or another message, that was to be published.
    Publish(Box<Publish>),
    /// A change of the own share.
    Change(Asked),
    /// All shares, after the own one was replaced.
    Replaced(Asked),
    /// All shares.
    Read(Asked),
    /// The lease of this life was renewed, which was asked for then.
    Beat(NodeId, Instant),
    /// Whether a life has a lease.
    Lease(NodeId),
    /// Somebody outside asks; the how-maniest of what was asked.
    Query(Rc<RefCell<Gathering>>, usize),
    /// The tags of the own index; those beside these are stale.
    Index(HashSet<Bytes>),
    /// A tag stands in the index of this life.
    Indexed(Bytes, NodeId),
    /// Some tags of the index of a life that is over.
    Tags(NodeId),
    /// The share of such a life under this tag was taken away.
    Reaped(NodeId, Bytes),
    /// The tag stands in the own index, and that of the other life may forget it.
    TakenOver(NodeId, Bytes),
    /// What was held under this tag and was due is told.
    Finished(Bytes),
    /// Events were put into the stream of a webhook.
    Carried(Rc<RefCell<Carrying>>),
    /// Nothing follows from it.
    Nothing,
}

/// What a channel has asked.
#[derive(Debug)]
pub(super) struct Asked {
    /// Which.
    pub(super) subject: Subject,
    /// Its tag.
    pub(super) tag: Bytes,
    /// The life that asked.
    pub(super) life: NodeId,
    /// The number of the change, or the ticket.
    pub(super) sequence: u64,
}

/// A number of a change, as scripts compare it: as a text.
pub(super) fn digits(sequence: u64) -> String {
    format!("{sequence:016x}")
}

impl Session<'_> {
    /// Carries out what a channel asks.
    pub(super) fn ask(&mut self, ask: Ask) {
        let Some(tag) = self.tag(&ask.subject) else { return };
        // Of a life that is over nothing is wanted any more: its channels ask again under the new one. But a topic that
        // was given up stays given up.
        if ask.life != self.node.life && ask.effect != Effect::Unsubscribe {
            return;
        }
        let Some(Ask { subject, life, effect, is_silent }) = self.name_in_index(&tag, ask) else { return };
        let asked = |subject, tag, sequence| Asked { subject, tag, life, sequence };
        match effect {
            Effect::Subscribe { ticket } => self.subscribe(subject, &tag, ticket),
            Effect::Unsubscribe => self.unsubscribe(&tag),
            Effect::Change { sequence, follows, change } => {
                self.change(asked(subject, tag, sequence), follows, &change, is_silent);
            }
            Effect::Replace { sequence, predecessors, entries, count, confirmed, known } => {
                let asked = asked(subject, tag, sequence);
                self.replace(asked, [&predecessors, &known], &entries, count, confirmed.as_ref());
            }
            Effect::Read { ticket, known } => self.read(asked(subject, tag, ticket), &known),
            Effect::Enter { .. }
            | Effect::Refuse { .. }
            | Effect::Tell(_)
            | Effect::Count(_)
            | Effect::Keep
            | Effect::Renew(_) => debug_assert!(false, "delivery carries these out"),
        }
    }

    fn subscribe(&mut self, subject: Subject, tag: &Bytes, ticket: u64) {
        let topic = self.shared.names.topic(tag);
        let verb: &[u8] = if self.is_sharded { b"SSUBSCRIBE" } else { b"SUBSCRIBE" };
        self.master(tag).topics.command(&[verb, &topic]);
        self.topics.subscribe(topic, subject, ticket);
    }

    fn unsubscribe(&mut self, tag: &Bytes) {
        let topic = self.shared.names.topic(tag);
        let verb: &[u8] = if self.is_sharded { b"SUNSUBSCRIBE" } else { b"UNSUBSCRIBE" };
        self.master(tag).topics.command(&[verb, &topic]);
        self.topics.unsubscribe(&topic);
    }

    fn change(&mut self, asked: Asked, follows: u64, change: &Change, is_silent: bool) {
        let Asked { tag, life, sequence, .. } = &asked;
        let (life, sequence) = (*life, *sequence);
        let (verb, field, value): (&[u8], Vec<u8>, Vec<u8>) = match change {
            Change::Join(entry) | Change::Describe(entry) => {
                (b"set", field(entry.socket_id).into(), entry.value())
            }
            Change::Leave { socket_id, .. } => (b"del", field(*socket_id).into(), Vec::new()),
            Change::Count(count) => (b"count", Vec::new(), count.to_string().into()),
        };
        let message = match (is_silent, self.app_of(&asked.subject)) {
            (false, Some(app)) => messages::change(&app, life, sequence, follows, change.clone()),
            (true, _) | (_, None) => Vec::new(),
        };
        let names = &self.shared.names;
        let (share, sharers) = (names.share(tag, life), names.sharers(tag));
        let (tombstone, topic) = (names.tombstone(tag, life), names.topic(tag));
        let (users, base, wants) = (names.users(tag), names.base(tag), self.wants(&asked.subject));
        let (hex, sequence, follows) = (keys::hex(life), digits(sequence), digits(follows));
        let arguments = [
            hex.as_bytes(),
            sequence.as_bytes(),
            follows.as_bytes(),
            verb,
            &field,
            &value,
            &message,
            MARKER_MILLISECONDS.as_bytes(),
            &base,
            &wants,
        ];
        let tag = tag.clone();
        self.script(
            &tag,
            Script::Change,
            &[&share, &sharers, &tombstone, &topic, &users],
            &arguments,
            Expect::Change(asked),
        );
    }

    fn replace(
        &mut self,
        asked: Asked,
        [predecessors, known]: [&[NodeId]; 2],
        entries: &[soundpost_protocol::cluster::share::Entry],
        count: u32,
        confirmed: Option<&Confirmed>,
    ) {
        let Asked { tag, life, sequence, .. } = &asked;
        let Some(app) = self.app_of(&asked.subject) else { return };
        let message = messages::replace(&app, *life, *sequence, predecessors, entries, count);
        let names = &self.shared.names;
        let (share, sharers) = (names.share(tag, *life), names.sharers(tag));
        let (tombstone, topic) = (names.tombstone(tag, *life), names.topic(tag));
        let (users, base, wants) = (names.users(tag), names.base(tag), self.wants(&asked.subject));
        let mut keys: Vec<&[u8]> = vec![&share, &sharers, &tombstone, &topic, &users];
        let kept = is_cache(&asked.subject).then(|| names.kept(tag));
        keys.extend(kept.as_deref());
        let (hex, sequence) = (keys::hex(*life), digits(*sequence));
        let count = if has_members(&asked.subject) { String::new() } else { count.to_string() };
        // Another node may have taken away what they held so long ago that nothing tells of it any more.
        let confirmed = confirmed.filter(|_| !predecessors.iter().any(|life| self.node.is_long_gone(*life)));
        let (known_before, count_before) = confirmed.map(before).unwrap_or_default();
        let gone = confirmed.map_or(&[][..], |confirmed| &confirmed.gone);
        let lengths = [predecessors.len(), known.len(), gone.len()].map(|length| length.to_string());
        let mut arguments: Vec<&[u8]> = vec![
            hex.as_bytes(),
            sequence.as_bytes(),
            &message,
            MARKER_MILLISECONDS.as_bytes(),
            TOMBSTONE_MILLISECONDS.as_bytes(),
            &base,
            &wants,
            known_before.as_bytes(),
            count_before.as_bytes(),
            count.as_bytes(),
        ];
        let lives: Vec<_> = predecessors.iter().chain(known).map(|life| keys::hex(*life)).collect();
        arguments.extend(lengths.iter().chain(&lives).map(String::as_bytes));
        arguments.extend(gone.iter().map(|user_id| user_id.as_str().as_bytes()));
        let entries: Vec<_> = entries.iter().map(|entry| (field(entry.socket_id), entry.value())).collect();
        arguments.extend(entries.iter().flat_map(|(field, value)| [&field[..], &value[..]]));
        let tag = tag.clone();
        self.script(&tag, Script::Replace, &keys, &arguments, Expect::Replaced(asked));
    }

    fn read(&mut self, asked: Asked, known: &[NodeId]) {
        let Asked { tag, life, .. } = &asked;
        let names = &self.shared.names;
        let (sharers, share, shares) = (names.sharers(tag), names.share(tag, *life), names.shares(tag));
        let kept = is_cache(&asked.subject).then(|| names.kept(tag));
        let mut keys: Vec<&[u8]> = vec![&sharers, &share];
        keys.extend(kept.as_deref());
        let (hex, tombstones, tag) = (keys::hex(*life), names.tombstones(tag), tag.clone());
        let known: Vec<_> = known.iter().map(|life| keys::hex(*life)).collect();
        let mut arguments: Vec<&[u8]> = vec![hex.as_bytes(), &shares, &tombstones];
        arguments.extend(known.iter().map(String::as_bytes));
        self.script(&tag, Script::Read, &keys, &arguments, Expect::Read(asked));
    }

    /// Writes a script with its keys and arguments.
    pub(super) fn script(
        &mut self,
        tag: &[u8],
        script: Script,
        keys: &[&[u8]],
        arguments: &[&[u8]],
        expect: Expect,
    ) {
        let count = keys.len().to_string();
        let digest = self.digests.of(script).to_vec();
        let mut words: Vec<&[u8]> = Vec::with_capacity(3 + keys.len() + arguments.len());
        words.extend_from_slice(&[b"EVALSHA", &digest, count.as_bytes()]);
        words.extend_from_slice(keys);
        words.extend_from_slice(arguments);
        self.send(tag, &words, expect);
    }

    /// Writes a command about what has this tag.
    pub(super) fn send(&mut self, tag: &[u8], words: &[&[u8]], expect: Expect) {
        let bytes = words.iter().map(|word| word.len()).sum();
        let sent_at = self.now;
        self.in_flight.add(&expect, bytes);
        let master = self.master(tag);
        master.commands.command(words);
        master.flights.push_back(Flight { sent_at, bytes, expect });
    }
}

/// What was known before an outage, as the script takes it, and how many connections there were.
fn before(confirmed: &Confirmed) -> (String, String) {
    let users = confirmed.users.iter().map(|known| match known {
        KnownUser::No => '0',
        KnownUser::Elsewhere => '1',
        KnownUser::Here => '2',
    });
    let channel = match (confirmed.is_occupied, confirmed.was_here) {
        (true, _) => '1',
        (false, true) => '2',
        (false, false) => '0',
    };
    (iter::once(channel).chain(users).collect(), confirmed.count.to_string())
}

/// Whether an event of it is kept for newcomers.
pub(super) fn is_cache(subject: &Subject) -> bool {
    matches!(subject, Subject::Channel(key) if key.name.kind().is_cache())
}

/// Whether its shares list connections, rather than count them.
pub(super) fn has_members(subject: &Subject) -> bool {
    match subject {
        Subject::Channel(key) => key.name.kind().is_presence(),
        Subject::User(_) => true,
    }
}
