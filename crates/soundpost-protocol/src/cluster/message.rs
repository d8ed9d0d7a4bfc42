//! What nodes tell each other: one binary message per publication. The topic it comes on says which channel it is about.
//!
//! Every message starts with the same head, numbers big-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | [`VERSION`] |
//! | 1 | the kind |
//! | 1 | flags, each kind its own; an unknown one is an error |
//! | 8 | the life of the node that speaks |
//! | 8 | its sequence number |
//! | 1, then so many | the id of the app; empty on the control topic |
//!
//! and goes on with the body of its kind:
//!
//! | kind | name | body |
//! |---|---|---|
//! | 1 | event | with flag 1 the excluded socket id (16), with flag 2 the bytes of its `data` (4); then the frame for clients |
//! | 2 | join | the change it follows (8), an entry |
//! | 3 | leave | the change it follows (8), socket id (16), length (2) and text of the user id; flag 1: it came as a number |
//! | 4 | describe | as join |
//! | 5 | count | connections (4) |
//! | 6 | replace | number of lives it takes the place of (1), these (8 each), connections (4), then, unless flag 1 says to read it from the store, all entries to the end |
//! | 7 | gone | the life that is over (8) |
//! | 8 | heartbeat | for each app: length (1) and text of its id, connections (4) |
//! | 9 | terminate | the user id as in leave; flag 2: connections on presence channels, too |
//! | 10 | farewell | nothing: the life that speaks is over and has left no share behind; what is held for webhooks is for the others |
//!
//! An entry is a socket id (16) and [`Entry::value`](super::share::Entry::value). A version or a kind that this version
//! does not know is [`Body::Unknown`], to be counted and dropped.

use std::ops::Range;

use super::{
    share::{Change, Entry},
    wire::{Reader, push_socket_id, push_text},
};
use crate::{
    presence::{NodeId, UserId},
    socket_id::SocketId,
};

/// The version of this format.
pub const VERSION: u8 = 1;
/// Where in a message the life and its sequence number stand, so that they can be written last.
pub const STAMP: Range<usize> = 3..19;
/// The longest message that is read. A frame is far below: the data of an event has its own limit.
pub const MESSAGE_BYTES_MAX: usize = 128 * 1024 * 1024;
/// The longest id of an app.
pub const APP_ID_BYTES_MAX: usize = 255;
/// A replacing share with more bytes than this is not sent along but read from the store by those who care.
pub const REPLACE_BYTES_MAX: usize = 1024 * 1024;
/// A share takes the place of so many earlier lives at most. Those before are found dead by the others.
pub const PREDECESSORS_MAX: usize = 4;
/// Apps in one heartbeat. A node with more sends several.
pub const HEARTBEAT_APPS_MAX: usize = 1024;

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It ends before it should.
    #[error("node message ends too soon")]
    Truncated,
    /// It goes on where it should end, or is longer than any message, or a list in it is.
    #[error("node message is too long")]
    TooLong,
    /// What should be text is not UTF-8 or, as JSON, nested too deeply.
    #[error("node message holds a malformed text")]
    NotText,
    /// A flag that its kind does not have.
    #[error("node message has unknown flags")]
    Flags,
}

/// What one node says to all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The id of the app it is about; empty if it is about none.
    pub app: &'a str,
    /// The life that speaks.
    pub life: NodeId,
    /// Of an event, how many that life has published on this topic; else the number of the change. 0 on the control
    /// topic, where only a heartbeat has one: the beats so far.
    pub sequence: u64,
    /// What it says.
    pub body: Body<'a>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// An event for the channel's subscribers.
    Event {
        /// The connection that does not get it.
        exclude: Option<SocketId>,
        /// For cache channels, if it came over the HTTP API: how many bytes of the frame are its `data`.
        keep: Option<u32>,
        /// What clients get, a slice of the message: see [`crate::websocket::Frame::received`].
        frame: &'a [u8],
    },
    /// Something about who is on the channel.
    Notice(Notice),
    /// The node is alive. On the control topic.
    Heartbeat(Vec<(&'a str, u32)>),
    /// Every connection of the user ends. On the control topic.
    Terminate {
        /// Who.
        user_id: UserId,
        /// Connections on presence channels as this user end, too.
        present: bool,
    },
    /// The node has ended in order. On the control topic.
    Farewell,
    /// From a version of the server that knows more.
    Unknown {
        /// The version of the format.
        version: u8,
        /// The kind of message.
        kind: u8,
    },
}

/// Something about who is on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The life that speaks has changed its share.
    Change {
        /// The number of the change before; 0 if the share was empty and its owner knew of none.
        follows: u64,
        /// How.
        change: Change,
    },
    /// The life that speaks has a new share, whatever was before.
    Replace {
        /// Earlier lives of the same node, whose shares are gone.
        predecessors: Vec<NodeId>,
        /// How many connections there are.
        count: u32,
        /// The connections; `None`: too many, read them from the store.
        entries: Option<Vec<Entry>>,
    },
    /// A life is over and its share is gone, says another.
    Gone(NodeId),
}

