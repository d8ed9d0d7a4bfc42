//! One channel of the cluster as one node sees it: what is wanted, heard and answered goes in, what is to be done comes
//! out. The same for presence channels, for channels that only count, and for users who are watched.
//!
//! | state | Redis | own changes | notices |
//! |---|---|---|---|
//! | idle | nothing asked of it | | |
//! | subscribing | topic asked for | wait | none come |
//! | reading | shares asked for | travel, count when read or heard | kept |
//! | live | topic is heard | travel, count when heard | count at once |
//! | away | gone | count at once, for this node alone | none come |
//! | returning | back, topic asked for | as away | none come |
//!
//! A watched user is such a channel, too: the connections that are signed in as the user are its members, and those who
//! watch are observers, who see the roster and hear of its transitions but stand in no share.

mod away;
mod effect;
mod reading;
mod wanting;

use std::{
    collections::{HashSet, VecDeque},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use self::away::Before;
pub use self::effect::{Answer, Confirmed, Effect, KnownUser};
use super::{
    message::Notice,
    share::{Change, Entry},
    shares::Shares,
};
use crate::{
    channel::ChannelKind,
    presence::{NodeId, Roster, UserId},
    socket_id::SocketId,
};

/// A connection that cannot enter within this time is refused.
pub const ENTER_TIMEOUT: Duration = Duration::from_secs(2);
/// A topic that nobody needs is kept for this long.
pub const LINGER: Duration = Duration::from_secs(5);
/// After Redis was away, shares that it does not have are shown for this long, so that their owners can bring them.
pub const SETTLING: Duration = Duration::from_secs(4);
/// Notices, and entries in them, that are kept while shares are read. With more, they are read again.
pub const KEPT_MAX: usize = 16_384;
/// Connections that wait to enter one channel of one node.
pub const WAITING_MAX: usize = 65_536;
/// So often in a row shares are read again because of what was missing in them.
const READS_MAX: u8 = 3;

/// What a call needs besides the channel: the time, numbers, and room for the effects.
#[derive(Debug)]
pub struct Context<'a> {
    /// Now.
    pub now: Instant,
    /// The last number given to a change or a request by this node, over all channels. Of one channel's numbers the later
    /// is always the larger, however many threads count: whoever calls holds the channel alone.
    pub sequence: &'a AtomicU64,
    /// What is to be done.
    pub effects: &'a mut Vec<Effect>,
}

impl Context<'_> {
    fn next(&mut self) -> u64 {
        self.sequence.fetch_add(1, Relaxed) + 1
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Subscribing { ticket: u64 },
    Reading { ticket: u64, is_overrun: bool },
    Live,
    Away,
    Returning { ticket: u64 },
}

/// What a connection wants and the cluster does not know yet.
#[derive(Clone, Debug)]
struct Want {
    /// The number of the change; 0: has not travelled.
    sequence: u64,
    what: What,
    /// Subscribes that wait for it.
    answers: u32,
    /// Until when.
    deadline: Instant,
    /// Nobody waits for it any more.
    is_void: bool,
}

#[derive(Clone, Debug)]
enum What {
    /// To be let in; without an entry where there are no members, or to observe.
    Enter(SocketId, Option<Entry>, Role),
    /// A change of a connection that has entered.
    Change(Change),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Subscriber,
    Observer,
}

/// One channel of the cluster on one node.
#[derive(Debug)]
pub struct ClusterChannel {
    life: NodeId,
    is_presence: bool,
    is_cache: bool,
    state: State,
    shares: Shares,
    wants: VecDeque<Want>,
    kept: VecDeque<(NodeId, u64, Notice)>,
    kept_weight: usize,
    /// The number of the own last change; 0 if there was none.
    last: u64,
    /// The number of the own last replacement.
    replaced: u64,
    /// That replacement was heard on the topic.
    is_marked: bool,
    /// A kept event was heard after that.
    is_newer_kept: bool,
    /// What is kept has been read, and is ahead of the topic until that replacement is heard.
    is_keep_due: bool,
    /// The store may hold an own share that is not empty.
    is_stored: bool,
    /// Connections that have entered, where there are no members.
    entered: u32,
    /// The count that was sent last, and whether it is on its way.
    sent_count: u32,
    count_under_way: Option<u64>,
    told_count: u32,
    observers: u32,
    predecessors: Vec<NodeId>,
    /// The last count that the store is known to have.
    stored_count: u32,
    /// What the cluster last knew, while Redis is away.
    before: Option<Before>,
    settles_at: Option<Instant>,
    unneeded_since: Option<Instant>,
    reads: u8,
}

impl ClusterChannel {
    /// A channel that nobody wants anything of. `life` is the node's.
    pub fn new(life: NodeId, kind: ChannelKind) -> Self {
        Self::with(life, kind.is_presence(), kind.is_cache())
    }

    /// A user who signs in and is watched.
    pub fn watched_user(life: NodeId) -> Self {
        Self::with(life, true, false)
    }

