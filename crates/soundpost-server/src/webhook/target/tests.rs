use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use soundpost_protocol::{
    app::Limits,
    channel::ChannelName,
    presence::NodeId,
    webhook::{
        event::{Event, EventId},
        queue::Fate,
    },
};
use tokio::sync::{Semaphore, mpsc};

use super::*;
use crate::webhook::{carrier::tests::Script, metrics::Total};

/// Whatever a test waits for must have happened by then, however busy the machine is with other things.
const DEADLINE: Duration = Duration::from_secs(60);

type Settlements = mpsc::Receiver<Vec<Settled<Option<Place>>>>;

/// A target over a script, and what it settles.
struct Stage {
    target: TargetHandle,
    settled: Settlements,
    metrics: Arc<WebhookMetrics>,
    tasks: JoinSet<()>,
}

fn stage<F>(batching: Batching, send: impl Fn(Attempt) -> F + Send + Sync + 'static) -> Stage
where
    F: Future<Output = Result<Outcome, Problem>> + Send + 'static,
{
    let (told, settled) = mpsc::channel(100);
    let (metrics, mut tasks) = (Arc::<WebhookMetrics>::default(), JoinSet::new());
    let beginning = Beginning {
        name: TargetName { app: "a".into(), webhook: "w".into(), host: "h".into() },
        carrier: Carrier::Scripted(Script::new(send)),
        batching,
        limits: QueueLimits::default(),
        metrics: Arc::clone(&metrics),
        heard: Box::new(move |settled| told.try_send(settled).unwrap()),
    };
    let target = TargetHandle::start(beginning, &mut tasks);
    Stage { target, settled, metrics, tasks }
}

impl Stage {
    /// The next `count` events that are settled: their places and fates.
    async fn settled(&mut self, count: usize) -> Vec<(u64, Fate)> {
        let mut all = Vec::new();
        while all.len() < count {
            let settled = tokio::time::timeout(DEADLINE, self.settled.recv()).await;
            let settled = settled.unwrap().unwrap();
            all.extend(settled.into_iter().map(|event| (event.token.unwrap().milliseconds, event.fate)));
        }
        all
    }

    async fn over(mut self) {
        tokio::time::timeout(DEADLINE, self.tasks.join_all()).await.unwrap();
        assert_eq!(self.settled.recv().await, None);
        assert_eq!(self.metrics.depth.value(), 0);
    }
}

fn incoming(channel: &str, number: u64) -> Incoming {
    let channel = ChannelName::parse(channel, &Limits::default()).unwrap();
    let event = Event::SubscriptionCount(number).encode(EventId { life: NodeId(1), number }, &channel);
    Incoming { event, place: Some(Place { milliseconds: number, sequence: 0 }), since: Instant::now() }
}

fn portions(events: u64) -> Batching {
    Batching::new(10_000, events).unwrap()
}

#[tokio::test]
async fn a_panic_counts_as_no_answer_and_the_request_is_sent_again() {
    let attempts = AtomicU32::new(0);
    let mut stage = stage(Batching::default(), move |attempt| {
        let count = attempts.fetch_add(1, Relaxed);
        async move {
            assert!(count > 0, "as the test wants it");
            assert_eq!(attempt.number, 2);
            Ok(Outcome::Status(204))
        }
    });
    stage.target.push(vec![incoming("a", 1)]);
    assert_eq!(stage.settled(1).await, [(1, Fate::Delivered)]);
    let metrics = Arc::clone(&stage.metrics);
    let counts = [&metrics.sent, &metrics.failed, &metrics.retried, &metrics.delivered].map(Total::value);
    assert_eq!(counts, [2, 1, 1, 1]);
    stage.target.stop();
    stage.over().await;
}

#[tokio::test]
async fn the_events_of_a_channel_follow_one_another_and_others_go_beside_them() {
    let under_way = Arc::new(AtomicU32::new(0));
    let (sent, mut bodies) = mpsc::channel(100);
    let count = Arc::clone(&under_way);
    let mut stage = stage(Batching::default(), move |attempt| {
        sent.try_send(attempt.body).unwrap();
        let count = Arc::clone(&count);
        async move {
            assert!(count.fetch_add(1, Relaxed) < 4);
            task::yield_now().await;
            count.fetch_sub(1, Relaxed);
            Ok(Outcome::Status(200))
        }
    });
    let channels = ["a", "b", "c", "d", "e", "f"];
    let events = (0..60).map(|n| incoming(channels[n as usize % 6], n)).collect();
    stage.target.push(events);
    stage.settled(60).await;
    let mut numbers: HashMap<String, Vec<u64>> = HashMap::new();
    for _ in 0..60 {
        let body: serde_json::Value = serde_json::from_slice(&bodies.recv().await.unwrap()).unwrap();
        let event = &body["events"][0];
        let number = event["subscription_count"].as_u64().unwrap();
        numbers.entry(event["channel"].to_string()).or_default().push(number);
    }
    assert_eq!(numbers.len(), 6);
    assert!(numbers.values().all(|numbers| numbers.is_sorted() && numbers.len() == 10));
}

#[tokio::test]
async fn what_waits_for_others_goes_when_it_is_flushed() {
    let mut stage = stage(portions(200), |attempt| async move {
        assert_eq!(attempt.events, 3);
        Ok(Outcome::Status(200))
    });
    stage.target.push((1..4).map(|n| incoming("a", n)).collect());
    assert_eq!((stage.target.depth(), stage.metrics.depth.value()), (3, 3));
    stage.target.flush();
    assert_eq!(stage.settled(3).await.len(), 3);
    assert_eq!(stage.target.depth(), 0);
}

#[tokio::test]
async fn other_settings_hold_for_what_waits_already() {
    let mut stage = stage(portions(200), |_| async { panic!("this carrier is not used any more") });
    stage.target.push((1..4).map(|n| incoming("a", n)).collect());
    task::yield_now().await;
    let carrier = Carrier::Scripted(Script::new(|attempt| async move {
        assert_eq!(attempt.events, 1);
        Ok(Outcome::Status(410))
    }));
    stage.target.set(carrier, Batching::default());
    assert_eq!(stage.settled(3).await, [1, 2, 3].map(|n| (n, Fate::Refused(410))));
}

#[tokio::test]
async fn a_target_that_is_stopped_gives_everything_up_at_once() {
    let mut stage = stage(Batching::default(), |_| std::future::pending());
    stage.target.push((1..10).map(|n| incoming("a", n)).collect());
    task::yield_now().await;
    stage.target.stop();
    let mut settled = stage.settled(9).await;
    settled.sort_by_key(|(number, _)| *number);
    assert_eq!(settled, (1..10).map(|n| (n, Fate::Abandoned)).collect::<Vec<_>>());
    let (target, metrics) = (stage.target.clone(), Arc::clone(&stage.metrics));
    stage.over().await;
    assert_eq!(metrics.dropped(Dropped::Abandoned).value(), 0, "they are kept elsewhere");
    target.push(vec![incoming("a", 10), Incoming { place: None, ..incoming("a", 11) }]);
    assert_eq!(metrics.dropped(Dropped::Abandoned).value(), 1);
    assert_eq!(target.depth(), 0);
}

#[tokio::test]
async fn nothing_is_begun_without_a_permit() {
    let (sent, mut bodies) = mpsc::channel(100);
    let mut stage = stage(Batching::default(), move |attempt| {
        sent.try_send(attempt.number).unwrap();
        std::future::ready(Ok(Outcome::Status(200)))
    });
    stage.target.permit(Permit::Never);
    stage.target.push(vec![incoming("a", 1), incoming("b", 2)]);
    stage.target.permit(Permit::Until(Instant::now()));
    task::yield_now().await;
    task::yield_now().await;
    assert!(bodies.try_recv().is_err());
    stage.target.forget();
    assert_eq!((stage.target.depth(), stage.metrics.depth.value()), (0, 0));
    stage.target.push(vec![incoming("a", 3)]);
    stage.target.permit(Permit::Until(Instant::now() + Duration::from_secs(60)));
    assert_eq!(
        stage.settled(1).await,
        [(3, Fate::Delivered)],
        "of those that were forgotten nothing is heard"
    );
    assert_eq!((bodies.recv().await, bodies.try_recv().is_err()), (Some(1), true));
}

#[tokio::test]
async fn a_target_that_is_closed_ends_what_is_under_way() {
    let (gate, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (wait, tell) = (Arc::clone(&gate), Arc::clone(&begun));
    let mut stage = stage(Batching::default(), move |_| {
        let wait = Arc::clone(&wait);
        tell.add_permits(1);
        async move {
            wait.acquire().await.unwrap().forget();
            Ok(Outcome::Status(200))
        }
    });
    stage.target.push((1..4).map(|n| incoming("a", n)).collect());
    begun.acquire().await.unwrap().forget();
    stage.target.close();
    gate.add_permits(3);
    let fates = [(1, Fate::Delivered), (2, Fate::Abandoned), (3, Fate::Abandoned)];
    assert_eq!(stage.settled(3).await, fates);
    stage.over().await;
}

#[tokio::test]
async fn what_is_too_much_pushes_the_oldest_out_and_nobody_waits() {
    let mut stage = stage(portions(200), |_| std::future::pending());
    let mut events: Vec<_> = (0..10_002).map(|n| incoming("a", n)).collect();
    events[1].place = None;
    stage.target.push(events);
    assert_eq!(stage.target.depth(), 10_000);
    let settled = stage.settled.recv().await.unwrap();
    let places: Vec<_> = settled.iter().map(|event| (event.token, event.fate)).collect();
    assert_eq!(places, [(incoming("a", 0).place, Fate::Overflow), (None, Fate::Overflow)]);
    let dropped = stage.metrics.dropped(Dropped::Overflow);
    assert_eq!(dropped.value(), 1, "the other is still kept elsewhere");
    stage.target.lost(2);
    assert_eq!(dropped.value(), 3);
}

#[tokio::test]
async fn what_waits_elsewhere_pushes_the_oldest_out_that_are_not_under_way() {
    let mut stage = stage(Batching::default(), |_| std::future::pending());
    stage.target.push_before((0..9_000).map(|n| incoming("a", n)).collect(), Behind::default());
    task::yield_now().await;
    stage.target.push_before(vec![incoming("a", 9_000)], Behind { events: 1_002, bytes: 0 });
    assert_eq!(stage.target.depth(), 8_998);
    assert_eq!(stage.settled(3).await, [1, 2, 3].map(|n| (n, Fate::Overflow)));
    stage.target.push_before(vec![], Behind { events: 0, bytes: 17 << 20 });
    assert_eq!((stage.settled(8_997).await.len(), stage.target.depth()), (8_997, 1));
}
