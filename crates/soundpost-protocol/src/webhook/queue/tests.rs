//! Rules of the queue one by one, then all of them over random histories, held against a naive model.

mod model;

use super::*;
use crate::{
    app::Limits,
    channel::ChannelName,
    presence::NodeId,
    webhook::event::{Event, EventId},
};
use model::{Op, play};
use proptest::prelude::*;

/// An event of `channel` whose id and token is `number`; about `bytes` bytes of data.
fn event(channel: &str, number: u64, bytes: usize) -> Encoded {
    let channel = ChannelName::parse(channel, &Limits::default()).unwrap();
    let name = "x".repeat(bytes);
    let id = EventId { life: NodeId(1), number };
    let socket_id = crate::socket_id::SocketId { left: 1, right: 1 };
    Event::ClientEvent { event: &name, data: None, socket_id, user_id: None }.encode(id, &channel)
}

fn limits(events_max: usize, bytes_max: usize, requests_max: usize, retrying_max: usize) -> QueueLimits {
    let number = |number| NonZeroUsize::new(number).unwrap();
    QueueLimits {
        events_max: number(events_max),
        bytes_max: number(bytes_max),
        requests_max: number(requests_max),
        retrying_max,
    }
}

/// A queue with its time, and what came of it.
struct Bench {
    queue: Queue<u64>,
    start: Instant,
    now: Duration,
    settled: Vec<Settled<u64>>,
}

impl Bench {
    fn new(batching: Batching, limits: QueueLimits) -> Self {
        Self {
            queue: Queue::new(batching, limits),
            start: Instant::now(),
            now: Duration::ZERO,
            settled: vec![],
        }
    }

    fn push(&mut self, channel: &str, number: u64) {
        self.queue.push(event(channel, number, 0), number, self.start + self.now, &mut self.settled);
    }

    /// The ids of each attempt, and milliseconds until the next look.
    fn poll(&mut self) -> (Vec<(RequestId, String)>, Option<u64>) {
        let mut attempts = vec![];
        let next = self.queue.poll(self.start + self.now, 7, &mut attempts, &mut self.settled);
        let next = next.map(|next| (next - (self.start + self.now)).as_millis() as u64);
        (attempts.into_iter().map(|attempt| (attempt.request, attempt.event_ids.to_string())).collect(), next)
    }

    fn ids(&mut self) -> Vec<String> {
        self.poll().0.into_iter().map(|(_, ids)| ids).collect()
    }

    fn finish(&mut self, request: u64, outcome: Outcome) {
        self.queue.finished(RequestId(request), outcome, self.start + self.now, &mut self.settled);
    }

    fn fates(&mut self) -> Vec<(u64, Fate)> {
        self.settled.drain(..).map(|settled| (settled.token, settled.fate)).collect()
    }
}

#[test]
fn who_begins_anew_after_giving_up_knows_of_no_failures() {
    let mut bench = Bench::new(Batching::default(), QueueLimits::default());
    bench.push("a", 1);
    bench.poll();
    bench.finish(1, Outcome::Unanswered);
    bench.queue.abandon(&mut bench.settled);
    assert_eq!(bench.fates(), [(1, Fate::Abandoned)]);
    // Another has sent for an hour, and what is left has waited for long.
    bench.push("a", 2);
    bench.now = Duration::from_secs(3600);
    assert_eq!(bench.ids(), ["1.2"]);
    assert_eq!(bench.fates(), []);
}

#[test]
fn without_batches_each_event_goes_at_once_and_alone() {
    let mut bench = Bench::new(Batching::default(), QueueLimits::default());
    for (channel, number) in [("a", 1), ("b", 2), ("a", 3)] {
        bench.push(channel, number);
    }
    assert_eq!(bench.ids(), ["1.1", "1.2"], "the third waits for the first of its channel");
    bench.finish(2, Outcome::Status(200));
    assert_eq!(bench.poll(), (vec![], None));
    bench.finish(1, Outcome::Status(204));
    assert_eq!(bench.ids(), ["1.3"]);
    assert_eq!(bench.fates(), [(2, Fate::Delivered), (1, Fate::Delivered)]);
    assert_eq!(bench.queue.depth(), 1);
}

#[test]
fn a_body_is_sent_when_its_first_event_has_waited_or_it_is_full() {
    let mut bench = Bench::new(Batching::new(50, 3).unwrap(), QueueLimits::default());
    bench.push("a", 1);
    bench.now += Duration::from_millis(20);
    bench.push("b", 2);
    assert_eq!(bench.poll(), (vec![], Some(30)));
    bench.now += Duration::from_millis(30);
    assert_eq!(bench.ids(), ["1.1,1.2"]);
    for (channel, number) in [("a", 3), ("c", 4), ("c", 5)] {
        bench.push(channel, number);
    }
    assert_eq!(bench.poll(), (vec![], Some(50)), "of three events one is blocked");
    bench.push("d", 6);
    assert_eq!(bench.ids(), ["1.4,1.5,1.6"]);
    bench.finish(1, Outcome::Status(200));
    assert_eq!(bench.poll(), (vec![], Some(50)));
    bench.queue.flush();
    assert_eq!(bench.ids(), ["1.3"]);
}