mod kind {
    pub(super) const EVENT: u8 = 1;
    pub(super) const JOIN: u8 = 2;
    pub(super) const LEAVE: u8 = 3;
    pub(super) const DESCRIBE: u8 = 4;
    pub(super) const COUNT: u8 = 5;
    pub(super) const REPLACE: u8 = 6;
    pub(super) const GONE: u8 = 7;
    pub(super) const HEARTBEAT: u8 = 8;
    pub(super) const TERMINATE: u8 = 9;
    pub(super) const FAREWELL: u8 = 10;
}

mod flag {
    pub(super) const EXCLUDES: u8 = 1;
    pub(super) const KEEPS: u8 = 2;
    pub(super) const IS_NUMBER: u8 = 1;
    pub(super) const PRESENT: u8 = 2;
    pub(super) const READ: u8 = 1;
}

impl<'a> Message<'a> {
    /// Reads one message. Copies no event, parses no JSON, and never panics. Errors: [`MessageError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, MessageError> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(MessageError::TooLong);
        }
        let mut reader = Reader(bytes);
        let (version, kind) = (reader.u8()?, reader.u8()?);
        if version != VERSION {
            let body = Body::Unknown { version, kind };
            return Ok(Self { app: "", life: NodeId(0), sequence: 0, body });
        }
        let (flags, life, sequence) = (reader.u8()?, reader.node()?, reader.u64()?);
        let length = reader.u8()?;
        let app = reader.text(usize::from(length))?;
        let body = Body::decode(&mut reader, kind, flags)?;
        Ok(Self { app, life, sequence, body })
    }

    /// The message as bytes. An id of an app that is too long is cut.
    pub fn encode(&self) -> Vec<u8> {
        let frame_bytes = if let Body::Event { frame, .. } = &self.body { frame.len() } else { 64 };
        let mut out = Vec::with_capacity(64 + self.app.len() + frame_bytes);
        self.push(&mut out);
        out
    }

    /// Appends the message to what is there.
    pub fn push(&self, out: &mut Vec<u8>) {
        let (kind, flags) = self.body.kind_and_flags();
        out.extend_from_slice(&[VERSION, kind, flags]);
        out.extend_from_slice(&self.life.0.to_be_bytes());
        out.extend_from_slice(&self.sequence.to_be_bytes());
        push_short(out, self.app);
        self.body.push(out);
    }

    /// How many bytes the message of an event has.
    pub fn event_bytes(app: &str, excludes: bool, keeps: bool, frame_bytes: usize) -> usize {
        let optional = if excludes { 16 } else { 0 } + if keeps { 4 } else { 0 };
        STAMP.end + 1 + app.len().min(APP_ID_BYTES_MAX) + optional + frame_bytes
    }
}

impl<'a> Body<'a> {
    fn decode(reader: &mut Reader<'a>, kind: u8, flags: u8) -> Result<Self, MessageError> {
        let allow = |allowed: u8| if flags & !allowed == 0 { Ok(()) } else { Err(MessageError::Flags) };
        let has = |flag: u8| flags & flag != 0;
        let body = match kind {
            kind::EVENT => {
                allow(flag::EXCLUDES | flag::KEEPS)?;
                let exclude = has(flag::EXCLUDES).then(|| reader.socket_id()).transpose()?;
                let keep = has(flag::KEEPS).then(|| reader.u32()).transpose()?;
                Self::Event { exclude, keep, frame: reader.rest() }
            }
            kind::JOIN | kind::DESCRIBE => {
                allow(0)?;
                let (follows, entry) = (reader.u64()?, Entry::take(reader)?);
                let change = if kind == kind::JOIN { Change::Join(entry) } else { Change::Describe(entry) };
                Self::Notice(Notice::Change { follows, change })
            }
            kind::LEAVE => {
                allow(flag::IS_NUMBER)?;
                let (follows, socket_id) = (reader.u64()?, reader.socket_id()?);
                let user_id = take_user_id(reader, flags)?;
                Self::Notice(Notice::Change { follows, change: Change::Leave { socket_id, user_id } })
            }
            kind::COUNT => {
                allow(0)?;
                let (follows, change) = (0, Change::Count(reader.u32()?));
                Self::Notice(Notice::Change { follows, change })
            }
            kind::REPLACE => {
                allow(flag::READ)?;
                Self::Notice(take_replace(reader, has(flag::READ))?)
            }
            kind::GONE => {
                allow(0)?;
                Self::Notice(Notice::Gone(reader.node()?))
            }
            kind::HEARTBEAT => {
                allow(0)?;
                Self::Heartbeat(take_heartbeat(reader)?)
            }
            kind::TERMINATE => {
                allow(flag::IS_NUMBER | flag::PRESENT)?;
                Self::Terminate { user_id: take_user_id(reader, flags)?, present: has(flag::PRESENT) }
            }
            kind::FAREWELL => {
                allow(0)?;
                Self::Farewell
            }
            _ => {
                reader.rest();
                Self::Unknown { version: VERSION, kind }
            }
        };
        reader.end()?;
        Ok(body)
    }

