//! What delivery notes for webhooks.

use std::collections::BTreeMap;

use proptest::prelude::*;
use soundpost_protocol::webhook::{
    Carrier, HttpTarget, Webhook,
    event::{Event, EventKind},
    hold::{Arrival, Holds, Subject},
    target::{EventKinds, ExtraHeaders, Filter, Target, TargetUrl},
};

use super::*;
use crate::webhook::What;

/// What was noted since the last call, each in a few words.
pub(in crate::delivery) fn noted(delivery: &Delivery) -> Vec<String> {
    let mut happenings = VecDeque::new();
    delivery.webhooks.take(&mut happenings);
    let subject = |subject: &Subject| match subject {
        Subject::Channel(channel) => channel.to_string(),
        Subject::Member(channel, user_id) => format!("{user_id} {channel}"),
    };
    let words = |what: &What| match what {
        What::Came(who) => format!("+ {}", subject(who)),
        What::Left(who) => format!("- {}", subject(who)),
        What::Event(event) => {
            let json: serde_json::Value = serde_json::from_slice(&event.json).unwrap();
            let count = json.get("subscription_count").map_or(String::new(), |count| format!(" {count}"));
            format!("{} {}{count}", event.kind.word(), event.channel)
        }
        What::Told => panic!("there is no stream"),
    };
    happenings.iter().map(|happening| words(&happening.what)).collect()
}

impl Stage {
    fn heard() -> Self {
        Self { hears: Hears::EVERYTHING, ..Self::new() }
    }

    fn noted(&self) -> Vec<String> {
        noted(&self.delivery)
    }

    /// Lets no join into a worker's inbox any more; gives back what [`Self::free`] needs.
    fn jam(&self, worker: u8) -> usize {
        let inbox = self.delivery.inboxes.of(WorkerId(worker));
        (0..).take_while(|_| inbox.reserve(None, inbox::Urgency::Join)).count()
    }

    fn free(&self, worker: u8, jam: usize) {
        (0..jam).for_each(|_| self.delivery.inboxes.of(WorkerId(worker)).release(None));
    }
}

#[test]
fn a_channel_comes_before_its_first_member_and_goes_after_its_last() {
    let stage = Stage::heard();
    stage.join(0, "presence-r", Some("ada")).unwrap();
    stage.join(1, "presence-r", Some("bob")).unwrap();
    stage.join(3, "presence-r", Some("bob")).unwrap();
    assert_eq!(stage.noted(), ["+ presence-r", "+ ada presence-r", "+ bob presence-r"]);
    stage.leave(1, "presence-r", Some("bob"));
    assert_eq!(stage.noted(), [""; 0], "bob has another connection");
    stage.leave(0, "presence-r", Some("ada"));
    stage.leave(3, "presence-r", Some("bob"));
    assert_eq!(stage.noted(), ["- ada presence-r", "- bob presence-r", "- presence-r"]);
    stage.join(0, "orders", None).unwrap();
    stage.join(1, "orders", None).unwrap();
    stage.leave(0, "orders", None);
    stage.leave(1, "orders", None);
    assert_eq!(stage.noted(), ["+ orders", "- orders"]);
}

#[test]
fn a_repeated_subscribe_says_nothing() {
    let stage = Stage::heard();
    stage.join(0, "presence-r", Some("ada")).unwrap();
    stage.join(0, "cache-price", None).unwrap();
    stage.noted();
    let member = Arc::new(Member { user_id: UserId::from_text("ada"), user_info: Some("{}".into()) });
    for (channel, member) in [("presence-r", Some(&member)), ("cache-price", None)] {
        let key = Arc::new(stage.key(channel));
        stage.delivery.rejoin(Stage::joiner(0), &key, member, &mut stage.delivery.wakes()).unwrap();
    }
    assert_eq!(stage.noted(), [""; 0]);
}

