//! What a queue may do, said naively: lists that are searched from the front, and a receiver that writes down what it gets.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// A thing that happens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Push {
        channel: usize,
        size: usize,
    },
    /// So much waits elsewhere.
    MakeRoom(Behind),
    /// Milliseconds.
    Pass(u64),
    /// One of the requests under way has no answer, although it may have been received.
    Fail {
        which: usize,
        is_received: bool,
    },
    Answer {
        which: usize,
        status: u16,
    },
}

#[derive(Clone, Debug)]
struct Item {
    number: u64,
    channel: usize,
    bytes: usize,
    since: Duration,
}

#[derive(Debug)]
struct Sent {
    items: Vec<Item>,
    attempt: Attempt,
    begun_at: Duration,
    is_under_way: bool,
}

struct World {
    queue: Queue<u64>,
    batching: Batching,
    limits: QueueLimits,
    start: Instant,
    now: Duration,
    pushed: u64,
    waiting: Vec<Item>,
    sent: BTreeMap<RequestId, Sent>,
    done: BTreeSet<RequestId>,
    failing_since: Option<Duration>,
    /// What the receiver got, by channel: in which request, which event.
    received: BTreeMap<usize, Vec<(RequestId, u64)>>,
    fates: BTreeMap<u64, Fate>,
    settled: Vec<Settled<u64>>,
}

/// Plays `ops`, then heals the target and lets everything come to its end.
pub(super) fn play(ops: &[Op], batching: Batching, limits: QueueLimits) {
    let mut world = World {
        queue: Queue::new(batching, limits),
        batching,
        limits,
        start: Instant::now(),
        now: Duration::ZERO,
        pushed: 0,
        waiting: vec![],
        sent: BTreeMap::new(),
        done: BTreeSet::new(),
        failing_since: None,
        received: BTreeMap::new(),
        fates: BTreeMap::new(),
        settled: vec![],
    };
    for op in ops {
        match *op {
            Op::Push { channel, size } => world.push(channel, size),
            Op::MakeRoom(behind) => world.make_room(behind),
            Op::Pass(ms) => world.pass(Duration::from_millis(ms)),
            Op::Fail { which, is_received } => world.answer(which, Outcome::Unanswered, is_received),
            Op::Answer { which, status } => world.answer(which, Outcome::Status(status), status == 200),
        }
        world.poll();
    }
    world.heal();
    world.check_receiver();
}

impl World {
    fn push(&mut self, channel: usize, size: usize) {
        self.pushed += 1;
        let event = event(&format!("c{channel}"), self.pushed, size * 100);
        let item = Item { number: self.pushed, channel, bytes: event.json.len(), since: self.now };
        self.queue.push(event, self.pushed, self.start + self.now, &mut self.settled);
        let mut expected = vec![];
        if item.bytes > self.limits.bytes_max.get() {
            expected.push((item.number, Fate::TooLarge));
        } else {
            self.waiting.push(item);
            let bytes = |items: &[Item]| items.iter().map(|item| item.bytes).sum::<usize>();
            while self.waiting.len() > self.limits.events_max.get()
                || bytes(&self.waiting) > self.limits.bytes_max.get()
            {
                expected.push((self.waiting.remove(0).number, Fate::Overflow));
            }
        }
        assert_eq!(self.take_settled(), expected);
    }

    fn make_room(&mut self, behind: Behind) {
        self.queue.make_room(behind, &mut self.settled);
        let mut expected = vec![];
        let is_full = |world: &Self| {
            let sent = world.sent.values().flat_map(|sent| &sent.items);
            let bytes = sent.chain(&world.waiting).map(|item| item.bytes).sum::<usize>();
            world.queue_depth() + behind.events > world.limits.events_max.get()
                || bytes + behind.bytes > world.limits.bytes_max.get()
        };
        while is_full(self) && !self.waiting.is_empty() {
            expected.push((self.waiting.remove(0).number, Fate::Overflow));
        }
        assert_eq!(self.take_settled(), expected);
    }

    fn queue_depth(&self) -> usize {
        self.waiting.len() + self.sent.values().map(|sent| sent.items.len()).sum::<usize>()
    }