    fn kind_and_flags(&self) -> (u8, u8) {
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        match self {
            Self::Event { exclude, keep, .. } => {
                (kind::EVENT, flag(exclude.is_some(), flag::EXCLUDES) | flag(keep.is_some(), flag::KEEPS))
            }
            Self::Notice(Notice::Change { change, .. }) => match change {
                Change::Join(_) => (kind::JOIN, 0),
                Change::Leave { user_id, .. } => (kind::LEAVE, flag(user_id.is_number(), flag::IS_NUMBER)),
                Change::Describe(_) => (kind::DESCRIBE, 0),
                Change::Count(_) => (kind::COUNT, 0),
            },
            Self::Notice(Notice::Replace { entries, .. }) => {
                (kind::REPLACE, flag(entries.is_none(), flag::READ))
            }
            Self::Notice(Notice::Gone(_)) => (kind::GONE, 0),
            Self::Heartbeat(_) => (kind::HEARTBEAT, 0),
            Self::Terminate { user_id, present } => {
                (kind::TERMINATE, flag(user_id.is_number(), flag::IS_NUMBER) | flag(*present, flag::PRESENT))
            }
            Self::Farewell => (kind::FAREWELL, 0),
            Self::Unknown { kind, .. } => (*kind, 0),
        }
    }

    fn push(&self, out: &mut Vec<u8>) {
        match self {
            Self::Event { exclude, keep, frame } => {
                if let Some(socket_id) = exclude {
                    push_socket_id(out, *socket_id);
                }
                if let Some(data_bytes) = keep {
                    out.extend_from_slice(&data_bytes.to_be_bytes());
                }
                out.extend_from_slice(frame);
            }
            Self::Notice(notice) => notice.push(out),
            Self::Heartbeat(apps) => {
                for (app, connections) in apps.iter().take(HEARTBEAT_APPS_MAX) {
                    push_short(out, app);
                    out.extend_from_slice(&connections.to_be_bytes());
                }
            }
            Self::Terminate { user_id, .. } => push_text(out, user_id.as_str()),
            Self::Farewell | Self::Unknown { .. } => {}
        }
    }
}

impl Notice {
    /// What it counts among the notices that are kept for later: one, and one for each entry in it.
    pub fn weight(&self) -> usize {
        match self {
            Self::Replace { entries: Some(entries), .. } => 1 + entries.len(),
            Self::Replace { .. } | Self::Change { .. } | Self::Gone(_) => 1,
        }
    }

    fn push(&self, out: &mut Vec<u8>) {
        match self {
            Self::Change { follows, change } => match change {
                Change::Join(entry) | Change::Describe(entry) => {
                    out.extend_from_slice(&follows.to_be_bytes());
                    entry.push(out);
                }
                Change::Leave { socket_id, user_id } => {
                    out.extend_from_slice(&follows.to_be_bytes());
                    push_socket_id(out, *socket_id);
                    push_text(out, user_id.as_str());
                }
                Change::Count(count) => out.extend_from_slice(&count.to_be_bytes()),
            },
            Self::Replace { predecessors, count, entries } => {
                let predecessors = predecessors.get(..PREDECESSORS_MAX).unwrap_or(predecessors);
                out.push(predecessors.len() as u8);
                for life in predecessors {
                    out.extend_from_slice(&life.0.to_be_bytes());
                }
                out.extend_from_slice(&count.to_be_bytes());
                for entry in entries.iter().flatten() {
                    entry.push(out);
                }
            }
            Self::Gone(life) => out.extend_from_slice(&life.0.to_be_bytes()),
        }
    }
}

fn push_short(out: &mut Vec<u8>, text: &str) {
    let text = text.get(..text.floor_char_boundary(APP_ID_BYTES_MAX)).unwrap_or_default();
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

fn take_user_id(reader: &mut Reader<'_>, flags: u8) -> Result<UserId, MessageError> {
    let length = reader.u16()?;
    Ok(UserId::from_parts(reader.text(usize::from(length))?, flags & flag::IS_NUMBER != 0))
}

fn take_replace(reader: &mut Reader<'_>, is_in_store: bool) -> Result<Notice, MessageError> {
    let lives = usize::from(reader.u8()?);
    if lives > PREDECESSORS_MAX {
        return Err(MessageError::TooLong);
    }
    let predecessors = (0..lives).map(|_| reader.node()).collect::<Result<_, _>>()?;
    let count = reader.u32()?;
    if is_in_store {
        return Ok(Notice::Replace { predecessors, count, entries: None });
    }
    let mut entries = Vec::new();
    while !reader.0.is_empty() {
        entries.push(Entry::take(reader)?);
    }
    Ok(Notice::Replace { predecessors, count, entries: Some(entries) })
}

fn take_heartbeat<'a>(reader: &mut Reader<'a>) -> Result<Vec<(&'a str, u32)>, MessageError> {
    let mut apps = Vec::new();
    while !reader.0.is_empty() {
        if apps.len() == HEARTBEAT_APPS_MAX {
            return Err(MessageError::TooLong);
        }
        let length = reader.u8()?;
        apps.push((reader.text(usize::from(length))?, reader.u32()?));
    }
    Ok(apps)
}

#[cfg(test)]
mod tests;
