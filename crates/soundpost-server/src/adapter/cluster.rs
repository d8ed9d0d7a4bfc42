//! What delivery and an adapter of several nodes share: which life of the node this is, whether the store is there, and
//! what the channels ask of it.
//!
//! Delivery asks while it holds a channel's lock, so what one channel asks comes out in the order it was asked. The
//! adapter takes it out on a thread of its own and answers by [`Hearing`].

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use soundpost_protocol::{
    cluster::{
        channel::{Answer, Effect},
        message::Notice,
    },
    presence::NodeId,
    socket_id::SocketId,
    webhook::event::Encoded,
    websocket::Frame,
};
use tokio::sync::Notify;

use super::Broadcast;
use crate::apps::{AppIndex, ChannelKey, UserKey};

/// What a topic is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A channel: its events, and who is on it.
    Channel(Arc<ChannelKey>),
    /// A user who signs in and may be watched: whether any connection is signed in as that user.
    User(UserKey),
}

/// Something a channel wants done by the adapter.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Of which topic.
    pub subject: Subject,
    /// The life that wants it.
    pub life: NodeId,
    /// One of [`Effect::Subscribe`], [`Effect::Unsubscribe`], [`Effect::Change`], [`Effect::Replace`] and
    /// [`Effect::Read`]: the others are carried out by delivery.
    pub effect: Effect,
    /// Other nodes need not hear of a change of the count, because nobody is told.
    pub is_silent: bool,
}

/// What delivery and an adapter of several nodes share.
#[derive(Debug)]
pub struct Cluster {
    life: AtomicU64,
    sequence: AtomicU64,
    is_away: AtomicBool,
    /// A life that is over: the adapter has to take a new one.
    over: Mutex<Option<NodeId>>,
    asks: Mutex<VecDeque<Ask>>,
    asked: Notify,
}

impl Cluster {
    /// For the first life of a node that has not reached the store yet.
    pub fn new(life: NodeId) -> Self {
        Self {
            life: AtomicU64::new(life.0),
            sequence: AtomicU64::new(0),
            is_away: AtomicBool::new(true),
            over: Mutex::default(),
            asks: Mutex::default(),
            asked: Notify::new(),
        }
    }

    /// The life that new channels begin with.
    pub fn life(&self) -> NodeId {
        NodeId(self.life.load(Ordering::Acquire))
    }

    /// The numbers of changes and requests.
    pub const fn sequence(&self) -> &AtomicU64 {
        &self.sequence
    }

    /// Whether the store is away: then a new channel is told so before anything else.
    pub fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Acquire)
    }

    /// Asks something of the adapter. Nothing is asked while the store is away: every channel asks again when it is back.
    pub fn ask(&self, ask: Ask) {
        if self.is_away() {
            return;
        }
        let was_empty = {
            let asks = &mut *self.asks.lock();
            asks.push_back(ask);
            asks.len() == 1
        };
        // What is there already has woken the adapter, or waits for room in its window.
        if was_empty {
            self.asked.notify_one();
        }
    }

    /// A channel has learnt that the others take this life of the node for over.
    pub fn renounce(&self, life: NodeId) {
        // One that is over anyway must not hide that this one is.
        if life == self.life() {
            *self.over.lock() = Some(life);
            self.asked.notify_one();
        }
    }

    /// For the adapter: takes all that was asked, in its order; `into` must be empty.
    pub fn take(&self, into: &mut VecDeque<Ask>) {
        std::mem::swap(&mut *self.asks.lock(), into);
    }

    /// For the adapter: how much was asked and not taken yet.
    pub fn waiting(&self) -> usize {
        self.asks.lock().len()
    }

    /// For the adapter: whether this life is over, as a channel has learnt. Says so once.
    pub fn take_renounced(&self) -> Option<NodeId> {
        self.over.lock().take()
    }

    /// For the adapter: waits until something was asked since the last call. Cancel safe.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// For the adapter: the store is away from now on, and what was asked is forgotten. Then [`Hearing::lost`].
    pub fn leave(&self) {
        self.is_away.store(true, Ordering::Release);
        self.asks.lock().clear();
    }

    /// For the adapter: the store is there from now on. Then [`Hearing::back`].
    pub fn enter(&self) {
        self.asks.lock().clear();
        self.is_away.store(false, Ordering::Release);
    }

    /// For the adapter: the node has a new life from now on. Then [`Hearing::renew`].
    pub fn renew(&self, life: NodeId) {
        self.life.store(life.0, Ordering::Release);
    }
}

