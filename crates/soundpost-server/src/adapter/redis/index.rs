//! The index of the own life: the tags in which it may have a share, so that others can take them away.
//!
//! It names a tag before the share there holds anything. On one server the order of commands sees to that; on a Redis
//! Cluster the two are on different ones, so what a channel asks is held until the index has answered.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use foldhash::quality::RandomState;
use soundpost_protocol::{
    cluster::{channel::Effect, share::Change},
    presence::NodeId,
};

use super::{answers, commands::Expect, keys, session::Session, wire::resp::Reply};
use crate::adapter::Ask;

/// What this connected stretch knows of it.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The tags in it, with the last change of each share.
    tags: HashMap<Bytes, u64, RandomState>,
    /// What channels ask whose tags are on their way into it.
    held: HashMap<Bytes, VecDeque<Ask>, RandomState>,
    held_asks: usize,
    /// The tags whose share is empty since that change, and which stay for as long as something is held for webhooks.
    emptied: HashMap<Bytes, u64, RandomState>,
}

impl Index {
    /// How much is held.
    pub(super) const fn waiting(&self) -> usize {
        self.held_asks
    }

    /// Another life begins: its index is empty, and of what was asked only what was given up still counts.
    pub(super) fn renew(&mut self) -> Vec<Ask> {
        let held = std::mem::take(self).held.into_values().flatten();
        held.filter(|ask| ask.effect == Effect::Unsubscribe).collect()
    }
}

/// The number of a change of the own share, and whether it may put something in.
fn of_change(effect: &Effect) -> Option<(u64, bool)> {
    if let Effect::Change { sequence, change, .. } = effect {
        return Some((*sequence, !matches!(change, Change::Leave { .. } | Change::Count(0))));
    }
    let Effect::Replace { sequence, entries, count, .. } = effect else { return None };
    Some((*sequence, !entries.is_empty() || *count > 0))
}

impl Session<'_> {
    /// Names the tag in the index if what is asked may put something into the share. Gives the ask back unless it has to
    /// wait for that, as those behind it of the same channel then do.
    pub(super) fn name_in_index(&mut self, tag: &Bytes, ask: Ask) -> Option<Ask> {
        if let Some(held) = self.index.held.get_mut(tag) {
            held.push_back(ask);
            self.index.held_asks += 1;
            return None;
        }
        let Some((sequence, is_more)) = of_change(&ask.effect) else { return Some(ask) };
        if let Some(last) = self.index.tags.get_mut(tag) {
            *last = sequence;
            return Some(ask);
        }
        // What takes something out may hold it for webhooks.
        if !is_more && self.wants(&ask.subject).is_empty() {
            return Some(ask);
        }
        self.index.tags.insert(tag.clone(), sequence);
        let life = self.node.life;
        let expect = if self.is_sharded { Expect::Indexed(tag.clone(), life) } else { Expect::Nothing };
        self.add_to_index(tag, expect);
        if !self.is_sharded {
            return Some(ask);
        }
        self.index.held.insert(tag.clone(), VecDeque::from([ask]));
        self.index.held_asks += 1;
        None
    }

    /// The index has answered: what was held goes out.
    pub(super) fn named_in_index(&mut self, tag: &Bytes, life: NodeId) {
        if life != self.node.life {
            return;
        }
        let held = self.index.held.remove(tag).unwrap_or_default();
        self.index.held_asks -= held.len();
        held.into_iter().for_each(|ask| self.ask(ask));
    }

    /// A share is empty after this change; the index need not name the subject if it was the last one.
    pub(super) fn unindex(&mut self, tag: &Bytes, sequence: u64) {
        if self.index.tags.get(tag) != Some(&sequence) {
            return;
        }
        if self.node.holding.has(tag) {
            self.index.emptied.insert(tag.clone(), sequence);
            return;
        }
        self.index.tags.remove(tag);
        self.remove_from_index(tag);
    }

    /// Nothing is held under this tag any more.
    pub(super) fn let_go(&mut self, tag: &Bytes) {
        if let Some(sequence) = self.index.emptied.remove(tag) {
            self.unindex(tag, sequence);
        }
    }

    /// Something is held under this tag by nobody else. False if the index names it already; else `expect` hears once it
    /// does.
    pub(super) fn name_held(&mut self, tag: &Bytes, expect: Expect) -> bool {
        if self.index.tags.contains_key(tag) {
            return false;
        }
        // The number of no change: the first change of a share here says that it is not empty.
        self.index.tags.insert(tag.clone(), 0);
        self.index.emptied.insert(tag.clone(), 0);
        self.add_to_index(tag, expect);
        true
    }

    /// The index is new, or it is not known what it names.
    pub(super) fn name_all_held(&mut self) {
        let tags: Vec<_> = self.node.holding.tags().cloned().collect();
        for tag in tags {
            self.name_held(&tag, Expect::Nothing);
        }
    }

    fn add_to_index(&mut self, tag: &Bytes, expect: Expect) {
        let life = self.node.life;
        let index = self.shared.names.index(life);
        self.send(keys::index_tag(life).as_bytes(), &[b"SADD", &index, tag], expect);
    }

    fn remove_from_index(&mut self, tag: &[u8]) {
        let index = self.shared.names.index(self.node.life);
        let home = keys::index_tag(self.node.life);
        self.send(home.as_bytes(), &[b"SREM", &index, tag], Expect::Nothing);
    }

    /// After a return: what the own index names beside what channels say they hold is stale.
    pub(super) fn check_index(&mut self) {
        let subjects = self.shared.hearing.subjects();
        let wanted = subjects.iter().filter_map(|subject| self.tag(subject)).collect();
        let index = self.shared.names.index(self.node.life);
        let home = keys::index_tag(self.node.life);
        self.send(home.as_bytes(), &[b"SMEMBERS", &index], Expect::Index(wanted));
    }

    /// The answer to that. Scripts whose answers were lost may have held something anywhere, so nothing is forgotten before
    /// that was looked at.
    pub(super) fn clean_index(&mut self, wanted: &HashSet<Bytes>, reply: &Reply) {
        for member in answers::items(reply) {
            let Reply::Bulk(tag) = member else { continue };
            let is_stale = !wanted.contains(tag) && !self.index.tags.contains_key(tag);
            if self.hold_what_may_be(tag) {
                if is_stale {
                    self.name_held(tag, Expect::Nothing);
                }
            } else if is_stale {
                self.remove_from_index(tag);
            }
        }
    }
}
