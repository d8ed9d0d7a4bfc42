//! A store that does what the adapter's scripts do, one command after the other, and the topics of its nodes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use soundpost_protocol::{
    cluster::{
        channel::{Answer, Effect},
        message::Notice,
        share::{Change, Entry, Share},
    },
    presence::NodeId,
    socket_id::SocketId,
};

use crate::{
    adapter::{Ask, HeardEvent, KeptFrame, Subject},
    apps::ChannelKey,
};

/// What comes to a node on the connection that hears topics.
#[derive(Clone, Debug)]
pub(super) enum Heard {
    Topic(Subject, u64),
    Notice(Subject, NodeId, u64, Notice),
    Event(Subject, HeardEvent),
}

/// What comes to a node on the connection that carries commands.
#[derive(Debug)]
pub(super) enum Reply {
    Done(Subject, u64),
    Refused(Subject, NodeId, u64, bool),
    Answer(Subject, u64, Answer, Option<KeptFrame>),
}

#[derive(Clone, Debug, Default)]
struct Stored {
    sequence: u64,
    entries: BTreeMap<SocketId, Entry>,
    count: u32,
}

/// What the store has of one channel.
#[derive(Debug, Default)]
pub(super) struct Topic {
    shares: BTreeMap<NodeId, Stored>,
    ended: BTreeSet<NodeId>,
    pub(super) kept: Option<KeptFrame>,
    /// The nodes that hear it.
    pub(super) heard_by: BTreeSet<usize>,
}

impl Topic {
    pub(super) fn connections(&self) -> u32 {
        self.shares.values().map(|share| share.count).sum()
    }
}

#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) topics: HashMap<Subject, Topic>,
    /// What was published and not heard yet, by node.
    pub(super) streams: [VecDeque<Heard>; 2],
    pub(super) published: usize,
}

impl Store {
    pub(super) fn topic(&mut self, key: &ChannelKey) -> &mut Topic {
        self.topics.entry(Subject::Channel(key.clone().into())).or_default()
    }

    pub(super) fn hears(&self, node: usize, key: &ChannelKey) -> bool {
        let subject = Subject::Channel(key.clone().into());
        self.topics.get(&subject).is_some_and(|topic| topic.heard_by.contains(&node))
    }

    fn publish(&mut self, subject: &Subject, heard: &Heard) {
        self.published += 1;
        let heard_by = &self.topics.entry(subject.clone()).or_default().heard_by;
        for (node, stream) in self.streams.iter_mut().enumerate() {
            if heard_by.contains(&node) {
                stream.push_back(heard.clone());
            }
        }
    }

    pub(super) fn publish_event(&mut self, key: &ChannelKey, event: HeardEvent) {
        let subject = Subject::Channel(key.clone().into());
        if let Some(data_bytes) = event.keep {
            let frame = event.frame.clone();
            self.topic(key).kept = Some(KeptFrame { frame, data_bytes, milliseconds: 60_000 });
        }
        self.publish(&subject, &Heard::Event(subject.clone(), event));
    }

    /// The node's connections are gone, and what was on its way to it.
    pub(super) fn disconnect(&mut self, node: usize) {
        self.streams[node].clear();
        for topic in self.topics.values_mut() {
            topic.heard_by.remove(&node);
        }
    }

    pub(super) fn execute(&mut self, node: usize, ask: Ask) -> Option<Reply> {
        let Ask { subject, life, effect, is_silent } = ask;
        let topic = self.topics.entry(subject.clone()).or_default();
        match effect {
            Effect::Subscribe { ticket } => {
                topic.heard_by.insert(node);
                self.streams[node].push_back(Heard::Topic(subject, ticket));
                None
            }
            Effect::Unsubscribe => {
                topic.heard_by.remove(&node);
                None
            }
            Effect::Read { ticket, known } => {
                Some(Reply::Answer(subject, ticket, topic.answer(life, known), topic.kept.clone()))
            }
            Effect::Change { sequence, follows, change } => {
                if let Err(is_over) = topic.change(life, sequence, follows, &change) {
                    return Some(Reply::Refused(subject, life, sequence, is_over));
                }
                if !is_silent {
                    let notice = Notice::Change { follows, change };
                    self.publish(&subject, &Heard::Notice(subject.clone(), life, sequence, notice));
                }
                Some(Reply::Done(subject, sequence))
            }
            Effect::Replace { sequence, predecessors, entries, count, known, .. } => {
                if topic.ended.contains(&life) {
                    return Some(Reply::Refused(subject, life, sequence, true));
                }
                topic.shares.remove(&life);
                for predecessor in &predecessors {
                    topic.shares.remove(predecessor);
                    topic.ended.insert(*predecessor);
                }
                let by_id = entries.iter().map(|entry| (entry.socket_id, entry.clone())).collect();
                topic.shares.insert(life, Stored { sequence, entries: by_id, count });
                let answer = topic.answer(life, known);
                let kept = topic.kept.clone();
                let notice = Notice::Replace { predecessors, count, entries: Some(entries) };
                self.publish(&subject, &Heard::Notice(subject.clone(), life, sequence, notice));
                Some(Reply::Answer(subject, sequence, answer, kept))
            }
            Effect::Enter { .. }
            | Effect::Refuse { .. }
            | Effect::Tell(_)
            | Effect::Count(_)
            | Effect::Keep
            | Effect::Renew(_) => panic!("delivery carries this out itself: {effect:?}"),
        }
    }
}

impl Topic {
    fn answer(&self, own: NodeId, mut known: Vec<NodeId>) -> Answer {
        known.retain(|life| self.ended.contains(life));
        let shown = self.shares.iter().filter(|(life, share)| share.count > 0 || **life == own);
        let shares = shown.map(|(life, share)| Share {
            life: *life,
            sequence: share.sequence,
            entries: share.entries.values().cloned().collect(),
            count: share.count,
            may_live: true,
        });
        Answer { shares: shares.collect(), over: known }
    }

    fn change(&mut self, life: NodeId, sequence: u64, follows: u64, change: &Change) -> Result<(), bool> {
        if self.ended.contains(&life) {
            return Err(true);
        }
        let share = self.shares.entry(life).or_default();
        let is_count = matches!(change, Change::Count(_));
        let is_next = follows == share.sequence || (follows == 0 && share.count == 0) || is_count;
        if sequence <= share.sequence || !is_next {
            return Err(false);
        }
        match change {
            Change::Join(entry) | Change::Describe(entry) => {
                share.entries.insert(entry.socket_id, entry.clone());
            }
            Change::Leave { socket_id, .. } => drop(share.entries.remove(socket_id)),
            Change::Count(count) => share.count = *count,
        }
        if !is_count {
            share.count = u32::try_from(share.entries.len()).unwrap();
        }
        share.sequence = sequence;
        Ok(())
    }
}