/// An event that came over the topic of its channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeardEvent {
    /// As clients get it.
    pub frame: Frame,
    /// The connection that does not get it, wherever it is.
    pub exclude: Option<SocketId>,
    /// For cache channels, if it is to be kept: how many bytes of the frame are its `data`.
    pub keep: Option<usize>,
}

/// The event that the store keeps for the newcomers of a cache channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptFrame {
    /// As clients get it.
    pub frame: Frame,
    /// How many bytes of the frame are its `data`.
    pub data_bytes: usize,
    /// How long it is still kept, milliseconds.
    pub milliseconds: u64,
}

/// What an adapter of several nodes calls with what it hears. Delivery implements it; every call is short, none waits.
/// All come from the adapter's thread, those of one subject in the order of its topic.
pub trait Hearing: Send + Sync + fmt::Debug {
    /// An event has come. All connections of this node that are on the channel get it, but the excluded one.
    fn event(&self, channel: &Arc<ChannelKey>, event: HeardEvent);

    /// An event that is kept has come which this node has delivered before: nobody gets it again, but it stands in the
    /// store now. `is_newest`: this node has delivered no later one of the channel that is still to come.
    fn kept(&self, channel: &Arc<ChannelKey>, frame: &Frame, data_bytes: usize, is_newest: bool);

    /// Something about who is there has come.
    fn notice(&self, subject: &Subject, life: NodeId, sequence: u64, notice: Notice);

    /// The topic is heard from here on: the answer to [`Effect::Subscribe`] with this ticket.
    fn acknowledged(&self, subject: &Subject, ticket: u64);

    /// The answer to [`Effect::Replace`] and [`Effect::Read`], with what is kept if it is a cache channel.
    fn answered(&self, subject: &Subject, ticket: u64, answer: Answer, kept: Option<KeptFrame>);

    /// A change was made.
    fn done(&self, subject: &Subject, sequence: u64);

    /// A change of this life was not made; `is_over`: because others have declared the life dead.
    fn refused(&self, subject: &Subject, life: NodeId, sequence: u64, is_over: bool);

    /// The store is away.
    fn lost(&self);

    /// The store is there again.
    fn back(&self);

    /// The node has another life. [`Self::back`] follows if the store is there.
    fn renew(&self, life: NodeId);

    /// A quarter of a second has passed.
    fn tick(&self);

    /// The shares of this life are gone: who still shows one has missed that.
    fn ended(&self, life: NodeId);

    /// Every connection of the user ends; with `present`, those on presence channels as this user, too.
    fn terminate(&self, user: &UserKey, present: bool);

    /// A client event that was taken did not reach the cluster for certain.
    fn relay_failed(&self, sender: SocketId, channel: &ChannelKey);

    /// Webhooks are to be told of an event that was published, and the store was not told so in the same act.
    fn note(&self, app: AppIndex, event: &Encoded);

    /// Webhooks of this app have something new in the store.
    fn has_told(&self, app: AppIndex);

    /// Whether this node has noted something for webhooks that the store does not have yet.
    fn has_noted(&self) -> bool;

    /// Delivers on this node alone, because the store is away or the settings want it at once, and notes what webhooks are
    /// told of it. False: no room, and the one that found none and those after it are not delivered.
    fn deliver_here(&self, broadcasts: &[Broadcast]) -> bool;

    /// Whether the inboxes of this node have room for events. While they have none, the adapter reads no further.
    fn has_room(&self) -> bool;

    /// Whether nothing of this node is in the store any more, so that a farewell would be true.
    fn has_left(&self) -> bool;

    /// Every subject of which this node may have a share in the store: what its index there should hold.
    fn subjects(&self) -> Vec<Subject>;
}