#[test]
fn a_refused_join_leaves_no_trace() {
    let stage = Stage { members_max: NonZeroU32::new(1), tells_count: true, ..Stage::heard() };
    let jam = stage.jam(1);
    for (channel, user) in [("orders", None), ("cache-price", None), ("presence-r", Some("ada"))] {
        assert_eq!(stage.join(1, channel, user), Err(SubscriptionFailure::Busy));
    }
    assert_eq!(stage.noted(), [""; 0], "its own worker has no room");
    stage.free(1, jam);
    stage.join(1, "presence-r", Some("ada")).unwrap();
    assert_eq!(stage.noted(), ["+ presence-r", "+ ada presence-r"]);
    assert_eq!(stage.join(0, "presence-r", Some("bob")), Err(SubscriptionFailure::MembersMax(1)));
    let stage = Stage { members_max: None, ..stage };
    let jam = stage.jam(1);
    assert_eq!(stage.join(0, "presence-r", Some("bob")), Err(SubscriptionFailure::Busy));
    stage.free(1, jam);
    assert_eq!(stage.noted(), [""; 0]);
    stage.leave(1, "presence-r", Some("ada"));
    assert_eq!(stage.noted(), ["- ada presence-r", "- presence-r"]);
}

#[test]
fn who_is_held_has_not_left_and_neither_is_its_channel_empty() {
    let stage = Stage { hold: Duration::from_secs(3), ..Stage::heard() };
    stage.join(0, "presence-r", Some("ada")).unwrap();
    stage.noted();
    stage.leave(0, "presence-r", Some("ada"));
    stage.join(1, "presence-r", Some("ada")).unwrap();
    assert_eq!(stage.noted(), [""; 0], "was never gone");
    stage.leave(1, "presence-r", Some("ada"));
    stage.join(2, "presence-r", Some("bob")).unwrap();
    assert_eq!(stage.noted(), ["+ bob presence-r"], "the channel was not empty");
    stage.pass(10);
    stage.leave(2, "presence-r", Some("bob"));
    assert_eq!(stage.noted(), ["- ada presence-r"]);
    stage.pass(20);
    assert_eq!(stage.noted(), ["- bob presence-r", "- presence-r"]);
}

#[test]
fn when_the_node_ends_who_is_held_has_left() {
    let stage = Stage { hold: Duration::from_secs(60), ..Stage::heard() };
    for (n, user) in [(0, "ada"), (1, "bob")] {
        stage.join(n, "presence-r", Some(user)).unwrap();
        stage.leave(n, "presence-r", Some(user));
    }
    stage.noted();
    stage.delivery.end_holds();
    assert_eq!(stage.noted(), ["- ada presence-r", "- bob presence-r", "- presence-r"]);
    stage.delivery.end_holds();
    assert_eq!(stage.noted(), [""; 0]);
}

#[test]
fn an_app_that_is_gone_is_told_nothing() {
    let stage = Stage { hold: Duration::from_secs(3), tells_count: true, ..Stage::heard() };
    for n in 0..3 {
        stage.join(n, "presence-r", Some(&n.to_string())).unwrap();
        stage.join(n, "orders", None).unwrap();
    }
    stage.leave(0, "presence-r", Some("0"));
    stage.noted();
    for n in 0..3 {
        stage.leave_as(n, "orders", None, true);
    }
    stage.leave_as(1, "presence-r", Some("1"), true);
    stage.leave_as(2, "presence-r", Some("2"), true);
    stage.pass(10);
    assert_eq!(stage.noted(), [""; 0]);
}

#[test]
fn few_subscribers_are_counted_one_by_one_and_many_now_and_then() {
    let stage = Stage { tells_count: true, ..Stage::heard() };
    stage.join(0, "orders", None).unwrap();
    stage.join(1, "orders", None).unwrap();
    stage.leave(0, "orders", None);
    stage.leave(1, "orders", None);
    let count = |n: u32| format!("subscription_count orders {n}");
    assert_eq!(
        stage.noted(),
        ["+ orders".to_owned(), count(1), count(2), count(1), count(0), "- orders".to_owned()]
    );
    for n in 0..110 {
        stage.join(n, "orders", None).unwrap();
    }
    assert_eq!(stage.noted().last(), Some(&count(100)));
    stage.pass(6);
    assert_eq!(stage.noted(), [count(110)]);
    stage.join(200, "orders", None).unwrap();
    stage.leave(200, "orders", None);
    stage.pass(12);
    assert_eq!(stage.noted(), [""; 0], "as many as before");
    for n in 0..110 {
        stage.leave(n, "orders", None);
    }
    let noted = stage.noted();
    assert_eq!(noted.len(), 102, "from 100 on each");
    assert_eq!((&noted[0], &noted[100], &*noted[101]), (&count(100), &count(0), "- orders"));
    stage.pass(20);
    assert_eq!(stage.noted(), [""; 0]);
    stage.join(0, "presence-r", Some("ada")).unwrap();
    assert_eq!(stage.noted(), ["+ presence-r", "+ ada presence-r"], "members are counted otherwise");
}