    /// Goes from one look to the next, as whoever owns a queue does.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(next) = self.poll().filter(|next| *next <= until) {
            assert!(next > self.now, "asked to look again at once");
            self.now = next;
        }
        self.now = until;
    }

    /// Polls, and checks what comes of it. When to look again.
    fn poll(&mut self) -> Option<Duration> {
        let mut attempts = vec![];
        let next = self.queue.poll(self.start + self.now, 7, &mut attempts, &mut self.settled);
        for (number, fate) in self.take_settled() {
            assert_eq!(fate, Fate::Expired);
            let at = self.waiting.iter().position(|item| item.number == number).expect("it waited");
            assert_eq!(at, 0, "the oldest expires first");
            let waited_since =
                self.waiting.remove(at).since.max(self.failing_since.expect("the target fails"));
            assert!(self.now >= waited_since + RETRY_FOR, "{number} expired early");
        }
        for attempt in attempts {
            self.check_attempt(attempt);
        }
        let under_way = self.sent.values().filter(|sent| sent.is_under_way).count();
        assert!(under_way <= self.limits.requests_max.get());
        assert!(self.sent.len() <= self.limits.requests_max.get() + self.limits.retrying_max);
        if under_way < self.limits.requests_max.get()
            && self.sent.len() < self.limits.requests_max.get() + self.limits.retrying_max
        {
            let ready: Vec<_> = self.waiting.iter().filter(|item| !self.is_blocked(item.channel)).collect();
            assert!(ready.len() < self.batching.events_max());
            assert!(
                ready.iter().all(|item| item.since + self.batching.wait() > self.now),
                "kept although there is room"
            );
        }
        assert_eq!(self.queue.depth(), self.queue_depth());
        next.map(|next| next - self.start)
    }

    fn is_blocked(&self, channel: usize) -> bool {
        self.sent.values().any(|sent| sent.items.iter().any(|item| item.channel == channel))
    }

    fn check_attempt(&mut self, attempt: Attempt) {
        assert!(!self.done.contains(&attempt.request), "sent again after its end");
        if let Some(sent) = self.sent.get_mut(&attempt.request) {
            assert!(!sent.is_under_way, "under way already");
            sent.attempt.number += 1;
            assert_eq!(sent.attempt, attempt, "the same body again");
            sent.is_under_way = true;
            return;
        }
        let number = |id: &str| u64::from_str_radix(id.strip_prefix("1.").unwrap(), 16).unwrap();
        let mut items: Vec<Item> = vec![];
        for number in attempt.event_ids.split(',').map(number) {
            let at = self.waiting.iter().position(|item| item.number == number).expect("it waited");
            let item = self.waiting.remove(at);
            assert!(!self.is_blocked(item.channel), "{number} overtakes what is not settled");
            assert!(
                !self.waiting.iter().any(|other| other.channel == item.channel && other.number < number),
                "{number} overtakes what waits"
            );
            items.push(item);
        }
        let bytes: usize = items.iter().map(|item| item.bytes).sum();
        assert!(items.len() <= self.batching.events_max() && (items.len() == 1 || bytes <= BODY_BYTES_MAX));
        assert_eq!((attempt.events, attempt.number), (items.len(), 1));
        let sent = Sent { items, begun_at: self.now, is_under_way: true, attempt };
        self.sent.insert(sent.attempt.request, sent);
    }

    fn answer(&mut self, which: usize, outcome: Outcome, is_received: bool) {
        let under_way: Vec<_> =
            self.sent.iter().filter(|(_, sent)| sent.is_under_way).map(|(id, _)| *id).collect();
        if under_way.is_empty() {
            return;
        }
        let id = under_way[which % under_way.len()];
        let sent = self.sent.get_mut(&id).unwrap();
        sent.is_under_way = false;
        if is_received {
            for item in &sent.items {
                self.received.entry(item.channel).or_default().push((id, item.number));
            }
        }
        let is_over = self.now >= sent.begun_at + RETRY_FOR;
        let fate = match outcome.verdict() {
            Verdict::Delivered => Some(Fate::Delivered),
            Verdict::Refused => Some(Fate::Refused(404)),
            Verdict::Retry => is_over.then_some(Fate::Expired),
        };
        if outcome.verdict() == Verdict::Retry {
            self.failing_since.get_or_insert(self.now);
        } else {
            self.failing_since = None;
        }
        self.queue.finished(id, outcome, self.start + self.now, &mut self.settled);
        let expected = fate.map(|fate| {
            self.done.insert(id);
            let items = self.sent.remove(&id).unwrap().items;
            items.iter().map(|item| (item.number, fate)).collect::<Vec<_>>()
        });
        assert_eq!(self.take_settled(), expected.unwrap_or_default());
    }

    /// Notes what has become of events, each once.
    fn take_settled(&mut self) -> Vec<(u64, Fate)> {
        let settled: Vec<_> = self.settled.drain(..).map(|one| (one.token, one.fate)).collect();
        for (number, fate) in &settled {
            assert_eq!(self.fates.insert(*number, *fate), None, "{number} is settled twice");
        }
        settled
    }

    /// The target takes everything from here on.
    fn heal(&mut self) {
        let limit = self.now + Duration::from_secs(70);
        loop {
            let next = self.poll();
            if self.sent.values().any(|sent| sent.is_under_way) {
                self.answer(0, Outcome::Status(200), true);
            } else if let Some(next) = next {
                assert!(next > self.now, "something is due and not sent");
                self.now = next;
            } else {
                break;
            }
            assert!(self.now <= limit, "not all sent a minute after the target is well");
        }
        assert!(self.queue.is_empty() && self.queue.lanes.is_clean(), "{:?}", self.queue);
        assert_eq!(self.fates.len() as u64, self.pushed, "each is settled");
    }

    /// In order, each once but for requests that were received without an answer; all that was delivered is there.
    fn check_receiver(&self) {
        let mut seen = BTreeSet::new();
        for received in self.received.values() {
            let mut newest = 0;
            let mut requests: Vec<&[(RequestId, u64)]> = received.chunk_by(|a, b| a.0 == b.0).collect();
            requests.dedup_by_key(|request| request[0].0);
            for request in requests {
                let mut numbers: Vec<u64> = request.iter().map(|(_, number)| *number).collect();
                // A request that came more than once repeats the same events.
                let length = 1 + numbers.iter().skip(1).take_while(|number| **number != numbers[0]).count();
                assert!(numbers.chunks(length).all(|again| again == &numbers[..length]));
                numbers.truncate(length);
                for number in numbers {
                    assert!(number > newest, "{number} came after {newest}");
                    newest = number;
                    seen.insert(number);
                }
            }
        }
        for (number, fate) in &self.fates {
            assert!(*fate != Fate::Delivered || seen.contains(number), "{number} was not delivered");
        }
    }
}
