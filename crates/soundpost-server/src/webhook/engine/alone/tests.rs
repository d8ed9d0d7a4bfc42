use std::sync::Arc;

use soundpost_protocol::{
    app::{App, AppId, AppKey, AppSecret, Limits},
    channel::ChannelName,
    presence::{NodeId, UserId},
    webhook::{
        Carrier, HttpTarget, Webhook,
        hold::HOLD,
        target::{EventKinds, ExtraHeaders, Filter, Target, TargetUrl},
    },
};

use super::*;
use crate::{
    apps::Apps,
    webhook::{
        Meters,
        engine::{Refused, Source},
        metrics::Dropped,
    },
};

/// One app with webhooks, and all that is told to them, which nobody sends.
struct Stage {
    apps: Arc<Apps>,
    inbox: Inbox,
    alone: Alone,
    targets: Targets,
    app: AppIndex,
    start: Instant,
}

/// Wants these events of channels with this prefix; all differ, so they are different webhooks.
fn webhook(events: &[&str], prefix: &str) -> Arc<Webhook> {
    let target = Target {
        events: EventKinds::parse(events.iter().copied()).unwrap(),
        filter: Filter::new(prefix, "").unwrap(),
        ..Target::default()
    };
    // Nobody is there, and nothing is handed over.
    let url = TargetUrl::parse("http://127.0.0.1:1/").unwrap();
    let carrier =
        Carrier::Http(HttpTarget { url, headers: ExtraHeaders::default(), ca: None, refuses_private: false });
    Arc::new(Webhook::new(target, carrier))
}

fn app(webhooks: Vec<Arc<Webhook>>) -> App {
    let (id, key) = (AppId::parse("a").unwrap(), AppKey::parse("a").unwrap());
    App { webhooks, ..App::new(id, key, AppSecret::new("secret")) }
}

impl Stage {
    fn new(webhooks: Vec<Arc<Webhook>>) -> Self {
        let apps = Arc::new(Apps::new(vec![app(webhooks)], 1));
        let index = apps.table().all()[0].index;
        let targets = Targets::new(Arc::clone(&apps), Arc::new(Meters::default()), None);
        let (inbox, alone) = (Inbox::new(NodeId(7)), Alone::new(1));
        let mut stage = Self { apps, inbox, alone, targets, app: index, start: Instant::now() };
        stage.follow();
        stage
    }

    fn follow(&mut self) {
        let mut source = Source::Alone(std::mem::replace(&mut self.alone, Alone::new(1)));
        self.targets.follow(&mut source);
        let Source::Alone(alone) = source else { panic!("another source") };
        self.alone = alone;
    }

    /// The app has these from now on.
    fn reload(&mut self, webhooks: Vec<Arc<Webhook>>) {
        self.apps.replace(vec![app(webhooks)]);
        self.follow();
    }

    fn at(&self, seconds: f64) -> Instant {
        self.start + Duration::from_secs_f64(seconds)
    }

    fn came(&self, subject: &Subject, seconds: f64) {
        self.inbox.came(self.app, subject.clone(), self.at(seconds));
    }

    fn left(&self, subject: &Subject, seconds: f64) {
        self.inbox.left(self.app, subject.clone(), self.at(seconds));
    }

    fn miss(&self, channel: &ChannelName, seconds: f64) {
        self.inbox.event(self.app, &Event::CacheMiss, channel, self.at(seconds));
    }

    /// Takes up what was noted; when to look again.
    fn take(&mut self, seconds: f64) -> Option<Instant> {
        let (mut happenings, now) = (VecDeque::new(), self.at(seconds));
        self.inbox.take(&mut happenings);
        self.alone.take(&mut happenings, now, &self.inbox, &mut self.targets)
    }

    /// What each webhook was told since the last time.
    fn told(&mut self) -> Vec<Vec<String>> {
        let told = self.targets.take_incoming().into_iter();
        told.map(|events| {
            events
                .into_iter()
                .map(|incoming| format!("{} {}", incoming.event.kind.word(), incoming.event.channel.as_str()))
                .collect()
        })
        .collect()
    }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name, &Limits::default()).unwrap()
}

const COMINGS: &[&str] = &["channel_occupied", "channel_vacated", "member_added", "member_removed"];