#[test]
fn who_finds_no_kept_event_is_noted() {
    let stage = Stage::heard();
    stage.join(0, "cache-price", None).unwrap();
    stage.join(1, "cache-price", None).unwrap();
    assert_eq!(stage.noted(), ["+ cache-price", "cache_miss cache-price", "cache_miss cache-price"]);
    stage.publish("cache-price", "1");
    stage.join(2, "cache-price", None).unwrap();
    assert_eq!(stage.noted(), [""; 0]);
}

fn app_with(webhooks: &[(&[&str], &str)]) -> App {
    let mut app = App::new(AppId::parse("a").unwrap(), AppKey::parse("k").unwrap(), AppSecret::new("s"));
    let webhook = |(events, prefix): &(&[&str], &str)| {
        let events = EventKinds::parse(events.iter().copied()).unwrap();
        let target = Target { events, filter: Filter::new(prefix, "").unwrap(), ..Target::default() };
        let url = TargetUrl::parse("http://app.test/").unwrap();
        let http = HttpTarget { url, headers: ExtraHeaders::default(), ca: None, refuses_private: false };
        Arc::new(Webhook::new(target, Carrier::Http(http)))
    };
    app.webhooks = webhooks.iter().map(webhook).collect();
    app
}

#[test]
fn only_what_some_webhook_wants_is_noted() {
    let channel = |name: &str| ChannelName::parse(name, &Limits::default()).unwrap();
    let hears = |app: &App, name: &str| {
        let hears = Hears::of(app, &channel(name));
        [hears.channel(), hears.members(), hears.counts(), hears.cache_misses()]
    };
    assert_eq!(Hears::of(&app_with(&[]), &channel("orders")), Hears::NOTHING);
    // Who wants to hear of one half must not hear of a reload either.
    let app = app_with(&[(&["channel_vacated"], ""), (&["member_added", "cache_miss"], "presence-")]);
    assert_eq!(hears(&app, "orders"), [true, false, false, false]);
    assert_eq!(hears(&app, "presence-cache-r"), [true, true, false, true]);
    assert_eq!(hears(&app, "#server-to-user-ada"), [false; 4]);
    let all = EventKind::ALL.map(EventKind::word);
    let mut app = app_with(&[(&all, "")]);
    assert_eq!(hears(&app, "orders"), [true, true, false, true], "counts are a setting of their own");
    app.subscription_count = true;
    assert_eq!(hears(&app, "orders"), [true; 4]);
    assert_eq!(hears(&app, "#server-to-user-ada"), [false; 4]);

    let stage = Stage {
        hears: Hears::of(&app_with(&[(&["member_added"], "")]), &channel("presence-r")),
        ..Stage::new()
    };
    stage.join(0, "presence-r", Some("ada")).unwrap();
    stage.leave(0, "presence-r", Some("ada"));
    assert_eq!(stage.noted(), ["+ ada presence-r", "- ada presence-r"]);
}

#[test]
fn what_anybody_on_a_channel_knew_to_be_wanted_is_noted() {
    let mut stage = Stage::new();
    stage.join(0, "orders", None).unwrap();
    assert_eq!(stage.noted(), [""; 0]);
    // A webhook is new, and not all connections know yet.
    stage.hears = Hears::EVERYTHING;
    stage.join(1, "orders", None).unwrap();
    stage.leave(1, "orders", None);
    stage.hears = Hears::NOTHING;
    stage.leave(0, "orders", None);
    assert_eq!(stage.noted(), ["- orders"]);
}

