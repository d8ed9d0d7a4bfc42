//! All shares of one channel put together: the roster, the counts, and what each life has said last.
//!
//! The owner of a share numbers its changes, and each change names the one before. So whatever is heard twice is known
//! by its number, and whatever was missed by the number it should follow. Nothing here depends on how the messages of
//! different lives are mixed.

use std::collections::{BTreeMap, VecDeque};

use super::share::{Change, Entry, Share, Transition};
use crate::presence::{Holder, NodeId, Roster, UserId};

/// Lives that are over are remembered by each channel, so many of them.
pub const ENDED_MAX: usize = 64;

/// What is known of one life's share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known {
    /// The number of its last change.
    sequence: u64,
    count: u32,
    /// The store has not confirmed it since it was away.
    is_missing: bool,
}

/// What hearing a change has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is in, and this is what others see of it.
    Applied(Option<Transition>),
    /// It was in already, or its life is over.
    Ignored,
    /// Changes before it were missed; it is not in.
    Gap,
}

/// The shares of one channel.
#[derive(Clone, Debug, Default)]
pub struct Shares {
    roster: Roster,
    lives: BTreeMap<NodeId, Known>,
    /// The lives that are over, the last one to end at the back.
    ended: VecDeque<NodeId>,
}

impl Shares {
    /// Who is on the channel.
    pub const fn roster(&self) -> &Roster {
        &self.roster
    }

    /// How many connections are on the channel, as far as their nodes have said.
    pub fn count(&self) -> u32 {
        self.lives.values().fold(0, |sum, known| sum.saturating_add(known.count))
    }

    /// How many connections one life has there.
    pub fn count_of(&self, life: NodeId) -> u32 {
        self.lives.get(&life).map_or(0, |known| known.count)
    }

    /// The number of the last change of a life.
    pub fn sequence_of(&self, life: NodeId) -> u64 {
        self.lives.get(&life).map_or(0, |known| known.sequence)
    }

    /// The lives with connections on the channel.
    pub fn lives(&self) -> impl Iterator<Item = NodeId> {
        self.lives.iter().filter(|(_, known)| known.count > 0).map(|(life, _)| *life)
    }

    /// Whether a life's share is shown though the store did not have it, or not as new, when it was read last.
    pub fn has_missing(&self) -> bool {
        self.lives.values().any(|known| known.is_missing)
    }

    /// The connections of one life, in the order of their socket ids. Looks at all.
    pub fn entries_of(&self, life: NodeId) -> Vec<Entry> {
        let held = self.roster.holders().filter(|held| held.node == life);
        let entry = |held: &Holder| {
            let member = held.member.clone();
            Entry { socket_id: held.socket_id, joined_at: held.joined_at, member }
        };
        let mut entries: Vec<Entry> = held.map(entry).collect();
        entries.sort_unstable_by_key(|entry| entry.socket_id);
        entries
    }

    /// Takes in what a life says it has changed.
    pub fn hear(&mut self, life: NodeId, sequence: u64, follows: u64, change: &Change) -> Heard {
        if self.ended.contains(&life) {
            return Heard::Ignored;
        }
        let known = self.lives.get(&life).copied().unwrap_or_default();
        if sequence <= known.sequence {
            return Heard::Ignored;
        }
        // A count says all there is to say, so none before it is missed. An owner that has forgotten an empty share
        // begins it again with a number that follows nothing.
        let is_next = follows == known.sequence || (follows == 0 && known.count == 0);
        if !is_next && !matches!(change, Change::Count(_)) {
            return Heard::Gap;
        }
        let (transition, count) = self.apply(life, known.count, change);
        self.lives.insert(life, Known { sequence, count, is_missing: false });
        Heard::Applied(transition)
    }

    /// Changes a share without a number: what the own node does while it is alone.
    pub fn change_alone(&mut self, life: NodeId, change: &Change) -> Option<Transition> {
        let known = self.lives.get(&life).copied().unwrap_or_default();
        let (transition, count) = self.apply(life, known.count, change);
        self.lives.insert(life, Known { count, ..known });
        transition
    }

    fn apply(&mut self, life: NodeId, count: u32, change: &Change) -> (Option<Transition>, u32) {
        match change {
            Change::Join(entry) => {
                let user_id = &entry.member.user_id;
                let before = self.roster.withdraw(life, entry.socket_id, user_id);
                let is_new = self.roster.insert(holder(life, entry));
                let is_added = is_new && before.is_none();
                let shown = is_added.then(|| Transition::Added(entry.member.clone()));
                (shown, count + u32::from(before.is_none()))
            }
            Change::Leave { socket_id, user_id } => match self.roster.withdraw(life, *socket_id, user_id) {
                Some(was_last) => {
                    (was_last.then(|| Transition::Removed(user_id.clone())), count.saturating_sub(1))
                }
                None => (None, count),
            },
            Change::Describe(entry) => {
                let user_id = &entry.member.user_id;
                if let Some(held) = self.roster.holder(life, entry.socket_id, user_id) {
                    let described = Holder { member: entry.member.clone(), ..held.clone() };
                    self.roster.withdraw(life, entry.socket_id, user_id);
                    self.roster.insert(described);
                }
                (None, count)
            }
            Change::Count(count) => (None, *count),
        }
    }