#[tokio::test]
async fn an_arrival_is_told_at_once_and_a_departure_when_its_hold_is_over() {
    let mut stage = Stage::new(vec![webhook(COMINGS, "")]);
    let room = Subject::Channel(channel("presence-room"));
    let zoe = Subject::Member(channel("presence-room"), UserId::from_text("zoe"));
    stage.came(&room, 0.0);
    stage.came(&zoe, 0.0);
    assert_eq!(stage.take(0.1), None);
    assert_eq!(stage.told(), [["channel_occupied presence-room", "member_added presence-room"]]);
    stage.left(&zoe, 1.0);
    stage.left(&room, 1.0);
    assert_eq!(stage.take(1.1), Some(stage.at(1.0) + HOLD));
    assert_eq!(stage.take(3.9), Some(stage.at(1.0) + HOLD));
    assert_eq!(stage.told(), [[""; 0]]);
    assert_eq!(stage.take(4.0), None);
    assert_eq!(stage.told(), [["member_removed presence-room", "channel_vacated presence-room"]]);
}

#[tokio::test]
async fn who_comes_back_in_time_has_not_left() {
    let mut stage = Stage::new(vec![webhook(COMINGS, "")]);
    let room = Subject::Channel(channel("room"));
    stage.came(&room, 0.0);
    stage.left(&room, 1.0);
    stage.take(1.0);
    // Even if the engine is late: nobody was told.
    stage.came(&room, 4.5);
    assert_eq!(stage.take(4.5), None);
    stage.left(&room, 5.0);
    stage.came(&room, 5.0);
    assert_eq!(stage.take(9.0), None);
    assert_eq!(stage.told(), [["channel_occupied room"]]);
}

#[tokio::test]
async fn each_webhook_is_told_what_it_wants() {
    let mut stage = Stage::new(vec![
        webhook(&["channel_vacated"], ""),
        webhook(&["channel_occupied", "cache_miss"], "private-"),
        webhook(&["member_added"], ""),
    ]);
    let (private, public) = (channel("private-cache-a"), channel("b"));
    for name in [&private, &public] {
        stage.came(&Subject::Channel(name.clone()), 0.0);
        stage.left(&Subject::Channel(name.clone()), 0.0);
    }
    stage.miss(&private, 0.0);
    stage.take(5.0);
    assert_eq!(
        stage.told(),
        [
            &["channel_vacated private-cache-a", "channel_vacated b"][..],
            &["channel_occupied private-cache-a", "cache_miss private-cache-a"],
            &[],
        ]
    );
}

#[tokio::test]
async fn a_turn_takes_up_so_many_happenings_and_leaves_the_others_in_their_order() {
    let mut stage = Stage::new(vec![webhook(&["cache_miss"], "")]);
    let names: Vec<_> = (0..TURN_MAX + 1).map(|n| channel(&format!("cache-{n}"))).collect();
    names.iter().for_each(|name| stage.miss(name, 0.0));
    let (mut happenings, now) = (VecDeque::new(), stage.at(0.0));
    stage.inbox.take(&mut happenings);
    for (told, next) in [(TURN_MAX, Some(now)), (1, None)] {
        assert_eq!(stage.alone.take(&mut happenings, now, &stage.inbox, &mut stage.targets), next);
        assert_eq!(stage.told()[0].len(), told);
    }
}

#[tokio::test]
async fn who_comes_back_in_time_but_behind_a_crowd_has_not_left() {
    let mut stage = Stage::new(vec![webhook(COMINGS, "")]);
    let back = Subject::Channel(channel("back"));
    stage.left(&back, 0.0);
    let rooms: Vec<_> = (0..2 * TURN_MAX).map(|n| Subject::Channel(channel(&format!("room-{n}")))).collect();
    rooms.iter().for_each(|room| stage.came(room, 1.0));
    stage.came(&back, 2.9);
    let (mut happenings, now) = (VecDeque::new(), stage.at(3.5));
    stage.inbox.take(&mut happenings);
    for told in [TURN_MAX - 1, TURN_MAX, 1] {
        stage.alone.take(&mut happenings, now, &stage.inbox, &mut stage.targets);
        let events = stage.told().remove(0);
        assert_eq!(events.len(), told);
        assert!(events.iter().all(|event| event.starts_with("channel_occupied room-")), "{events:?}");
    }
    assert!(happenings.is_empty() && stage.alone.holds.is_empty());
}

