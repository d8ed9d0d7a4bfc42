//! A share: what one life of one node holds of one channel, and the changes it makes to it.
//!
//! In the store a share is a hash. Its field for a connection is [`field`], the value [`Entry::value`].

use std::sync::Arc;

use super::{
    message::MessageError,
    wire::{Reader, push_socket_id, push_text},
};
use crate::{
    json,
    presence::{Member, NodeId, UserId},
    socket_id::SocketId,
};

/// The longest user id and user info that any setting allows to travel.
pub const MEMBER_TEXT_BYTES_MAX: usize = 65_535;

const IS_NUMBER: u8 = 1;
const HAS_INFO: u8 = 2;

/// One connection of a presence channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub socket_id: SocketId,
    /// When it joined, in milliseconds since the epoch: of a user's connections the earliest describes the user.
    pub joined_at: u64,
    /// Whose it is.
    pub member: Arc<Member>,
}

impl Entry {
    /// The value of the connection's field: `joined_at` (8 bytes), flags (1: the id came as a number, 2: there is an
    /// info), the id and, if there is one, the info, each with its length in two bytes in front.
    pub fn value(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.push_value(&mut out);
        out
    }

    /// Reads what [`field`] and [`Entry::value`] have written. Errors: [`MessageError`].
    pub fn read(field: &[u8], value: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader(field);
        let socket_id = reader.socket_id()?;
        reader.end()?;
        let mut reader = Reader(value);
        let entry = Self::take_value(&mut reader, socket_id)?;
        reader.end()?;
        Ok(entry)
    }

    pub(super) fn push(&self, out: &mut Vec<u8>) {
        push_socket_id(out, self.socket_id);
        self.push_value(out);
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, MessageError> {
        let socket_id = reader.socket_id()?;
        Self::take_value(reader, socket_id)
    }

    fn push_value(&self, out: &mut Vec<u8>) {
        let Member { user_id, user_info } = &*self.member;
        out.extend_from_slice(&self.joined_at.to_be_bytes());
        let is_number = if user_id.is_number() { IS_NUMBER } else { 0 };
        out.push(is_number | if user_info.is_some() { HAS_INFO } else { 0 });
        push_text(out, user_id.as_str());
        if let Some(info) = user_info {
            push_text(out, info);
        }
    }

    fn take_value(reader: &mut Reader<'_>, socket_id: SocketId) -> Result<Self, MessageError> {
        let joined_at = reader.u64()?;
        let flags = reader.u8()?;
        if flags & !(IS_NUMBER | HAS_INFO) != 0 {
            return Err(MessageError::Flags);
        }
        let length = reader.u16()?;
        let user_id = UserId::from_parts(reader.text(usize::from(length))?, flags & IS_NUMBER != 0);
        let mut user_info = None;
        if flags & HAS_INFO != 0 {
            let length = reader.u16()?;
            let info = reader.text(usize::from(length))?;
            // It is shown to clients as it stands, so a node that errs must not be able to send them nonsense.
            if json::is_deeper_than(info, crate::app::JSON_DEPTH_MAX) {
                return Err(MessageError::NotText);
            }
            user_info = Some(info.into());
        }
        Ok(Self { socket_id, joined_at, member: Arc::new(Member { user_id, user_info }) })
    }
}

/// The name of a connection's field in a share: both halves of its id, 8 bytes each.
pub fn field(socket_id: SocketId) -> [u8; 16] {
    let mut field = [0; 16];
    field[..8].copy_from_slice(&socket_id.left.to_be_bytes());
    field[8..].copy_from_slice(&socket_id.right.to_be_bytes());
    field
}

/// One change of a share by its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A connection comes.
    Join(Entry),
    /// A connection goes.
    Leave {
        /// Which.
        socket_id: SocketId,
        /// Whose it was.
        user_id: UserId,
    },
    /// A connection that is there describes its user anew.
    Describe(Entry),
    /// So many connections are on the channel, on channels that know no members.
    Count(u32),
}

/// A share as it stood in the store when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Whose it is.
    pub life: NodeId,
    /// The number of the last change in it.
    pub sequence: u64,
    /// The connections, on presence channels.
    pub entries: Vec<Entry>,
    /// How many connections there are.
    pub count: u32,
    /// Whether its owner may be alive, as [`super::lives::Lives::may_live`] says of what is known of its lease.
    pub may_live: bool,
}

/// What becomes of a user on a presence channel of the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The first connection has come.
    Added(Arc<Member>),
    /// The last connection has gone.
    Removed(UserId),
}

impl Transition {
    /// Whose.
    pub fn user_id(&self) -> &UserId {
        match self {
            Self::Added(member) => &member.user_id,
            Self::Removed(user_id) => user_id,
        }
    }
}
