//! What has happened and nobody was told of yet.

use std::{
    collections::{HashMap, VecDeque},
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use foldhash::quality::RandomState;
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

/// Happenings that wait, of all apps. Beyond it new ones are not taken.
const HAPPENINGS_MAX: usize = 100_000;
/// Their bytes.
const HAPPENINGS_BYTES_MAX: usize = 32 << 20;
/// An app may have this many times as much as is free. One alone has three quarters at most, two have three sevenths each,
/// and so on: whoever comes next finds room.
const SHARE: usize = 3;
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
    /// Counts the events that are noted and kept.
    kept: Arc<()>,
}

#[derive(Debug, Default)]
struct List {
    happenings: VecDeque<Happening>,
    bytes: usize,
    /// How much of it is whose.
    fills: HashMap<AppIndex, Fill, RandomState>,
    /// How many found no room, since that was asked last.
    refused: HashMap<AppIndex, u64, RandomState>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Fill {
    happenings: usize,
    bytes: usize,
}

impl List {
    /// Counts one more happening of the app in, if there is room for it.
    fn admit(&mut self, app: AppIndex, bytes: usize) -> bool {
        let fill = self.fills.entry(app).or_default();
        let free = HAPPENINGS_MAX.saturating_sub(self.happenings.len());
        let free_bytes = HAPPENINGS_BYTES_MAX.saturating_sub(self.bytes + bytes);
        if fill.happenings >= SHARE * free || fill.bytes + bytes > SHARE * free_bytes {
            return false;
        }
        fill.happenings += 1;
        fill.bytes += bytes;
        self.bytes += bytes;
        true
    }
}

impl Inbox {
    /// For this life of the node, which with a number names each event.
    pub fn new(life: NodeId) -> Self {
        let (list, filled) = (Mutex::default(), Notify::new());
        Self { life, last_id: AtomicU64::new(0), list, filled, kept: Arc::default() }
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

    fn put(&self, happening: Happening) {
        let (app, bytes) = (happening.app, happening.what.bytes());
        let is_hint = matches!(happening.what, What::Told);
        let list = &mut *self.list.lock();
        let is_said = |last: &Happening| matches!(last.what, What::Told) && last.app == app;
        if is_hint && list.happenings.back().is_some_and(is_said) {
            return;
        }
        if !list.admit(app, bytes) {
            // Of a hint nothing is lost: the streams are looked at anyhow.
            if !is_hint {
                *list.refused.entry(app).or_default() += 1;
            }
            return;
        }
        list.happenings.push_back(happening);
        if list.happenings.len() == 1 {
            self.filled.notify_one();
        }
    }

    /// Takes all there is, in its order; `into` must be empty.
    pub fn take(&self, into: &mut VecDeque<Happening>) {
        let list = &mut *self.list.lock();
        std::mem::swap(&mut list.happenings, into);
        list.bytes = 0;
        list.fills.clear();
    }

    /// How many happenings of each app found no room, since this was asked last.
    pub fn take_refused(&self) -> HashMap<AppIndex, u64, RandomState> {
        std::mem::take(&mut self.list.lock().refused)
    }

    /// Waits until something was noted since the last call. Cancel safe.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use soundpost_protocol::{app::Limits, socket_id::SocketId};

    use super::*;
    use crate::apps::Apps;

    fn apps<const COUNT: usize>() -> [AppIndex; COUNT] {
        use soundpost_protocol::app::{App, AppId, AppKey, AppSecret};
        let app = |number: usize| {
            let name = format!("a{number}");
            App::new(AppId::parse(&name).unwrap(), AppKey::parse(&name).unwrap(), AppSecret::new("secret"))
        };
        let apps = Apps::new((0..COUNT).map(app).collect(), 1);
        std::array::from_fn(|number| apps.by_id(&format!("a{number}")).unwrap().index)
    }

    fn channel() -> ChannelName {
        ChannelName::parse("orders", &Limits::default()).unwrap()
    }

    /// So many happenings of an app; how many of them found no room.
    fn flood(inbox: &Inbox, app: AppIndex, happenings: usize) -> u64 {
        for _ in 0..happenings {
            inbox.left(app, Subject::Channel(channel()), Instant::now());
        }
        inbox.take_refused().remove(&app).unwrap_or(0)
    }

    #[test]
    fn happenings_come_out_in_their_order_with_ids_of_their_own() {
        let (inbox, [app], now) = (Inbox::new(NodeId(7)), apps(), Instant::now());
        let channel = channel();
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
    fn who_floods_it_leaves_room_for_the_others() {
        let (inbox, [one, two, three]) = (Inbox::new(NodeId(7)), apps());
        // What is left is a third of what it has.
        assert_eq!(flood(&inbox, one, 100_000), 25_000);
        // The next has three times what is left then, and so on.
        assert_eq!(flood(&inbox, two, 100_000), 100_000 - 18_750);
        assert_eq!(flood(&inbox, three, 4000), 0);
        assert_eq!(flood(&inbox, one, 10), 10);
        assert_eq!(inbox.take_refused().len(), 0, "said once");
        let mut taken = VecDeque::new();
        inbox.take(&mut taken);
        assert_eq!(taken.len(), 75_000 + 18_750 + 4000);
        assert_eq!(flood(&inbox, one, 75_000), 0, "all is free again");
    }

    #[test]
    fn bytes_are_shared_like_happenings() {
        let (inbox, [one, two], now) = (Inbox::new(NodeId(7)), apps(), Instant::now());
        let event = |megabytes: usize| {
            let data = format!("\"{}\"", "x".repeat((megabytes << 20) - 1000));
            let socket_id = SocketId { left: 1, right: 2 };
            let event = Event::ClientEvent { event: "client-x", data: Some(&data), socket_id, user_id: None };
            inbox.encode(&event, &channel())
        };
        let (large, largest) = (event(1), event(16));
        inbox.note(one, &largest, now);
        (0..20).for_each(|_| inbox.note(one, &large, now));
        // 24 of 32 MiB.
        assert_eq!(inbox.take_refused().remove(&one), Some(12));
        (0..7).for_each(|_| inbox.note(two, &large, now));
        assert_eq!(inbox.take_refused().remove(&two), Some(1));
        assert_eq!(inbox.list.lock().bytes >> 20, 29);
    }

    #[test]
    fn a_hint_is_given_once_in_a_row_and_not_missed() {
        let (inbox, [one, two], now) = (Inbox::new(NodeId(7)), apps(), Instant::now());
        for app in [one, one, two, two, one] {
            inbox.has_told(app, now);
        }
        let mut taken = VecDeque::new();
        inbox.take(&mut taken);
        assert_eq!(taken.iter().map(|happening| happening.app).collect::<Vec<_>>(), [one, two, one]);
        flood(&inbox, one, 80_000);
        inbox.has_told(one, now);
        assert_eq!(inbox.take_refused().len(), 0);
    }

    #[test]
    fn what_was_noted_is_noted_as_long_as_anybody_keeps_it() {
        let (inbox, [app], now) = (Inbox::new(NodeId(7)), apps(), Instant::now());
        inbox.left(app, Subject::Channel(channel()), now);
        assert!(!inbox.has_noted(), "of events alone");
        inbox.event(app, &Event::CacheMiss, &channel(), now);
        let mut taken = VecDeque::new();
        inbox.take(&mut taken);
        let kept = taken.clone();
        drop(taken);
        assert!(inbox.has_noted());
        drop(kept);
        assert!(!inbox.has_noted());
    }
}