    fn with(life: NodeId, is_presence: bool, is_cache: bool) -> Self {
        Self {
            life,
            is_presence,
            is_cache,
            state: State::Idle,
            shares: Shares::default(),
            wants: VecDeque::new(),
            kept: VecDeque::new(),
            kept_weight: 0,
            last: 0,
            replaced: 0,
            is_marked: false,
            is_newer_kept: false,
            is_keep_due: false,
            is_stored: false,
            entered: 0,
            sent_count: 0,
            count_under_way: None,
            told_count: 0,
            observers: 0,
            predecessors: Vec::new(),
            stored_count: 0,
            before: None,
            settles_at: None,
            unneeded_since: None,
            reads: 0,
        }
    }

    /// Whether it can be dropped: it holds no topic and nothing is owed.
    pub fn is_idle(&self) -> bool {
        let is_owed = self.is_wanted() || self.is_stored || !self.predecessors.is_empty();
        self.state == State::Idle || (self.state == State::Away && !is_owed)
    }

    /// Whether nothing comes of [`Self::tick`] until something else has happened.
    pub fn is_at_rest(&self) -> bool {
        let is_restless = self.state == State::Live && (self.settles_at.is_some() || !self.is_needed());
        self.wants.is_empty() && !is_restless
    }

    /// Whether it has members, and not only a count.
    pub const fn is_presence(&self) -> bool {
        self.is_presence
    }

    /// Whether [`Effect::Keep`] is still to come for an answer that was taken in.
    pub const fn is_keep_due(&self) -> bool {
        self.is_keep_due
    }

    /// Whether it hears its topic and knows all shares: what it says of the cluster is true.
    pub fn is_live(&self) -> bool {
        self.state == State::Live
    }

    /// Whether the store may hold a share of this node, of this life or of earlier ones, that is not empty.
    pub const fn may_be_stored(&self) -> bool {
        self.is_stored || !self.predecessors.is_empty()
    }

    /// Who is on the channel, as far as this node knows.
    pub const fn roster(&self) -> &Roster {
        self.shares.roster()
    }

    /// How many connections are on the channel of all nodes.
    pub fn count(&self) -> u32 {
        if self.is_presence {
            return self.shares.count();
        }
        let others = self.shares.count().saturating_sub(self.shares.count_of(self.life));
        others.saturating_add(self.entered)
    }

    /// The other lives with connections on the channel.
    pub fn lives(&self) -> impl Iterator<Item = NodeId> {
        self.shares.lives().filter(|life| *life != self.life)
    }

    /// Notices that are kept, with the entries in them.
    pub const fn kept(&self) -> usize {
        self.kept_weight
    }

    /// The topic is heard from here on.
    pub fn acknowledged(&mut self, ticket: u64, cx: &mut Context<'_>) {
        match self.state {
            State::Subscribing { ticket: asked } if asked == ticket => {
                if !self.is_wanted() {
                    self.state = State::Idle;
                    cx.effects.push(Effect::Unsubscribe);
                    return;
                }
                if !self.is_presence && !self.is_cache {
                    self.enter_all(cx);
                }
            }
            State::Returning { ticket: asked } if asked == ticket => {
                self.settles_at = Some(cx.now + SETTLING);
            }
            State::Idle
            | State::Subscribing { .. }
            | State::Reading { .. }
            | State::Live
            | State::Away
            | State::Returning { .. } => return,
        }
        // A mark of before says nothing of what was missed since.
        (self.is_marked, self.is_newer_kept, self.is_keep_due) = (false, false, false);
        self.replaced = 0;
        if self.has_wanted_share() || self.is_stored || self.own_count() > 0 {
            self.replace(cx);
        } else {
            self.read(cx);
        }
    }

    /// Time has passed: who has waited for too long is refused, what nobody needs is given up.
    pub fn tick(&mut self, cx: &mut Context<'_>) {
        self.refuse_late(cx);
        if self.state != State::Live {
            return;
        }
        if self.settles_at.is_some_and(|at| at <= cx.now) {
            if self.shares.has_missing() {
                return self.read(cx);
            }
            self.settles_at = None;
        }
        if self.is_needed() {
            self.unneeded_since = None;
            return;
        }
        let since = *self.unneeded_since.get_or_insert(cx.now);
        if cx.now.saturating_duration_since(since) >= LINGER {
            self.state = State::Idle;
            cx.effects.push(Effect::Unsubscribe);
        }
    }

    fn is_needed(&self) -> bool {
        self.is_wanted() || self.is_stored || self.count_under_way.is_some()
    }

    /// Whether any connection of this node is on the channel, or wants something of it.
    fn is_wanted(&self) -> bool {
        self.observers > 0 || !self.wants.is_empty() || self.own_count() > 0
    }

    /// Whether somebody waits who will stand in the own share.
    fn has_wanted_share(&self) -> bool {
        self.wants.iter().any(|want| match &want.what {
            What::Enter(_, _, role) => *role == Role::Subscriber,
            What::Change(_) => true,
        })
    }

    /// Whether newcomers could not know what is kept: the topic has been heard for observers alone, who have put no mark
    /// on it.
    const fn lacks_mark(&self) -> bool {
        self.is_cache && !self.is_marked && self.replaced == 0
    }

    /// How many connections of this node are on the channel. A count that nobody is told of is not heard on the topic
    /// either, so where there are no members the own share is not asked.
    fn own_count(&self) -> u32 {
        if self.is_presence { self.shares.count_of(self.life) } else { self.entered }
    }
}

#[cfg(test)]
mod tests;