/// 500 members reload their pages: all leave, the channel is empty, all come back. After the hold nobody is told.
#[test]
fn a_reload_storm_is_nothing_to_anybody() {
    let stage = Stage::heard();
    let all = |act: &dyn Fn(u32, &str)| (0..500).for_each(|n| act(n, &format!("user-{n}")));
    all(&|n, user| stage.join(n, "presence-r", Some(user)).unwrap());
    let mut happenings = VecDeque::new();
    stage.delivery.webhooks.take(&mut happenings);
    happenings.clear();
    all(&|n, user| stage.leave(n, "presence-r", Some(user)));
    all(&|n, user| stage.join(n + 500, "presence-r", Some(user)).unwrap());
    stage.delivery.webhooks.take(&mut happenings);
    assert_eq!(happenings.len(), 2 * 501);
    let (mut holds, mut gone) = (Holds::new(std::num::NonZeroUsize::new(10_000).unwrap(), 7), Vec::new());
    for happening in happenings {
        match &happening.what {
            What::Came(subject) => assert_eq!(holds.came(subject), Arrival::Return),
            What::Left(subject) => holds.left(subject.clone(), happening.at),
            What::Event(_) | What::Told => panic!("{happening:?}"),
        }
    }
    holds.poll(Instant::now() + Duration::from_secs(60), &mut gone);
    assert!(holds.is_empty() && gone.is_empty());
}

/// One step of a history.
#[derive(Clone, Copy, Debug)]
enum Step {
    Join(u32, usize, usize),
    Leave(u32, usize),
    /// Others are held before they leave, or not.
    Hold(bool),
    /// All who are held are gone.
    Pass,
    Publish,
    Jam(u8),
    Free(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let join = || (0..8_u32, 0..CHANNELS.len(), 0..3_usize).prop_map(|(n, at, user)| Step::Join(n, at, user));
    prop_oneof![
        6 => join(),
        5 => (0..8_u32, 0..CHANNELS.len()).prop_map(|(n, at)| Step::Leave(n, at)),
        1 => any::<bool>().prop_map(Step::Hold),
        1 => Just(Step::Pass),
        1 => Just(Step::Publish),
        1 => (0..2_u8).prop_map(Step::Jam),
        2 => (0..2_u8).prop_map(Step::Free),
    ]
}

const CHANNELS: [&str; 4] = ["presence-r", "presence-s", "orders", "cache-price"];
const USERS: [&str; 3] = ["ada", "bob", "cy"];

/// Who is where, by what was done.
#[derive(Default)]
struct Model {
    there: BTreeMap<&'static str, BTreeMap<u32, Option<&'static str>>>,
    held: Vec<(&'static str, &'static str)>,
    is_kept: bool,
    expected: Vec<String>,
}

impl Model {
    fn is_occupied(&self, channel: &str) -> bool {
        let is_subscribed = self.there.get(channel).is_some_and(|there| !there.is_empty());
        is_subscribed || self.held.iter().any(|(held_on, _)| *held_on == channel)
    }

    fn has(&self, channel: &str, user: &str) -> bool {
        let is_subscribed =
            self.there.get(channel).is_some_and(|there| there.values().any(|found| *found == Some(user)));
        is_subscribed || self.held.contains(&(channel_of(channel), user_of(user)))
    }

    fn count(&mut self, channel: &str) {
        if !channel.starts_with("presence-") {
            let count = self.there[channel].len();
            self.expected.push(format!("subscription_count {channel} {count}"));
        }
    }

    fn join(&mut self, n: u32, channel: &'static str, user: Option<&'static str>) {
        if !self.is_occupied(channel) {
            self.expected.push(format!("+ {channel}"));
        }
        if let Some(user) = user.filter(|user| !self.has(channel, user)) {
            self.expected.push(format!("+ {user} {channel}"));
        }
        self.held.retain(|held| Some(*held) != user.map(|user| (channel, user)));
        self.there.entry(channel).or_default().insert(n, user);
        if channel == "cache-price" && !self.is_kept {
            self.expected.push(format!("cache_miss {channel}"));
        }
        self.count(channel);
    }

    fn leave(&mut self, n: u32, channel: &'static str, is_held: bool) {
        let user = self.there.get_mut(channel).unwrap().remove(&n).unwrap();
        match user {
            Some(user) if self.has(channel, user) => {}
            Some(user) if is_held => self.held.push((channel, user)),
            Some(user) => self.expected.push(format!("- {user} {channel}")),
            None => {}
        }
        self.count(channel);
        self.vacate(channel);
    }

