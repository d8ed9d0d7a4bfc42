//! What a channel asks of its node, and what it is answered.

#[cfg(doc)]
use super::ClusterChannel;
use crate::{
    cluster::share::{Change, Entry, Share, Transition},
    presence::{NodeId, Roster, UserId},
    socket_id::SocketId,
};

/// What the node must do for the channel, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask for the topic; [`ClusterChannel::acknowledged`] with the ticket, once it is heard.
    Subscribe {
        /// Names this request.
        ticket: u64,
    },
    /// Give the topic up. The channel is idle.
    Unsubscribe,
    /// Change the own share and say so on the topic, both or neither; only if the share's last change is `follows`, or
    /// `follows` is 0 and the share is empty. For a count it is enough that there is a share, or that `follows` is 0.
    /// Then [`ClusterChannel::done`], else [`ClusterChannel::refused`].
    Change {
        /// The number of the change.
        sequence: u64,
        /// The number before.
        follows: u64,
        /// How.
        change: Change,
    },
    /// Replace the own share, take those of the predecessors away, say so on the topic, and read all shares, as one act.
    /// Then [`ClusterChannel::answered`] with `sequence` as the ticket; [`ClusterChannel::refused`] if the life is over.
    Replace {
        /// The number of the change.
        sequence: u64,
        /// Earlier lives of this node.
        predecessors: Vec<NodeId>,
        /// Its connections, on presence channels.
        entries: Vec<Entry>,
        /// How many.
        count: u32,
        /// What was known before Redis was away, so that it is no news; `None` if this is no return.
        confirmed: Option<Confirmed>,
        /// The other lives whose connections are shown: which of them are over is to be found out, too.
        known: Vec<NodeId>,
    },
    /// Read all shares; [`ClusterChannel::answered`] with the ticket.
    Read {
        /// Names this request.
        ticket: u64,
        /// As in [`Self::Replace`].
        known: Vec<NodeId>,
    },
    /// The connection is on the channel from here on; it hears what comes after and nothing before.
    Enter {
        /// Which.
        socket_id: SocketId,
        /// How many subscribes are answered by it.
        answers: u32,
        /// Who is there, the connection included.
        roster: Roster,
    },
    /// The connection is not let in: the cluster is busy.
    Refuse {
        /// Which.
        socket_id: SocketId,
        /// How many subscribes are answered by it.
        answers: u32,
    },
    /// Tell the connections that have entered.
    Tell(Transition),
    /// So many connections are on the channel now, on channels that know no members.
    Count(u32),
    /// The kept event that came with the answer to the last replacement is the newest there is, as far as the topic was
    /// heard.
    Keep,
    /// This life of the own node is over, the others say: take a new one, for every channel.
    Renew(NodeId),
}

/// Whether the cluster knew of a user before Redis was away. A user who comes while it is away, and one who was leaving
/// when it went, is news in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownUser {
    /// It did not.
    No,
    /// On another node. That is true only as far as Redis has forgotten what this node held: else it knows better.
    Elsewhere,
    /// On this node.
    Here,
}

/// What the cluster knew of a channel before Redis was away, as far as the node still holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Of the user of each entry.
    pub users: Vec<KnownUser>,
    /// This node was on the channel, and not leaving it.
    pub is_occupied: bool,
    /// This node was on the channel.
    pub was_here: bool,
    /// How many connections there were.
    pub count: u32,
    /// Users who were on this node and are not among the entries. Where Redis has forgotten what this node held, nothing
    /// else tells that they have gone.
    pub gone: Vec<UserId>,
}

/// The answer to [`Effect::Replace`] and [`Effect::Read`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// All shares of the channel that are not empty, and the own one if there is any, at one moment.
    pub shares: Vec<Share>,
    /// Of the known lives, those that have a tombstone: another life has taken their place, or they were found dead.
    pub over: Vec<NodeId>,
}
