//! What reaches the workers' inboxes: joins, leaves, counts, users and kept events, without a socket.

pub(super) mod hooks;

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use soundpost_protocol::{
    app::{App, AppId, AppKey, AppSecret, Limits},
    channel::ChannelName,
    presence::{Member, NodeId, UserId},
    server_frame::{self, SubscriptionFailure},
    socket_id::SocketId,
    user::User,
    websocket::Frame,
};

use super::*;
use crate::{
    adapter::{Broadcast, Keep},
    apps::{AppIndex, Apps, ChannelKey, UserKey, WorkerId},
    cache::Cache,
};

/// A node of two workers whose inboxes nobody empties but the test.
struct Stage {
    delivery: Delivery,
    app: AppIndex,
    cache: Arc<Cache>,
    tells_count: bool,
    hears: Hears,
    hold: Duration,
    members_max: Option<NonZeroU32>,
}

impl Stage {
    fn new() -> Self {
        let app = App::new(AppId::parse("a").unwrap(), AppKey::parse("k").unwrap(), AppSecret::new("s"));
        let app = Apps::new(vec![app], 1).by_id("a").unwrap().index;
        let delivery = Delivery::new(2, Reach::Local(NodeId(1)));
        let cache = Arc::new(Cache::new(10_000, Duration::from_secs(60)));
        Self {
            delivery,
            app,
            cache,
            tells_count: false,
            hears: Hears::NOTHING,
            hold: Duration::ZERO,
            members_max: None,
        }
    }

    fn key(&self, name: &str) -> ChannelKey {
        ChannelKey { app: self.app, name: ChannelName::parse(name, &Limits::default()).unwrap() }
    }

    fn joiner(n: u32) -> Joiner {
        let worker = WorkerId(u8::try_from(n % 2).unwrap());
        let connection = ConnectionRef::new(n, 1);
        Joiner { worker, connection, socket_id: connection.socket_id(worker, 1) }
    }

    fn join(&self, n: u32, channel: &str, user: Option<&str>) -> Result<(), SubscriptionFailure> {
        let joining = user.map(|user| Joining {
            member: Arc::new(Member { user_id: UserId::from_text(user), user_info: None }),
            joined_at: u64::from(n),
            members_max: self.members_max,
        });
        let mut wakes = self.delivery.wakes();
        let key = self.key(channel);
        {
            let company = Company { cache: &self.cache, tells_count: self.tells_count, hears: self.hears };
            self.delivery.join(Self::joiner(n), key, n, joining, company, &mut wakes).map(|_| ())
        }
    }

    fn leave(&self, n: u32, channel: &str, user: Option<&str>) {
        self.leave_as(n, channel, user, false);
    }

    fn leave_as(&self, n: u32, channel: &str, user: Option<&str>, is_quiet: bool) {
        let user_id = user.map(UserId::from_text);
        let Self { hold, tells_count, hears, .. } = *self;
        let leaving = Leaving { user_id: user_id.as_ref(), is_quiet, hold, tells_count, hears };
        self.delivery.leave(Self::joiner(n), &self.key(channel), &leaving, &mut self.delivery.wakes());
    }

    fn publish(&self, channel: &str, data: &str) {
        let key = self.key(channel);
        let frame = server_frame::event(&key.name, "e", data);
        let keep = Some(Keep { data_bytes: data.len(), cache: Arc::clone(&self.cache) });
        self.delivery.trigger(&[Broadcast { key, frame, exclude: None, keep, told: None }]).unwrap();
    }

