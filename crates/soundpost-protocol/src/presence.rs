//! Who is on a presence channel: a union over nodes and connections that merges in any order.
//!
//! Each node is the only writer of its own share and counts its changes; of two states of one share the one with the
//! higher count is the newer, so merging is a matter of comparing, never of asking. A snapshot costs one clone of a
//! persistent map, whatever the size.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use rpds::HashTrieMapSync;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{app::Limits, json, socket_id::SocketId};

/// The id of a user on a presence channel. Two ids are equal if their string forms are: `10` and `"10"` are one user.
/// Source: Pusher docs, "Presence channels"; Laravel always sends strings.
#[derive(Clone, Debug)]
pub struct UserId {
    text: Arc<str>,
    /// It came as a JSON number and goes back as one.
    is_number: bool,
}

impl UserId {
    /// An id that is a JSON string.
    pub fn from_text(text: &str) -> Self {
        Self { text: text.into(), is_number: false }
    }

    /// The string form, which is what identifies the user.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn parse(raw: &RawValue) -> Option<Self> {
        let raw = raw.get();
        match raw.as_bytes().first()? {
            b'"' => serde_json::from_str::<String>(raw).ok().map(|text| Self::from_text(&text)),
            b'-' | b'0'..=b'9' => Some(Self { text: raw.into(), is_number: true }),
            _ => None,
        }
    }

    /// Appends the id in the JSON type it was given in.
    pub(crate) fn push_json(&self, out: &mut Vec<u8>) {
        if self.is_number {
            out.extend_from_slice(self.text.as_bytes());
        } else {
            json::push_string(out, &self.text);
        }
    }
}

impl PartialEq for UserId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for UserId {}

impl Hash for UserId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One user as the app's auth endpoint described it: `{"user_id":"42","user_info":{"name":"Zoe"}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user_id: UserId,
    /// Any JSON text, as it was signed; `None` if there was none.
    pub user_info: Option<Box<str>>,
}

/// Why `channel_data` describes no member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// Not a JSON object, or without a `user_id` that is a string or a number.
    #[error("channel_data must be a JSON object with a user_id that is a string or a number")]
    Malformed,
    /// The id is empty.
    #[error("user_id is empty")]
    EmptyUserId,
    /// The id is longer than the limit.
    #[error("user_id has {chars} characters, more than {chars_max} (user_id_chars_max)")]
    UserIdTooLong {
        /// Characters found.
        chars: usize,
        /// Characters allowed.
        chars_max: usize,
    },
    /// The info is longer than the limit.
    #[error("user_info has {bytes} bytes, more than {bytes_max} (user_info_bytes_max)")]
    UserInfoTooBig {
        /// Bytes found.
        bytes: usize,
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// The info is nested deeper than any JSON may be.
    #[error("user_info is nested too deeply")]
    UserInfoTooDeep,
}

impl Member {
    /// Reads the `channel_data` of a subscription. Call it only after the signature was found good.
    pub fn parse(channel_data: &str, limits: &Limits) -> Result<Self, MemberError> {
        #[derive(Deserialize)]
        struct ChannelData<'a> {
            #[serde(borrow)]
            user_id: &'a RawValue,
            #[serde(borrow, default)]
            user_info: Option<&'a RawValue>,
        }
        if !channel_data.trim_start().starts_with('{') {
            return Err(MemberError::Malformed);
        }
        let data: ChannelData<'_> = serde_json::from_str(channel_data).map_err(|_| MemberError::Malformed)?;
        let user_id = UserId::parse(data.user_id).ok_or(MemberError::Malformed)?;
        let (chars, chars_max) = (user_id.as_str().chars().count(), limits.user_id_chars_max);
        if chars == 0 {
            return Err(MemberError::EmptyUserId);
        }
        if chars > chars_max {
            return Err(MemberError::UserIdTooLong { chars, chars_max });
        }
        let user_info = data.user_info.map(RawValue::get).filter(|info| *info != "null");
        let (bytes, bytes_max) = (user_info.map_or(0, str::len), limits.user_info_bytes_max);
        if bytes > bytes_max {
            return Err(MemberError::UserInfoTooBig { bytes, bytes_max });
        }
        if user_info.is_some_and(|info| json::is_deeper_than(info, crate::app::JSON_DEPTH_MAX)) {
            return Err(MemberError::UserInfoTooDeep);
        }
        Ok(Self { user_id, user_info: user_info.map(Into::into) })
    }
}

/// Names one life of one node: another after each restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

/// One connection of a user. Ordered by when it joined; the first still there shows its info.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder {
    /// Milliseconds, on a clock the caller chooses; ties fall to the socket id.
    joined_at: u64,
    socket_id: SocketId,
    node: NodeId,
    member: Arc<Member>,
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
        let Some(holders) = self.users.get(user_id) else { return false };
        let left: Arc<[Holder]> =
            holders.iter().filter(|held| held.socket_id != socket_id).cloned().collect();
        if left.is_empty() {
            return self.users.remove_mut(user_id);
        }
        self.users.insert_mut(user_id.clone(), left);
        false
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

    fn insert(&mut self, holder: Holder) -> bool {
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

    #[test]
    fn channel_data_describes_a_member_or_says_what_is_wrong() {
        let parse = |data: &str| Member::parse(data, &Limits::default());
        for (data, user_id, user_info) in [
            (r#"{"user_id":"42"}"#, "42", None),
            (r#"{"user_id":42,"user_info":{"a": [1]}}"#, "42", Some(r#"{"a": [1]}"#)),
            (r#" {"user_info":true,"user_id":"é","x":1}"#, "é", Some("true")),
            (r#"{"user_id":"1","user_info":null}"#, "1", None),
            (r#"{"user_id":12345678901234567890123}"#, "12345678901234567890123", None),
        ] {
            let member = parse(data).unwrap();
            assert_eq!((member.user_id.as_str(), member.user_info.as_deref()), (user_id, user_info));
        }
        for data in [
            "",
            "null",
            "[]",
            "{}",
            r#"["42"]"#,
            r#"{"user_id":null}"#,
            r#"{"user_id":true}"#,
            r#"{"user_id":{}}"#,
        ] {
            assert_eq!(parse(data), Err(MemberError::Malformed), "{data}");
        }
        assert_eq!(parse(r#"{"user_id":""}"#), Err(MemberError::EmptyUserId));
        let long = format!(r#"{{"user_id":"{}"}}"#, "é".repeat(129));
        assert_eq!(parse(&long), Err(MemberError::UserIdTooLong { chars: 129, chars_max: 128 }));
        let big = format!(r#"{{"user_id":"1","user_info":"{}"}}"#, "x".repeat(2047));
        assert_eq!(parse(&big), Err(MemberError::UserInfoTooBig { bytes: 2049, bytes_max: 2048 }));
        let deep = format!(r#"{{"user_id":"1","user_info":{}{}}}"#, "[".repeat(129), "]".repeat(129));
        assert_eq!(parse(&deep), Err(MemberError::UserInfoTooDeep));
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