    fn vacate(&mut self, channel: &str) {
        if !self.is_occupied(channel) {
            self.expected.push(format!("- {channel}"));
        }
    }

    fn pass(&mut self) {
        while !self.held.is_empty() {
            let (channel, user) = self.held.remove(0);
            self.expected.push(format!("- {user} {channel}"));
            self.vacate(channel);
        }
    }
}

fn channel_of(name: &str) -> &'static str {
    CHANNELS.into_iter().find(|channel| *channel == name).unwrap()
}

fn user_of(name: &str) -> &'static str {
    USERS.into_iter().find(|user| *user == name).unwrap()
}

proptest! {
    /// Whatever happens: what is noted is what somebody would note who looks at the whole after each step.
    #[test]
    fn what_is_noted_is_what_happened(steps in prop::collection::vec(step(), 0..150)) {
        let mut stage = Stage { tells_count: true, members_max: NonZeroU32::new(2), ..Stage::heard() };
        let (mut model, mut noted, mut passed) = (Model::default(), Vec::new(), 0);
        let mut jams = [0; 2];
        for step in steps {
            match step {
                Step::Join(n, at, user) => {
                    let channel = CHANNELS[at];
                    if model.there.get(channel).is_some_and(|there| there.contains_key(&n)) {
                        continue;
                    }
                    let user = channel.starts_with("presence-").then_some(USERS[user]);
                    // Why it is refused is tested elsewhere; refused, it has not happened.
                    if stage.join(n, channel, user).is_ok() {
                        model.join(n, channel, user);
                    }
                }
                Step::Leave(n, at) => {
                    let channel = CHANNELS[at];
                    let Some(user) = model.there.get(channel).and_then(|there| there.get(&n)).copied() else {
                        continue;
                    };
                    stage.leave(n, channel, user);
                    model.leave(n, channel, !stage.hold.is_zero());
                }
                Step::Hold(is_on) => stage.hold = Duration::from_secs(if is_on { 3 } else { 0 }),
                Step::Pass => {
                    passed += 10;
                    stage.pass(passed);
                    model.pass();
                }
                Step::Publish => {
                    if jams == [0; 2] {
                        stage.publish("cache-price", "1");
                        model.is_kept = true;
                    }
                }
                Step::Jam(worker) => {
                    jams[usize::from(worker)] += stage.jam(worker);
                }
                Step::Free(worker) => {
                    stage.free(worker, std::mem::take(&mut jams[usize::from(worker)]));
                }
            }
            noted.extend(stage.noted());
            prop_assert_eq!(&noted, &model.expected);
        }
        for channel in CHANNELS {
            for (n, user) in model.there.get(channel).cloned().unwrap_or_default() {
                stage.leave(n, channel, user);
                model.leave(n, channel, !stage.hold.is_zero());
            }
        }
        stage.delivery.end_holds();
        model.pass();
        noted.extend(stage.noted());
        prop_assert_eq!(&noted, &model.expected);
        let balance = |sign: &str| noted.iter().filter(|note| note.starts_with(sign)).count();
        prop_assert_eq!(balance("+ "), balance("- "));
    }
}

#[test]
fn what_is_told_of_an_event_is_noted_with_it_or_not_at_all() {
    let stage = Stage::heard();
    stage.join(0, "presence-r", Some("zoe")).unwrap();
    let key = stage.key("presence-r");
    let event = Event::ClientEvent {
        event: "client-x",
        data: None,
        socket_id: SocketId { left: 1, right: 2 },
        user_id: None,
    };
    let told = Arc::new(stage.delivery.webhooks.encode(&event, &key.name));
    let frame = Frame::text(1 << 20, |out| out.resize(out.len() + (1 << 20), b'x'));
    let broadcast = Broadcast { key, frame: frame.clone(), exclude: None, keep: None, told: Some(told) };
    stage.delivery.trigger(std::slice::from_ref(&broadcast)).unwrap();
    assert_eq!(noted(&stage.delivery), ["+ presence-r", "+ zoe presence-r", "client_event presence-r"]);
    while stage.delivery.inboxes.of(WorkerId(0)).reserve(Some(&frame), inbox::Urgency::Event) {}
    assert!(stage.delivery.trigger(&[broadcast]).is_err());
    assert_eq!(noted(&stage.delivery), [""; 0], "nobody got it");
}