    /// Takes in a whole new share. `None` if it is not new.
    pub fn replace(
        &mut self,
        life: NodeId,
        sequence: u64,
        predecessors: &[NodeId],
        count: u32,
        entries: &[Entry],
    ) -> Option<Vec<Transition>> {
        if self.ended.contains(&life) || sequence <= self.sequence_of(life) {
            return None;
        }
        let before = self.roster.clone();
        for predecessor in predecessors {
            self.forget(*predecessor);
        }
        self.withdraw_all(life);
        for entry in entries {
            self.roster.insert(holder(life, entry));
        }
        self.lives.insert(life, Known { sequence, count, is_missing: false });
        Some(transitions(&before, &self.roster))
    }

    /// A life is over: its share goes and never comes again.
    pub fn end(&mut self, life: NodeId) -> Vec<Transition> {
        let before = self.roster.clone();
        self.forget(life);
        transitions(&before, &self.roster)
    }

    /// The same for several at once, most of which are known to be over.
    pub fn end_all(&mut self, lives: &[NodeId]) -> Vec<Transition> {
        let mut transitions = Vec::new();
        for life in lives {
            if self.lives.contains_key(life) {
                transitions.extend(self.end(*life));
            } else {
                self.end_unseen(*life);
            }
        }
        transitions
    }

    /// A life is over, but its share stays until all shares are read: it will not be among them.
    pub fn end_unseen(&mut self, life: NodeId) {
        if !self.ended.contains(&life) {
            if self.ended.len() == ENDED_MAX {
                self.ended.pop_front();
            }
            self.ended.push_back(life);
        }
    }

    /// Puts the shares that were read from the store in the place of those known, where they are not older: of
    /// an older one the newer is on its way. A share that the store does not have was empty or, unless `is_settled`, is
    /// not there again yet, and then what is known of it stays. What is known of `own` always does.
    pub fn install(&mut self, own: NodeId, shares: Vec<Share>, is_settled: bool) -> Vec<Transition> {
        let before = self.roster.clone();
        let mut lives = BTreeMap::new();
        let mut roster = Roster::default();
        let mut older = Vec::new();
        for share in shares {
            let known = self.lives.get(&share.life).copied().unwrap_or_default();
            let is_ours = share.life == own || known.count > 0;
            if self.ended.contains(&share.life) || !(share.may_live || is_ours) {
                continue;
            }
            if share.sequence < known.sequence {
                older.push(share.life);
                continue;
            }
            for entry in &share.entries {
                roster.insert(holder(share.life, entry));
            }
            let known = Known { sequence: share.sequence, count: share.count, is_missing: false };
            lives.insert(share.life, known);
        }
        for (life, known) in &self.lives {
            if lives.contains_key(life) || self.ended.contains(life) {
                continue;
            }
            let is_certain = *life == own || (is_settled && older.contains(life));
            let stays = known.count > 0 && (is_certain || !is_settled);
            let count = if stays { known.count } else { 0 };
            lives.insert(*life, Known { count, is_missing: stays && !is_certain, ..*known });
            for held in before.holders().filter(|held| stays && held.node == *life) {
                roster.insert(held.clone());
            }
        }
        self.lives = lives;
        self.roster = roster;
        transitions(&before, &self.roster)
    }

    /// The own node has a new life, and what it holds goes over to it. Nothing that others see.
    pub fn rename(&mut self, from: NodeId, to: NodeId) {
        let entries = self.entries_of(from);
        let count = self.count_of(from);
        self.forget(from);
        for entry in &entries {
            self.roster.insert(holder(to, entry));
        }
        self.lives.insert(to, Known { sequence: 0, count, is_missing: false });
    }

    fn forget(&mut self, life: NodeId) {
        self.withdraw_all(life);
        self.lives.remove(&life);
        self.end_unseen(life);
    }

    fn withdraw_all(&mut self, life: NodeId) {
        if self.count_of(life) > 0 {
            for entry in self.entries_of(life) {
                self.roster.withdraw(life, entry.socket_id, &entry.member.user_id);
            }
        }
    }
}

fn holder(node: NodeId, entry: &Entry) -> Holder {
    let member = entry.member.clone();
    Holder { joined_at: entry.joined_at, socket_id: entry.socket_id, node, member }
}

/// What others see of a roster taking the place of another: each user who came or went once, in the order of the ids,
/// those who went first.
fn transitions(before: &Roster, after: &Roster) -> Vec<Transition> {
    let missing_in = |other: &Roster, from: &Roster| {
        let ids = from.members().map(|member| &member.user_id).filter(|user_id| !other.contains(user_id));
        let mut ids: Vec<UserId> = ids.cloned().collect();
        ids.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        ids
    };
    let removed = missing_in(after, before).into_iter().map(Transition::Removed);
    let added = missing_in(before, after).into_iter().filter_map(|user_id| after.member(&user_id).cloned());
    removed.chain(added.map(Transition::Added)).collect()
}

#[cfg(test)]
mod tests;
