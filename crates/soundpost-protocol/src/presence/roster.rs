//! The roster of one presence channel: a union over nodes and connections that merges in any order.
//!
//! Each node is the only writer of its own share and counts its changes; of two states of one share the one with the
//! higher count is the newer, so merging is a matter of comparing, never of asking. A snapshot costs one clone of a
//! persistent map, whatever the size.

use std::{collections::BTreeMap, sync::Arc};

use rpds::HashTrieMapSync;

use super::{Member, UserId};
use crate::socket_id::SocketId;

/// Names one life of one node: another after each restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

/// One connection of a user. Ordered by when it joined; the first still there shows its info.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Milliseconds, on a clock the caller chooses; ties fall to the socket id.
    pub(crate) joined_at: u64,
    pub(crate) socket_id: SocketId,
    pub(crate) node: NodeId,
    pub(crate) member: Arc<Member>,
}

/// The members of one presence channel over all nodes.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    /// Each user's connections in the order they joined; never empty.
    users: HashTrieMapSync<UserId, Arc<[Holder]>>,
    /// Changes each node has made to its share.
    versions: BTreeMap<NodeId, u64>,
}

impl PartialEq for Roster {
    fn eq(&self, other: &Self) -> bool {
        self.versions == other.versions && self.users == other.users
    }
}

impl Roster {
    /// Distinct users.
    pub fn len(&self) -> usize {
        self.users.size()
    }

    /// Whether nobody is here.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Whether the user is here with any connection.
    pub fn contains(&self, user_id: &UserId) -> bool {
        self.users.contains_key(user_id)
    }