    /// Everything in a worker's inbox, each item in a few words.
    fn take(&self, worker: u8) -> Vec<String> {
        let mut items = VecDeque::new();
        self.delivery.inboxes.of(WorkerId(worker)).take(&mut items);
        let text = |frame: &Frame| String::from_utf8(frame.payload().to_vec()).unwrap();
        let part = |frame: &Frame| {
            let text = text(frame);
            let name = text.split('"').nth(3).unwrap().rsplit(':').next().unwrap().to_owned();
            let data = text.rsplit_once(r#""data":"#).unwrap().1.trim_end_matches('}').replace('\\', "");
            format!("{name} {}", data.trim_matches('"').trim_end_matches(['}', ']']))
        };
        items
            .iter()
            .map(|item| match item {
                Item::Event { frame, .. } => part(frame),
                Item::Notice { frame, roster_version, .. } => format!("{} v{roster_version}", part(frame)),
                Item::Join { ticket, cached, .. } => {
                    format!(
                        "join {ticket}{}",
                        cached.as_ref().map_or(String::new(), |f| format!(" + {}", part(f)))
                    )
                }
                Item::Rejoin { .. } => "rejoin".to_owned(),
                Item::Refuse { ticket, .. } => format!("refuse {ticket}"),
                Item::RelayFailed { connection, channel } => format!("failed {connection} {channel}"),
                Item::Admit => "admit".to_owned(),
                Item::Tell { frame, .. } => format!("tell {}", part(frame)),
                Item::Terminate { connection } => format!("terminate {connection}"),
            })
            .collect()
    }

    /// Carries out what is due `seconds` from now.
    fn pass(&self, seconds: u64) {
        let then = Instant::now() + Duration::from_secs(seconds);
        for due in self.delivery.ticker.take(then) {
            self.delivery.come_due(&due, then);
        }
    }
}

#[test]
fn a_join_is_told_to_others_first_and_takes_its_place_in_its_own_inbox() {
    let stage = Stage::new();
    stage.join(0, "presence-r", Some("ada")).unwrap();
    stage.join(1, "presence-r", Some("bob")).unwrap();
    stage.join(3, "presence-r", Some("bob")).unwrap();
    stage.leave(1, "presence-r", Some("bob"));
    stage.leave(3, "presence-r", Some("bob"));
    assert_eq!(
        stage.take(0),
        ["join 0", r#"member_added {"user_id":"bob" v2"#, r#"member_removed {"user_id":"bob" v4"#]
    );
    assert_eq!(stage.take(1), ["join 1", "join 3"]);
    stage.leave(0, "presence-r", Some("ada"));
    assert_eq!(stage.delivery.directory.counts(&stage.key("presence-r")), None);
}

#[test]
fn a_full_channel_takes_users_it_has_but_no_others() {
    let stage = Stage { members_max: NonZeroU32::new(1), ..Stage::new() };
    stage.join(0, "presence-r", Some("ada")).unwrap();
    assert_eq!(stage.join(1, "presence-r", Some("bob")), Err(SubscriptionFailure::MembersMax(1)));
    stage.join(2, "presence-r", Some("ada")).unwrap();
    assert_eq!(stage.delivery.directory.counts(&stage.key("presence-r")).unwrap().subscriptions, 2);
    assert_eq!(stage.take(1), [""; 0], "the refused one left nothing behind");
}

#[test]
fn few_subscribers_hear_every_count() {
    let stage = Stage { tells_count: true, ..Stage::new() };
    stage.join(0, "orders", None).unwrap();
    stage.join(2, "orders", None).unwrap();
    stage.leave(0, "orders", None);
    let count = |n: u32| format!(r#"subscription_count {{"subscription_count":{n}"#);
    assert_eq!(stage.take(0), ["join 0".to_owned(), count(1), "join 2".to_owned(), count(2), count(1)]);
    stage.join(4, "presence-r", Some("ada")).unwrap();
    assert_eq!(stage.take(0), ["join 4"], "presence channels have their members instead");
}

#[test]
fn many_subscribers_hear_the_count_now_and_then_and_always_the_last() {
    let stage = Stage { tells_count: true, ..Stage::new() };
    for n in 0..110 {
        stage.join(n * 2, "orders", None).unwrap();
    }
    let counts = |items: Vec<String>| -> Vec<String> {
        items.into_iter().filter_map(|item| Some(item.rsplit_once(':')?.1.to_owned())).collect()
    };
    assert_eq!(counts(stage.take(0)).last().unwrap(), "100");
    stage.pass(6);
    assert_eq!(counts(stage.take(0)), ["110"]);
    stage.pass(12);
    assert_eq!(stage.take(0), [""; 0], "nothing changed, nothing is told");
    stage.leave(0, "orders", None);
    stage.leave(2, "orders", None);
    stage.pass(20);
    assert_eq!(counts(stage.take(0)).last().unwrap(), "108");
}

#[test]
fn who_leaves_quietly_leaves_at_once_and_nobody_is_told() {
    let stage = Stage { tells_count: true, hold: Duration::from_secs(3), ..Stage::new() };
    for n in 0..3 {
        stage.join(n, "presence-r", Some(&format!("user-{n}"))).unwrap();
        stage.join(n, "orders", None).unwrap();
    }
    drop([0, 1].map(|worker| stage.take(worker)));
    for n in 0..3 {
        stage.leave_as(n, "presence-r", Some(&format!("user-{n}")), true);
        stage.leave_as(n, "orders", None, true);
    }
    assert_eq!([stage.take(0), stage.take(1)], [[""; 0]; 2]);
    assert_eq!(
        ["presence-r", "orders"].map(|name| stage.delivery.directory.counts(&stage.key(name))),
        [None; 2]
    );
    assert!(stage.delivery.ticker.next().is_none(), "nothing is put off either");
}

#[test]
fn who_comes_back_within_the_hold_was_never_gone() {
    let stage = Stage { hold: Duration::from_secs(3), ..Stage::new() };
    stage.join(0, "presence-r", Some("ada")).unwrap();
    stage.join(1, "presence-r", Some("bob")).unwrap();
    stage.take(0);
    stage.leave(1, "presence-r", Some("bob"));
    assert_eq!(stage.delivery.directory.users(&stage.key("presence-r")).len(), 2);
    stage.join(3, "presence-r", Some("bob")).unwrap();
    stage.pass(10);
    assert_eq!(stage.take(0), [""; 0]);
    stage.leave(3, "presence-r", Some("bob"));
    stage.join(3, "presence-r", Some("bob")).unwrap();
    stage.pass(10);
    assert_eq!(
        stage.delivery.directory.users(&stage.key("presence-r")).len(),
        2,
        "the same connection again"
    );
    stage.leave(3, "presence-r", Some("bob"));
    assert_eq!(stage.take(0), [""; 0], "not before the hold is over");
    stage.pass(10);
    assert_eq!(stage.take(0), [r#"member_removed {"user_id":"bob" v5"#]);
    stage.pass(20);
    assert_eq!(stage.take(0), [""; 0], "and only once");
}

#[test]
fn a_hold_outlives_the_last_subscriber_but_not_its_time() {
    let stage = Stage { hold: Duration::from_secs(3), ..Stage::new() };
    let key = stage.key("presence-r");
    stage.join(0, "presence-r", Some("ada")).unwrap();
    stage.join(1, "presence-r", Some("bob")).unwrap();
    stage.leave(0, "presence-r", Some("ada"));
    stage.leave(1, "presence-r", Some("bob"));
    assert_eq!(stage.delivery.directory.counts(&key), None, "nobody is subscribed");
    stage.take(0);
    stage.join(2, "presence-r", Some("ada")).unwrap();
    assert_eq!(stage.take(0), ["join 2"], "a page that all reload is a page nobody left");
    assert_eq!(stage.delivery.directory.users(&key).len(), 2);
    stage.leave(2, "presence-r", Some("ada"));
    stage.pass(10);
    assert!(stage.delivery.directory.lock(&key).get_mut(&key).is_none(), "nothing is remembered for ever");
}

fn user(id: &str, watchlist: &[&str]) -> User {
    User {
        id: UserId::from_text(id),
        user_info: None,
        watchlist: watchlist.iter().map(|id| UserId::from_text(id)).collect(),
        watchlist_was_longer: false,
    }
}

#[test]
fn watchers_hear_of_those_they_watch_and_of_no_reload() {
    let stage = Stage::new();
    let id = |n: u32| Stage::joiner(n).socket_id;
    let sign_in = |n: u32, user: &User, before: Option<&User>| {
        let signing = SigningIn {
            app: stage.app,
            socket_id: id(n),
            user,
            before,
            is_watchable: true,
            now: Instant::now(),
        };
        let told = stage.delivery.sign_in(&signing, &mut stage.delivery.wakes());
        told.map(|frame| String::from_utf8(frame.payload().to_vec()).unwrap().replace('\\', ""))
    };
    let (ada, bob) = (user("ada", &["bob", "cy"]), user("bob", &[]));
    let told = sign_in(0, &ada, None).unwrap();
    assert!(told.contains(r#"{"name":"offline","user_ids":["bob","cy"]}"#), "{told}");
    assert_eq!(sign_in(1, &bob, None), None);
    assert_eq!(stage.take(0), [r#"tell watchlist_events {"events":[{"name":"online","user_ids":["bob""#]);
    sign_in(3, &bob, None);
    stage.delivery.sign_out(stage.app, id(1), &bob, Instant::now());
    stage.pass(10);
    assert_eq!(stage.take(0), [""; 0], "one connection is left");
    stage.delivery.sign_out(stage.app, id(3), &bob, Instant::now());
    let told = sign_in(4, &user("dan", &["bob"]), None).unwrap();
    assert!(told.contains(r#"{"name":"online","user_ids":["bob"]}"#), "may yet come back: {told}");
    sign_in(1, &bob, None);
    stage.pass(20);
    assert_eq!(stage.take(0), [""; 0], "a reload");
    stage.delivery.sign_out(stage.app, id(1), &bob, Instant::now());
    stage.pass(30);
    let offline = r#"tell watchlist_events {"events":[{"name":"offline","user_ids":["bob""#;
    assert_eq!(stage.take(0), [offline, offline], "both watchers");
    let told = sign_in(0, &user("ada", &["cy"]), Some(&ada)).unwrap();
    assert!(!told.contains("bob"), "{told}");
    stage.delivery.sign_out(stage.app, id(4), &user("dan", &["bob"]), Instant::now());
    sign_in(1, &bob, None);
    assert_eq!(stage.take(0), [""; 0], "nobody watches bob any more");
}

#[test]
fn an_application_ends_a_user_on_every_worker_once() {
    let stage = Stage::new();
    let bob = user("bob", &[]);
    let key = UserKey { app: stage.app, id: bob.id.clone() };
    let id = |n: u32| Stage::joiner(n).socket_id;
    let signing = SigningIn {
        app: stage.app,
        socket_id: id(0),
        user: &bob,
        before: None,
        is_watchable: true,
        now: Instant::now(),
    };
    stage.delivery.sign_in(&signing, &mut stage.delivery.wakes());
    for (n, present) in [(0, true), (1, true), (1, true), (3, true), (3, false)] {
        stage.delivery.note_presence(&key, id(n), present);
    }
    stage.delivery.terminate(&key, false);
    assert_eq!((stage.take(0).len(), stage.take(1).len()), (1, 0), "signed in");
    stage.delivery.terminate(&key, true);
    assert_eq!((stage.take(0).len(), stage.take(1).len()), (1, 1), "or present");
}

#[test]
fn a_newcomer_gets_the_kept_event_exactly_once() {
    let stage = Stage::new();
    stage.join(0, "cache-price", None).unwrap();
    stage.publish("cache-price", r#""1""#);
    stage.join(2, "cache-price", None).unwrap();
    stage.publish("cache-price", r#""2""#);
    assert_eq!(stage.take(0), ["join 0 + cache_miss {", "e 1", "join 2 + e 1", "e 2"]);
    stage.leave(0, "cache-price", None);
    stage.leave(2, "cache-price", None);
    stage.publish("cache-price", r#""3""#);
    stage.join(4, "cache-price", None).unwrap();
    assert_eq!(stage.take(0), ["join 4 + e 3"], "kept while nobody listened");
}

#[test]
fn an_event_reaches_all_workers_or_none() {
    let stage = Stage::new();
    stage.join(0, "orders", None).unwrap();
    stage.join(1, "orders", None).unwrap();
    stage.take(0);
    stage.take(1);
    let big = Frame::text(1 << 20, |out| out.resize(out.len() + (1 << 20), b'x'));
    while stage.delivery.inboxes.of(WorkerId(1)).reserve(Some(&big), inbox::Urgency::Event) {}
    let key = stage.key("orders");
    let broadcast = Broadcast { key, frame: big, exclude: None, keep: None, told: None };
    assert!(stage.delivery.trigger(&[broadcast]).is_err());
    assert_eq!(stage.take(0), [""; 0]);
    let nobody = SocketId { left: u64::MAX, right: 1 };
    assert_eq!(ConnectionRef::of(nobody).0, WorkerId(255), "and a stranger's id names no inbox");
    assert!(stage.delivery.inboxes.get(WorkerId(255)).is_none());
}

#[test]
fn a_socket_id_leads_back_to_its_connection() {
    for (worker, slot, generation) in [(0, 0, 0), (255, (1 << 24) - 1, u32::MAX), (3, 77, 123)] {
        let connection = ConnectionRef::new(slot, generation);
        let id = connection.socket_id(WorkerId(worker), 0);
        assert_eq!(ConnectionRef::of(id), (WorkerId(worker), connection));
        assert_ne!(id.right, 0);
    }
}
