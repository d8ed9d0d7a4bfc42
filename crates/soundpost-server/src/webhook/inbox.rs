//! What has happened and nobody was told of yet.

use std::{
    collections::VecDeque,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use parking_lot::Mutex;
use soundpost_protocol::{
    channel::ChannelName,
    presence::NodeId,
    webhook::{
        event::{Encoded, Event, EventId},
        hold::Subject,
    },
};
use tokio::sync::Notify;

use crate::apps::AppIndex;

/// Happenings that wait. Beyond it new ones are not taken.
const HAPPENINGS_MAX: usize = 100_000;
/// Their bytes.
const HAPPENINGS_BYTES_MAX: usize = 32 << 20;
/// What a happening takes beside its texts, bytes.
const OVERHEAD: usize = 128;

/// Something that webhooks tell of.
#[derive(Clone, Debug)]
pub struct Happening {
    /// To whose app.
    pub app: AppIndex,
    /// When.
    pub at: Instant,
    /// What.
    pub what: What,
}

/// What has happened.
#[derive(Clone, Debug)]
pub enum What {
    /// The first connection has come to a channel, or of a user. Only on a node that is alone: where there are several,
    /// Redis knows who comes and goes.
    Came(Subject),
    /// The last has gone. As above.
    Left(Subject),
    /// Something to be told as it is.
    Event(Noted),
    /// The streams of the app's webhooks have something new. Only where there are several nodes.
    Told,
}

/// An event that this node has noted. As long as it is kept, the node [has noted](Inbox::has_noted) something.
#[derive(Clone, Debug)]
pub struct Noted {
    event: Encoded,
    _kept: Arc<()>,
}

#[cfg(test)]
impl From<Encoded> for Noted {
    fn from(event: Encoded) -> Self {
        Self { event, _kept: Arc::default() }
    }
}

impl Deref for Noted {
    type Target = Encoded;

    fn deref(&self) -> &Encoded {
        &self.event
    }
}

impl What {
    fn bytes(&self) -> usize {
        OVERHEAD
            + match self {
                Self::Came(Subject::Channel(channel)) | Self::Left(Subject::Channel(channel)) => {
                    channel.as_str().len()
                }
                Self::Came(Subject::Member(channel, user)) | Self::Left(Subject::Member(channel, user)) => {
                    channel.as_str().len() + user.as_str().len()
                }
                Self::Event(event) => event.json.len() + event.channel.as_str().len(),
                Self::Told => 0,
            }
    }
}

/// What has happened, in its order, until the main thread takes it. Workers note under a channel's lock, so what
/// happens on one channel stands in its true order.
#[derive(Debug)]
pub struct Inbox {
    life: NodeId,
    last_id: AtomicU64,
    list: Mutex<List>,
    filled: Notify,
    refused: AtomicU64,
    /// Counts the events that are noted and kept.
    kept: Arc<()>,
}

#[derive(Debug, Default)]
struct List {
    happenings: VecDeque<Happening>,
    bytes: usize,
}

impl Inbox {
    /// For this life of the node, which with a number names each event.
    pub fn new(life: NodeId) -> Self {
        let (list, filled) = (Mutex::default(), Notify::new());
        Self {
            life,
            last_id: AtomicU64::new(0),
            list,
            filled,
            refused: AtomicU64::new(0),
            kept: Arc::default(),
        }
    }

    /// Notes that somebody has come. Whether any webhook wants to know is for the caller to ask, here and below.
    pub fn came(&self, app: AppIndex, subject: Subject, at: Instant) {
        self.put(Happening { app, at, what: What::Came(subject) });
    }

    /// Notes that somebody has gone.
    pub fn left(&self, app: AppIndex, subject: Subject, at: Instant) {
        self.put(Happening { app, at, what: What::Left(subject) });
    }

    /// Notes an event.
    pub fn event(&self, app: AppIndex, event: &Event<'_>, channel: &ChannelName, at: Instant) {
        self.note(app, &self.encode(event, channel), at);
    }

    /// Notes an event that was encoded before. Noted twice, it has the same id.
    pub fn note(&self, app: AppIndex, event: &Encoded, at: Instant) {
        let noted = Noted { event: event.clone(), _kept: Arc::clone(&self.kept) };
        self.put(Happening { app, at, what: What::Event(noted) });
    }

    /// Whether anything that was noted is kept by this node still: here, or wherever it was taken to.
    pub fn has_noted(&self) -> bool {
        Arc::strong_count(&self.kept) > 1
    }

    /// Notes that the streams of the app's webhooks have something new.
    pub fn has_told(&self, app: AppIndex, at: Instant) {
        self.put(Happening { app, at, what: What::Told });
    }

    /// The event, with an id of its own.
    pub fn encode(&self, event: &Event<'_>, channel: &ChannelName) -> Encoded {
        let number = self.last_id.fetch_add(1, Relaxed) + 1;
        event.encode(EventId { life: self.life, number }, channel)
    }

    /// Happenings that found no room.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    fn put(&self, happening: Happening) {
        let bytes = happening.what.bytes();
        let mut list = self.list.lock();
        let is_said = |last: &Happening| matches!(last.what, What::Told) && last.app == happening.app;
        if matches!(happening.what, What::Told) && list.happenings.back().is_some_and(is_said) {
            return;
        }
        if list.happenings.len() >= HAPPENINGS_MAX || list.bytes + bytes > HAPPENINGS_BYTES_MAX {
            drop(list);
            self.refused.fetch_add(1, Relaxed);
            return;
        }
        list.bytes += bytes;
        list.happenings.push_back(happening);
        let is_first = list.happenings.len() == 1;
        drop(list);
        if is_first {
            self.filled.notify_one();
        }
    }

    /// Takes all there is, in its order; `into` must be empty.
    pub fn take(&self, into: &mut VecDeque<Happening>) {
        let list = &mut *self.list.lock();
        std::mem::swap(&mut list.happenings, into);
        list.bytes = 0;
    }

    /// Waits until something was noted since the last call. Cancel safe.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use soundpost_protocol::app::Limits;

    use super::*;
    use crate::apps::Apps;

    fn app() -> AppIndex {
        use soundpost_protocol::app::{App, AppId, AppKey, AppSecret};
        let name = || (AppId::parse("a").unwrap(), AppKey::parse("a").unwrap());
        let (id, key) = name();
        let apps = Apps::new(vec![App::new(id, key, AppSecret::new("secret"))], 1);
        apps.table().all()[0].index
    }

    #[test]
    fn happenings_come_out_in_their_order_with_ids_of_their_own() {
        let (inbox, app, now) = (Inbox::new(NodeId(7)), app(), Instant::now());
        let channel = ChannelName::parse("orders", &Limits::default()).unwrap();
        inbox.came(app, Subject::Channel(channel.clone()), now);
        inbox.event(app, &Event::CacheMiss, &channel, now);
        inbox.event(app, &Event::CacheMiss, &channel, now);
        let mut taken = VecDeque::new();
        inbox.take(&mut taken);
        let numbers: Vec<_> = taken
            .iter()
            .map(|happening| match &happening.what {
                What::Event(event) => event.id.number,
                What::Came(_) | What::Left(_) | What::Told => 0,
            })
            .collect();
        assert_eq!(numbers, [0, 1, 2]);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let (inbox, app, now) = (Inbox::new(NodeId(7)), app(), Instant::now());
        let channel = ChannelName::parse("orders", &Limits::default()).unwrap();
        for _ in 0..=HAPPENINGS_MAX {
            inbox.left(app, Subject::Channel(channel.clone()), now);
        }
        assert_eq!(inbox.refused(), 1);
        let mut taken = VecDeque::new();
        inbox.take(&mut taken);
        assert_eq!(taken.len(), HAPPENINGS_MAX);
        inbox.left(app, Subject::Channel(channel), now);
        assert_eq!(inbox.refused(), 1);
    }
}