    /// Each user once, described by the connection that has been here longest.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.users.values().filter_map(|holders| holders.first()).map(|holder| &*holder.member)
    }

    /// Adds a connection of `node`. True if its user was not here: all others now hear `member_added`.
    pub fn join(&mut self, node: NodeId, socket_id: SocketId, joined_at: u64, member: Arc<Member>) -> bool {
        *self.versions.entry(node).or_default() += 1;
        self.insert(Holder { joined_at, socket_id, node, member })
    }

    /// Takes a connection of `node` away. True if it was its user's last: all others now hear `member_removed`.
    pub fn leave(&mut self, node: NodeId, socket_id: SocketId, user_id: &UserId) -> bool {
        *self.versions.entry(node).or_default() += 1;
        self.withdraw(node, socket_id, user_id).is_some_and(|was_last| was_last)
    }

    /// Whether this connection is the only one its user has left.
    pub fn is_last(&self, socket_id: SocketId, user_id: &UserId) -> bool {
        self.users
            .get(user_id)
            .is_some_and(|holders| matches!(&**holders, [only] if only.socket_id == socket_id))
    }

    /// Replaces what a connection says of its user, as a repeated subscribe may.
    pub fn describe(&mut self, node: NodeId, socket_id: SocketId, member: &Arc<Member>) {
        *self.versions.entry(node).or_default() += 1;
        let Some(holders) = self.users.get(&member.user_id) else { return };
        let described = |held: &Holder| match held.socket_id == socket_id {
            true => Holder { member: Arc::clone(member), ..held.clone() },
            false => held.clone(),
        };
        let holders: Arc<[Holder]> = holders.iter().map(described).collect();
        self.users.insert_mut(member.user_id.clone(), holders);
    }

    /// Takes in every share of `other` that is newer than ours. Merging in any order, any number of times, gives the
    /// same roster.
    pub fn merge(&mut self, other: &Self) {
        let ours = |node: &NodeId| self.versions.get(node).copied().unwrap_or(0);
        let newer: BTreeMap<NodeId, u64> = other
            .versions
            .iter()
            .filter(|(node, version)| **version > ours(node))
            .map(|(n, v)| (*n, *v))
            .collect();
        if newer.is_empty() {
            return;
        }
        let kept =
            self.users.values().flat_map(|holders| holders.iter()).filter(|h| !newer.contains_key(&h.node));
        let taken =
            other.users.values().flat_map(|holders| holders.iter()).filter(|h| newer.contains_key(&h.node));
        let mut merged = Self { users: HashTrieMapSync::default(), versions: self.versions.clone() };
        for holder in kept.chain(taken).cloned() {
            merged.insert(holder);
        }
        merged.versions.extend(newer);
        *self = merged;
    }

    /// Each user's connections, whosever they are.
    pub(crate) fn holders(&self) -> impl Iterator<Item = &Holder> {
        self.users.values().flat_map(|holders| holders.iter())
    }

    /// How the others see a user who is here.
    pub(crate) fn member(&self, user_id: &UserId) -> Option<&Arc<Member>> {
        self.users.get(user_id).and_then(|holders| holders.first()).map(|holder| &holder.member)
    }

    /// The connections of `node` that hold a user here.
    pub(crate) fn holders_of(&self, node: NodeId, user_id: &UserId) -> impl Iterator<Item = &Holder> {
        let holders = self.users.get(user_id).map(|holders| holders.iter());
        holders.into_iter().flatten().filter(move |held| held.node == node)
    }

    /// The connection of `node` that holds a user here, if it does.
    pub(crate) fn holder(&self, node: NodeId, socket_id: SocketId, user_id: &UserId) -> Option<&Holder> {
        self.holders_of(node, user_id).find(|held| held.socket_id == socket_id)
    }

    /// Takes a connection out without counting a change of its share. `None` if it was not in, else whether it was its
    /// user's last.
    pub(crate) fn withdraw(&mut self, node: NodeId, socket_id: SocketId, user_id: &UserId) -> Option<bool> {
        let holders = self.users.get(user_id)?;
        let is_it = |held: &Holder| held.node == node && held.socket_id == socket_id;
        let left: Arc<[Holder]> = holders.iter().filter(|held| !is_it(held)).cloned().collect();
        if left.len() == holders.len() {
            return None;
        }
        if left.is_empty() {
            return Some(self.users.remove_mut(user_id));
        }
        self.users.insert_mut(user_id.clone(), left);
        Some(false)
    }

    /// Enters a connection without counting a change of its share. True if its user was not here.
    pub(crate) fn insert(&mut self, holder: Holder) -> bool {
        let user_id = holder.member.user_id.clone();
        let mut holders = self.users.get(&user_id).map_or_else(Vec::new, |holders| holders.to_vec());
        let is_first = holders.is_empty();
        let order = |held: &Holder| (held.joined_at, held.socket_id);
        let at = holders.partition_point(|held| order(held) <= order(&holder));
        holders.insert(at, holder);
        self.users.insert_mut(user_id, holders.into());
        is_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Limits;
    use proptest::prelude::*;

    fn member(user_id: &str, user_info: &str) -> Arc<Member> {
        let data = format!(r#"{{"user_id":{user_id},"user_info":{user_info}}}"#);
        Arc::new(Member::parse(&data, &Limits::default()).unwrap())
    }

    fn socket(n: u64) -> SocketId {
        SocketId { left: n, right: 1 }
    }

    const NODE: NodeId = NodeId(1);

    #[test]
    fn a_user_comes_with_the_first_connection_and_goes_with_the_last() {
        let mut roster = Roster::default();
        assert!(roster.join(NODE, socket(1), 10, member("10", "1")));
        assert!(!roster.join(NODE, socket(2), 11, member(r#""10""#, "2")), "10 and \"10\" are one user");
        assert!(roster.join(NODE, socket(3), 12, member(r#""7""#, "3")));
        assert_eq!(roster.len(), 2);
        let id = UserId::from_text("10");
        assert!(!roster.leave(NODE, socket(1), &id));
        let shown = roster.members().find(|member| member.user_id == id).unwrap();
        assert_eq!(shown.user_info.as_deref(), Some("2"), "the earliest that is still here");
        assert!(roster.leave(NODE, socket(2), &id));
        assert!(!roster.leave(NODE, socket(2), &id), "left twice");
        assert_eq!(roster.len(), 1);
    }

    #[test]
    fn a_snapshot_does_not_change_with_its_roster() {
        let mut roster = Roster::default();
        roster.join(NODE, socket(1), 1, member("1", "null"));
        let snapshot = roster.clone();
        roster.join(NODE, socket(2), 2, member("2", "null"));
        assert_eq!((snapshot.len(), roster.len()), (1, 2));
    }

    /// Random joins and leaves of three nodes, each node knowing only its own share.
    fn shares() -> impl Strategy<Value = Vec<Roster>> {
        let action = (0_u64..3, 0_u64..6, 0_u32..4, any::<bool>());
        proptest::collection::vec(action, 0..40).prop_map(|actions| {
            let mut states = vec![Roster::default()];
            let mut nodes = [Roster::default(), Roster::default(), Roster::default()];
            for (at, (node, connection, user, joins)) in (0..).zip(actions) {
                let roster = &mut nodes[usize::try_from(node).unwrap()];
                let user = member(&user.to_string(), "null");
                let id = socket(node * 10 + connection);
                match joins {
                    true => roster.join(NodeId(node), id, at, user),
                    false => roster.leave(NodeId(node), id, &user.user_id),
                };
                states.push(roster.clone());
            }
            states
        })
    }

    proptest! {
        #[test]
        fn rosters_merge_in_any_order(states in shares(), order in any::<u64>()) {
            let merged = |states: &[Roster]| states.iter().fold(Roster::default(), |mut all, state| {
                all.merge(state);
                all
            });
            let forwards = merged(&states);
            let mut shuffled: Vec<Roster> = states.iter().chain(&states).cloned().collect();
            let mut seed = order | 1;
            for at in (1..shuffled.len()).rev() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                shuffled.swap(at, usize::try_from(seed >> 33).unwrap() % (at + 1));
            }
            prop_assert_eq!(&forwards, &merged(&shuffled));
            let (left, right) = states.split_at(states.len() / 2);
            let mut halves = merged(left);
            halves.merge(&merged(right));
            prop_assert_eq!(&forwards, &halves);
        }
    }
}