#[test]
fn a_body_is_bounded_in_bytes() {
    let mut bench = Bench::new(Batching::new(50, 100).unwrap(), QueueLimits::default());
    for (number, bytes) in [(1, BODY_BYTES_MAX / 2), (2, BODY_BYTES_MAX / 2), (3, 2 * BODY_BYTES_MAX), (4, 0)]
    {
        let channel = format!("c{number}");
        bench.queue.push(event(&channel, number, bytes), number, bench.start, &mut bench.settled);
    }
    bench.now += Duration::from_millis(50);
    assert_eq!(bench.ids(), ["1.1", "1.2", "1.3", "1.4"]);
}

#[test]
fn a_request_that_fails_is_sent_again_as_it_was_and_holds_up_its_own_channels() {
    let mut bench = Bench::new(Batching::default(), limits(100, 1 << 20, 1, 1));
    let mut attempts = vec![];
    bench.push("a", 1);
    bench.queue.poll(bench.start, 7, &mut attempts, &mut bench.settled);
    bench.finish(1, Outcome::Status(503));
    bench.push("a", 2);
    bench.push("b", 3);
    assert_eq!(bench.ids(), ["1.3"]);
    bench.finish(2, Outcome::Status(200));
    assert_eq!(bench.poll(), (vec![], Some(1000)));
    bench.now += Duration::from_secs(1);
    bench.queue.poll(bench.start + bench.now, 8, &mut attempts, &mut bench.settled);
    assert_eq!(attempts[0].number, 1);
    assert_eq!(attempts[1], Attempt { number: 2, ..attempts[0].clone() });
    assert!(attempts[1].body.starts_with(br#"{"time_ms":7,"#));
    bench.finish(1, Outcome::Status(200));
    assert_eq!(bench.ids(), ["1.2"]);
}

#[test]
fn requests_under_way_and_in_doubt_are_bounded() {
    let mut bench = Bench::new(Batching::default(), limits(100, 1 << 20, 2, 1));
    for number in 1..=9 {
        bench.push(&format!("c{number}"), number);
    }
    assert_eq!(bench.ids(), ["1.1", "1.2"]);
    bench.finish(1, Outcome::Unanswered);
    bench.finish(2, Outcome::Unanswered);
    assert_eq!(bench.ids(), ["1.3"], "two in doubt leave room for one more");
    bench.finish(3, Outcome::Unanswered);
    assert_eq!(bench.poll(), (vec![], Some(1000)));
    bench.now += Duration::from_secs(1);
    assert_eq!(bench.ids(), ["1.1", "1.2"], "and of three that are due two are sent");
}

#[test]
fn what_is_refused_is_not_sent_again() {
    for status in [301, 400, 404, 410] {
        let mut bench = Bench::new(Batching::default(), QueueLimits::default());
        bench.push("a", 1);
        bench.push("a", 2);
        assert_eq!(bench.ids(), ["1.1"]);
        bench.finish(1, Outcome::Status(status));
        assert_eq!(bench.fates(), [(1, Fate::Refused(status))]);
        assert_eq!(bench.ids(), ["1.2"]);
    }
}

#[test]
fn the_oldest_goes_when_too_much_waits() {
    let bytes = event("a", 1, 0).json.len();
    for limits in [limits(2, 1 << 20, 1, 0), limits(100, 2 * bytes, 1, 0)] {
        let mut bench = Bench::new(Batching::default(), limits);
        bench.push("a", 1);
        assert_eq!(bench.ids(), ["1.1"]);
        for (channel, number) in [("a", 2), ("b", 3), ("c", 4), ("d", 5)] {
            bench.push(channel, number);
        }
        assert_eq!(bench.fates(), [(2, Fate::Overflow), (3, Fate::Overflow)]);
        bench.queue.push(event("e", 6, 3 * bytes), 6, bench.start, &mut bench.settled);
        if limits.bytes_max.get() < 3 * bytes {
            assert_eq!(bench.fates(), [(6, Fate::TooLarge)], "and pushes out no other");
        }
    }
}

#[test]
fn what_waits_elsewhere_counts_too_and_requests_stay() {
    let bytes = event("a", 1, 0).json.len();
    for (events_max, bytes_max, behind) in [
        (4, 1 << 20, Behind { events: 2, bytes: 0 }),
        (100, 4 * bytes, Behind { events: 0, bytes: 2 * bytes }),
    ] {
        let mut bench = Bench::new(Batching::default(), limits(events_max, bytes_max, 1, 0));
        for (channel, number) in [("a", 1), ("a", 2), ("b", 3)] {
            bench.push(channel, number);
        }
        bench.queue.make_room(Behind::default(), &mut bench.settled);
        assert_eq!((bench.ids(), bench.fates()), (vec!["1.1".to_owned()], vec![]));
        bench.queue.make_room(behind, &mut bench.settled);
        assert_eq!(bench.fates(), [(2, Fate::Overflow)], "the oldest is under way");
        bench.queue.make_room(Behind { events: 100, bytes: 100 * bytes }, &mut bench.settled);
        assert_eq!(bench.fates(), [(3, Fate::Overflow)]);
        bench.finish(1, Outcome::Status(200));
        assert_eq!((bench.fates(), bench.queue.is_empty()), (vec![(1, Fate::Delivered)], true));
    }
}

#[test]
fn a_target_that_only_fails_is_given_up_after_five_minutes() {
    let mut bench = Bench::new(Batching::default(), limits(100, 1 << 20, 1, 0));
    bench.push("a", 1);
    let mut attempts = vec![];
    while !bench.queue.is_empty() {
        let (sent, next) = bench.poll();
        for (request, ids) in &sent {
            attempts.push((bench.now.as_secs(), ids.clone()));
            bench.finish(request.0, Outcome::Status(500));
        }
        if sent.is_empty() {
            bench.now += Duration::from_millis(next.unwrap());
        }
        if bench.now == Duration::from_secs(63) && sent.is_empty() {
            bench.push("b", 2);
        }
    }
    let of = |id| attempts.iter().filter(|(_, ids)| ids == id).map(|(at, _)| *at).collect::<Vec<_>>();
    let schedule = [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 300];
    assert_eq!(of("1.1"), schedule);
    assert_eq!(
        of("1.2"),
        schedule.map(|at| at + 300),
        "its first attempt came before it had waited for so long"
    );
    assert_eq!(bench.fates(), [(1, Fate::Expired), (2, Fate::Expired)]);
}

#[test]
fn what_waits_while_the_target_only_fails_expires() {
    let mut bench = Bench::new(Batching::default(), limits(100, 1 << 20, 1, 0));
    for number in 1..=3 {
        bench.push("a", number);
    }
    assert_eq!(bench.ids(), ["1.1"]);
    bench.now = Duration::from_secs(1000);
    assert_eq!(bench.poll(), (vec![], None), "a target that is slow does not fail");
    bench.finish(1, Outcome::Status(200));
    assert_eq!(bench.ids(), ["1.2"]);
    bench.finish(2, Outcome::Unanswered);
    assert_eq!(bench.queue.failing_since(), Some(bench.start + bench.now));
    bench.now += Duration::from_secs(299);
    bench.push("a", 4);
    assert_eq!(bench.ids(), ["1.2"]);
    assert_eq!(bench.poll(), (vec![], Some(1000)));
    bench.now += Duration::from_secs(1);
    assert_eq!(bench.poll(), (vec![], Some(299_000)));
    assert_eq!(bench.fates(), [(1, Fate::Delivered), (3, Fate::Expired)]);
    bench.finish(2, Outcome::Status(200));
    assert_eq!(bench.ids(), ["1.4"]);
    assert_eq!(bench.queue.failing_since(), None);
}

#[test]
fn an_abandoned_queue_says_what_was_in_it() {
    let mut bench = Bench::new(Batching::default(), limits(100, 1 << 20, 1, 0));
    for number in 1..=3 {
        bench.push("a", number);
    }
    assert_eq!(bench.ids(), ["1.1"]);
    bench.queue.abandon(&mut bench.settled);
    assert_eq!(bench.fates(), [1, 2, 3].map(|number| (number, Fate::Abandoned)));
    bench.finish(1, Outcome::Status(200));
    assert_eq!((bench.fates(), bench.queue.is_empty()), (vec![], true));
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..5_usize, 0..4_usize).prop_map(|(channel, size)| Op::Push { channel, size }),
        1 => (0..20_usize, 0..3000_usize)
            .prop_map(|(events, bytes)| Op::MakeRoom(Behind { events, bytes })),
        3 => (0..200_u64).prop_map(Op::Pass),
        1 => (0..120_000_u64).prop_map(Op::Pass),
        5 => (0..8_usize, any::<bool>()).prop_map(|(which, is_received)| Op::Fail { which, is_received }),
        3 => (0..8_usize).prop_map(|which| Op::Answer { which, status: 200 }),
        1 => (0..8_usize).prop_map(|which| Op::Answer { which, status: 404 }),
        1 => (0..8_usize).prop_map(|which| Op::Answer { which, status: 503 }),
    ]
}

proptest! {
    #[test]
    fn every_history_keeps_order_and_loses_nothing_without_a_reason(
        ops in prop::collection::vec(op(), 0..160),
        batch in (0..100_u64, 1..6_u64),
        bounds in (1..30_usize, 200..4000_usize, 1..4_usize, 0..3_usize),
    ) {
        let (events_max, bytes_max, requests_max, retrying_max) = bounds;
        let batching = Batching::new(batch.0, batch.1).unwrap();
        play(&ops, batching, limits(events_max, bytes_max, requests_max, retrying_max));
    }
}
