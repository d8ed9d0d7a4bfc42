//! What waits for the cluster: who enters when, and who does not. Whole histories are in `tests/cluster`.

use std::sync::Arc;

use super::*;
use crate::{
    app::Limits,
    cluster::share::{Share, Transition},
    presence::Member,
};

const OWN: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);

fn socket(left: u64) -> SocketId {
    SocketId { left, right: 1 }
}

/// A request to read, while no other node is shown.
fn read(ticket: u64) -> Effect {
    Effect::Read { ticket, known: Vec::new() }
}

fn entry(left: u64, user: &str) -> Entry {
    let data = format!(r#"{{"user_id":"{user}"}}"#);
    let member = Arc::new(Member::parse(&data, &Limits::default()).unwrap());
    Entry { socket_id: socket(left), joined_at: left, member }
}

fn share(life: NodeId, sequence: u64, entries: Vec<Entry>) -> Share {
    Share { life, sequence, count: entries.len() as u32, entries, may_live: true }
}

/// A channel, its clock and its numbers.
struct Bench {
    channel: ClusterChannel,
    now: Instant,
    sequence: AtomicU64,
}

impl Bench {
    fn new(kind: ChannelKind) -> Self {
        Self { channel: ClusterChannel::new(OWN, kind), now: Instant::now(), sequence: AtomicU64::new(0) }
    }

    fn act(&mut self, act: impl FnOnce(&mut ClusterChannel, &mut Context<'_>)) -> Vec<Effect> {
        let mut effects = Vec::new();
        act(
            &mut self.channel,
            &mut Context { now: self.now, sequence: &self.sequence, effects: &mut effects },
        );
        effects
    }

    fn join(&mut self, left: u64, user: &str) -> Vec<Effect> {
        self.act(|channel, cx| channel.join(socket(left), Some(entry(left, user)), cx))
    }

    fn answer(&mut self, ticket: u64, shares: Vec<Share>) -> Vec<Effect> {
        let answer = Answer { shares, ..Answer::default() };
        self.act(|channel, cx| channel.answered(ticket, answer, cx))
    }

    fn hear(&mut self, life: NodeId, sequence: u64, follows: u64, change: Change) -> Vec<Effect> {
        let notice = Notice::Change { follows, change };
        self.act(|channel, cx| channel.heard(life, sequence, notice, cx))
    }

    /// A presence channel with connection 1 of user `a` on it, whose last change is number 2.
    fn live() -> Self {
        let mut bench = Self::new(ChannelKind::Presence);
        bench.join(1, "a");
        bench.act(|channel, cx| channel.acknowledged(1, cx));
        bench.answer(2, vec![share(OWN, 2, vec![entry(1, "a")])]);
        bench
    }
}

fn entered(effects: &[Effect]) -> Vec<(u64, u32)> {
    let mut entered = Vec::new();
    for effect in effects {
        if let Effect::Enter { socket_id, answers, .. } = effect {
            entered.push((socket_id.left, *answers));
        }
    }
    entered
}

/// Whether each user came, and which.
fn told(effects: &[Effect]) -> Vec<(bool, String)> {
    let mut told = Vec::new();
    for effect in effects {
        if let Effect::Tell(transition) = effect {
            told.push((matches!(transition, Transition::Added(_)), transition.user_id().to_string()));
        }
    }
    told
}

#[test]
fn the_first_join_waits_for_the_topic_and_the_shares() {
    let mut bench = Bench::new(ChannelKind::Presence);
    assert_eq!(bench.join(1, "a"), [Effect::Subscribe { ticket: 1 }]);
    assert_eq!(bench.join(2, "b"), [], "waits with it");
    let effects = bench.act(|channel, cx| channel.acknowledged(1, cx));
    assert!(
        matches!(&effects[..], [Effect::Replace { sequence: 2, entries, count: 2, .. }] if entries.len() == 2)
    );
    // One that is in the answer, and one that is not.
    assert_eq!(bench.hear(OTHER, 7, 6, Change::Join(entry(7, "c"))), []);
    assert_eq!(bench.hear(OTHER, 8, 7, Change::Join(entry(8, "d"))), []);
    let shares =
        vec![share(OWN, 2, vec![entry(1, "a"), entry(2, "b")]), share(OTHER, 7, vec![entry(7, "c")])];
    let effects = bench.answer(2, shares);
    assert_eq!(entered(&effects), [(1, 1), (2, 1)]);
    assert_eq!(told(&effects).last(), Some(&(true, "d".to_owned())), "after they have entered");
    assert_eq!(bench.channel.roster().len(), 4);
}

#[test]
fn a_later_join_enters_with_its_own_change() {
    let mut bench = Bench::live();
    let effects = bench.join(2, "b");
    assert!(matches!(effects[..], [Effect::Change { sequence: 3, follows: 2, .. }]));
    let effects = bench.act(|channel, cx| channel.again(socket(2), Some(entry(2, "b")), cx));
    assert_eq!(effects, [], "it asks again and is answered with the first");
    let effects = bench.hear(OWN, 3, 2, Change::Join(entry(2, "b")));
    assert_eq!((told(&effects), entered(&effects)), (vec![(true, "b".to_owned())], vec![(2, 2)]));
    let effects = bench.hear(OTHER, 1, 0, Change::Join(entry(9, "b")));
    assert_eq!(effects, [], "a second connection of a user is no news");
}

#[test]
fn who_leaves_before_its_join_returns_never_enters() {
    let mut bench = Bench::live();
    bench.join(2, "b");
    let effects = bench.act(|channel, cx| channel.leave(socket(2), Some(&entry(2, "b").member.user_id), cx));
    assert!(matches!(
        effects[..],
        [Effect::Change { sequence: 4, follows: 3, change: Change::Leave { .. } }]
    ));
    let effects = bench.hear(OWN, 3, 2, Change::Join(entry(2, "b")));
    assert_eq!((told(&effects).len(), entered(&effects)), (1, vec![]));
    let user_id = entry(2, "b").member.user_id.clone();
    let effects = bench.hear(OWN, 4, 3, Change::Leave { socket_id: socket(2), user_id });
    assert_eq!(told(&effects), [(false, "b".to_owned())]);
}

#[test]
fn who_waits_for_too_long_is_refused_and_taken_back() {
    let mut bench = Bench::live();
    bench.join(2, "b");
    bench.now += ENTER_TIMEOUT;
    let effects = bench.act(ClusterChannel::tick);
    let refuse = Effect::Refuse { socket_id: socket(2), answers: 1 };
    assert_eq!(effects.first(), Some(&refuse));
    assert!(matches!(effects[1..], [Effect::Change { change: Change::Leave { .. }, .. }]));
    let mut bench = Bench::new(ChannelKind::Public);
    bench.act(|channel, cx| channel.join(socket(1), None, cx));
    bench.now += ENTER_TIMEOUT;
    assert_eq!(bench.act(ClusterChannel::tick), [Effect::Refuse { socket_id: socket(1), answers: 1 }]);
    let effects = bench.act(|channel, cx| channel.acknowledged(1, cx));
    assert_eq!(effects, [Effect::Unsubscribe]);
    assert!(bench.channel.is_idle());
}

#[test]
fn more_notices_than_are_kept_are_read_again() {
    let mut bench = Bench::live();
    let gap = bench.hear(OTHER, 9, 8, Change::Join(entry(9, "c")));
    assert_eq!(gap, [read(3)]);
    for sequence in 10..10 + KEPT_MAX as u64 + 5 {
        bench.hear(OTHER, sequence, sequence - 1, Change::Describe(entry(9, "c")));
    }
    assert_eq!(bench.channel.kept(), KEPT_MAX);
    assert_eq!(bench.answer(3, vec![]), [read(4)]);
    assert_eq!(bench.channel.kept(), 0);
    let shares = vec![share(OWN, 2, vec![entry(1, "a")]), share(OTHER, 99_999, vec![entry(9, "c")])];
    assert_eq!(told(&bench.answer(4, shares)), [(true, "c".to_owned())]);
}

#[test]
fn what_follows_on_an_empty_share_is_not_lost() {
    let mut bench = Bench::live();
    let own = || vec![share(OWN, 2, vec![entry(1, "a")])];
    let user_id = entry(7, "c").member.user_id.clone();
    // The share of the other is empty whenever it is read, though its owner is busy.
    assert_eq!(bench.hear(OTHER, 7, 6, Change::Join(entry(7, "c"))), [read(3)]);
    bench.hear(OTHER, 8, 7, Change::Leave { socket_id: socket(7), user_id });
    assert_eq!(bench.answer(3, own()), [read(4)]);
    assert_eq!(bench.answer(4, own()), [read(5)]);
    bench.hear(OTHER, 9, 8, Change::Join(entry(9, "d")));
    let news = [(true, "c"), (false, "c"), (true, "d")].map(|(came, user)| (came, user.to_owned()));
    assert_eq!(told(&bench.answer(5, own())), news);
    assert_eq!(bench.channel.roster().len(), 2);
}

#[test]
fn what_another_life_has_taken_the_place_of_is_not_waited_for() {
    let mut bench = Bench::live();
    bench.hear(OTHER, 1, 0, Change::Join(entry(7, "c")));
    bench.act(ClusterChannel::lost);
    let ticket = bench.sequence.load(Relaxed) + 1;
    bench.act(ClusterChannel::back);
    let effects = bench.act(|channel, cx| channel.acknowledged(ticket, cx));
    assert!(matches!(&effects[..], [Effect::Replace { known, .. }] if known == &[OTHER]), "{effects:?}");
    let shares = vec![share(OWN, ticket + 1, vec![entry(1, "a")])];
    let answer = Answer { shares, over: vec![OTHER] };
    let effects = bench.act(|channel, cx| channel.answered(ticket + 1, answer, cx));
    assert_eq!(told(&effects), [(false, "c".to_owned())], "its user did not come back with the new life");
}

#[test]
fn while_redis_is_away_everybody_is_let_in() {
    let mut bench = Bench::live();
    bench.join(2, "b");
    let effects = bench.act(ClusterChannel::lost);
    assert_eq!((told(&effects), entered(&effects)), (vec![(true, "b".to_owned())], vec![(2, 1)]));
    assert_eq!(entered(&bench.join(3, "c")), [(3, 1)]);
    let ticket = bench.sequence.load(Relaxed) + 1;
    assert_eq!(bench.act(ClusterChannel::back), [Effect::Subscribe { ticket }]);
    let effects = bench.act(|channel, cx| channel.acknowledged(ticket, cx));
    let [Effect::Replace { count: 3, confirmed: Some(confirmed), .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    // What was on its way may not have come to Redis.
    let users = vec![KnownUser::Here, KnownUser::No, KnownUser::No];
    assert_eq!(*confirmed, Confirmed { users, is_occupied: true, was_here: true, count: 1, gone: vec![] });
}

#[test]
fn who_stays_is_known_when_redis_has_forgotten_the_share() {
    let mut bench = Bench::live();
    let of = |user: &str| entry(1, user).member.user_id.clone();
    bench.join(2, "b");
    bench.hear(OWN, 3, 2, Change::Join(entry(2, "b")));
    bench.act(|channel, cx| channel.leave(socket(1), Some(&of("a")), cx));
    bench.join(3, "c");
    let effects = bench.act(|channel, cx| channel.refused(4, false, cx));
    let [Effect::Replace { entries, confirmed: Some(confirmed), .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((entries.len(), &*confirmed.users), (2, &[KnownUser::Here, KnownUser::No][..]));
    assert_eq!((confirmed.is_occupied, confirmed.was_here, &*confirmed.gone), (true, true, &[of("a")][..]));
    // The same where it has only a count.
    let mut bench = Bench::new(ChannelKind::Public);
    bench.act(|channel, cx| channel.join(socket(1), None, cx));
    let effects = bench.act(|channel, cx| channel.acknowledged(1, cx));
    let [.., Effect::Replace { sequence, .. }] = effects[..] else { panic!("{effects:?}") };
    let share = Share { count: 1, ..share(OWN, sequence, vec![]) };
    bench.answer(sequence, vec![share]);
    let effects = bench.act(|channel, cx| channel.leave(socket(1), None, cx));
    let [Effect::Change { sequence, follows, .. }, ..] = effects[..] else { panic!("{effects:?}") };
    assert_ne!(follows, 0, "there was a count");
    let effects = bench.act(|channel, cx| channel.refused(sequence, false, cx));
    let [Effect::Replace { count: 0, confirmed: Some(confirmed), .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((confirmed.is_occupied, confirmed.was_here), (false, true));
}

#[test]
fn who_leaves_while_redis_is_away_is_named_until_it_has_answered() {
    let mut bench = Bench::live();
    bench.join(2, "b");
    bench.hear(OWN, 3, 2, Change::Join(entry(2, "b")));
    let of = |user: &str| entry(1, user).member.user_id.clone();
    // One is leaving when it goes, the other leaves while it is away.
    bench.act(|channel, cx| channel.leave(socket(2), Some(&of("b")), cx));
    bench.act(ClusterChannel::lost);
    bench.act(|channel, cx| channel.leave(socket(1), Some(&of("a")), cx));
    for back in 1..=2 {
        let ticket = bench.sequence.load(Relaxed) + 1;
        bench.act(ClusterChannel::back);
        let effects = bench.act(|channel, cx| channel.acknowledged(ticket, cx));
        let [Effect::Replace { count, confirmed: Some(confirmed), .. }] = &effects[..] else {
            panic!("{effects:?}")
        };
        if back == 1 {
            assert_eq!((*count, &*confirmed.gone), (0, &[of("a"), of("b")][..]));
            // It goes again before it has answered, and one of them is back.
            bench.act(ClusterChannel::lost);
            bench.join(3, "b");
        } else {
            assert_eq!((*count, &*confirmed.gone), (1, &[of("a")][..]));
        }
    }
}

#[test]
fn on_a_cache_channel_a_newcomer_waits_until_what_is_kept_is_known() {
    let mut bench = Bench::new(ChannelKind::Cache);
    bench.act(|channel, cx| channel.join(socket(1), None, cx));
    bench.act(|channel, cx| channel.acknowledged(1, cx));
    let mut own = share(OWN, 2, vec![]);
    own.count = 1;
    assert_eq!(entered(&bench.answer(2, vec![own])), []);
    let notice = Notice::Replace { predecessors: vec![], count: 1, entries: Some(vec![]) };
    let effects = bench.act(|channel, cx| channel.heard(OWN, 2, notice, cx));
    assert_eq!((effects.first(), entered(&effects)), (Some(&Effect::Keep), vec![(1, 1)]));
}

#[test]
fn a_topic_that_nobody_needs_is_given_up_after_a_while() {
    let mut bench = Bench::live();
    let user_id = entry(1, "a").member.user_id.clone();
    bench.act(|channel, cx| channel.leave(socket(1), Some(&user_id), cx));
    bench.hear(OWN, 3, 2, Change::Leave { socket_id: socket(1), user_id });
    assert_eq!(bench.act(ClusterChannel::tick), []);
    bench.now += LINGER;
    assert_eq!(bench.act(ClusterChannel::tick), [Effect::Unsubscribe]);
    assert!(bench.channel.is_idle());
}

#[test]
fn a_count_that_was_never_heard_is_given_up_all_the_same() {
    let mut bench = Bench::new(ChannelKind::Public);
    bench.act(|channel, cx| channel.join(socket(1), None, cx));
    bench.act(|channel, cx| channel.acknowledged(1, cx));
    let own = Share { count: 1, ..share(OWN, 2, vec![]) };
    bench.answer(2, vec![own]);
    let effects = bench.act(|channel, cx| channel.leave(socket(1), None, cx));
    assert!(
        matches!(effects[0], Effect::Change { sequence: 3, change: Change::Count(0), .. }),
        "{effects:?}"
    );
    bench.act(|channel, cx| channel.done(3, cx));
    assert_eq!(bench.act(ClusterChannel::tick), []);
    bench.now += LINGER;
    assert_eq!(bench.act(ClusterChannel::tick), [Effect::Unsubscribe]);
    assert!(!bench.channel.may_be_stored());
}

#[test]
fn who_waits_for_what_is_kept_is_not_taken_out_of_the_count() {
    let mut bench = Bench::new(ChannelKind::Cache);
    for left in [1, 2] {
        bench.act(|channel, cx| channel.join(socket(left), None, cx));
    }
    bench.act(|channel, cx| channel.acknowledged(1, cx));
    bench.act(|channel, cx| channel.leave(socket(2), None, cx));
    let own = Share { count: 2, ..share(OWN, 2, vec![]) };
    assert_eq!(bench.answer(2, vec![own]), [], "the topic has not come so far");
    let notice = Notice::Replace { predecessors: vec![], count: 2, entries: Some(vec![]) };
    let effects = bench.act(|channel, cx| channel.heard(OWN, 2, notice, cx));
    assert_eq!(entered(&effects), [(1, 1)]);
    let is_sent = |effect: &Effect| matches!(effect, Effect::Change { change: Change::Count(1), .. });
    assert!(effects.iter().any(is_sent), "{effects:?}");
}

#[test]
fn what_a_life_said_before_its_successor_was_read_is_forgotten_with_it() {
    let mut bench = Bench::new(ChannelKind::Presence);
    bench.join(1, "a");
    bench.act(|channel, cx| channel.acknowledged(1, cx));
    assert_eq!(bench.hear(OTHER, 5, 0, Change::Join(entry(7, "b"))), [], "kept");
    let after = NodeId(3);
    let shares = vec![share(OWN, 2, vec![entry(1, "a")]), share(after, 9, vec![entry(7, "b")])];
    bench.answer(2, shares);
    let entries = Some(vec![entry(7, "b")]);
    let notice = Notice::Replace { predecessors: vec![OTHER], count: 1, entries };
    assert_eq!(bench.act(|channel, cx| channel.heard(after, 9, notice, cx)), []);
    let user_id = entry(7, "b").member.user_id.clone();
    let effects = bench.hear(after, 10, 9, Change::Leave { socket_id: socket(7), user_id });
    assert_eq!(told(&effects), [(false, "b".to_owned())]);
    assert_eq!(bench.channel.count(), 1);
}