#[tokio::test]
async fn when_the_node_ends_what_is_held_is_told() {
    let mut stage = Stage::new(vec![webhook(COMINGS, "")]);
    stage.left(&Subject::Channel(channel("room")), 0.0);
    stage.take(0.0);
    let now = stage.at(0.1);
    stage.alone.flush(now, &stage.inbox, &mut stage.targets);
    assert_eq!(stage.told(), [["channel_vacated room"]]);
}

#[tokio::test]
async fn of_a_crowd_that_is_held_at_the_end_no_more_is_kept_than_queues_have_room_for() {
    let mut stage = Stage::new(vec![webhook(COMINGS, "")]);
    for n in 0..=TURN_MAX {
        stage.left(&Subject::Channel(channel(&format!("room-{n}"))), 0.0);
        stage.take(0.0);
    }
    stage.alone.flush(stage.start, &stage.inbox, &mut stage.targets);
    assert_eq!(stage.targets.depth(), TURN_MAX, "handed over");
    assert_eq!(stage.told(), [[format!("channel_vacated room-{TURN_MAX}")]]);
}

#[tokio::test]
async fn a_cache_miss_is_told_once_a_second_and_channel() {
    let mut stage = Stage::new(vec![webhook(&["cache_miss"], "")]);
    let (a, b) = (channel("cache-a"), channel("cache-b"));
    for (name, seconds) in [(&a, 0.0), (&a, 0.1), (&b, 0.2), (&a, 0.999), (&a, 1.0), (&b, 1.1), (&b, 1.19)] {
        stage.miss(name, seconds);
    }
    stage.take(2.0);
    assert_eq!(stage.told(), [["cache_miss cache-a", "cache_miss cache-b", "cache_miss cache-a"]]);
}

#[test]
fn misses_are_remembered_up_to_a_bound() {
    let app = Apps::new(
        vec![App::new(AppId::parse("a").unwrap(), AppKey::parse("a").unwrap(), AppSecret::new("s"))],
        1,
    );
    let app = app.table().all()[0].index;
    let (mut misses, now) = (Misses::default(), Instant::now());
    let key = |n: usize| ChannelKey { app, name: channel(&format!("cache-{n}")) };
    for n in 0..2 * Misses::COUNT_MAX {
        assert!(!misses.has_told(key(n), now));
        assert!(misses.told.len() <= Misses::COUNT_MAX && misses.order.len() == misses.told.len());
    }
    assert!(!misses.has_told(key(0), now), "the oldest is forgotten");
    assert!(misses.has_told(key(2 * Misses::COUNT_MAX - 1), now));
    assert!(!misses.has_told(key(1), now + Misses::QUIET));
    assert_eq!(misses.told.len(), 1);
}

#[tokio::test]
async fn what_nobody_cared_about_meanwhile_is_not_told() {
    let mut stage = Stage::new(vec![webhook(COMINGS, ""), webhook(COMINGS, "b")]);
    let [one, two] = ["a", "b"].map(|name| Subject::Channel(channel(name)));
    for subject in [&one, &two] {
        stage.came(subject, 0.0);
        stage.left(subject, 1.0);
    }
    stage.take(1.1);
    stage.told();
    stage.left(&Subject::Channel(channel("a2")), 1.2);
    // Of who comes back to the first nothing is noted while only the second webhook is there.
    stage.reload(vec![webhook(COMINGS, "b")]);
    stage.take(1.3);
    stage.reload(vec![webhook(COMINGS, ""), webhook(COMINGS, "b")]);
    assert_eq!(stage.take(2.0), Some(stage.at(4.0)));
    assert_eq!(stage.take(5.0), None);
    assert_eq!(stage.told(), [["channel_vacated b"], ["channel_vacated b"]]);
}

#[tokio::test]
async fn what_found_no_room_is_counted_for_its_app() {
    let stage = Stage::new(vec![webhook(COMINGS, "")]);
    let count = || stage.targets.metrics(stage.app).dropped(Dropped::Inbox).value();
    let mut refused = Refused::default();
    refused.look([(stage.app, 3)], &stage.targets);
    refused.look([(stage.app, 4)], &stage.targets);
    assert_eq!((count(), refused.0[&stage.app].0), (7, 4), "a line a minute");
    // An app that is gone, or has no webhooks any more.
    let gone = Stage::new(vec![]);
    Refused::default().look([(gone.app, 1)], &gone.targets);
    assert_eq!(gone.targets.metrics(gone.app).dropped(Dropped::Inbox).value(), 0);
}
