//! Webhooks of several nodes: who sends what waits in Redis, and what becomes of it when a node or Redis fails.

mod causal;
mod failures;
mod order;
mod overflow;
#[path = "../../support/receiver.rs"]
mod receiver;
mod relay;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use soundpost_protocol::{
    app::{App, Limits},
    channel::ChannelName,
    socket_id::SocketId,
    webhook::{
        Carrier, HttpTarget, Webhook,
        event::Event,
        target::{ExtraHeaders, Target, TargetUrl},
    },
};
use soundpost_server::{
    config::{RedisServers, RedisSettings},
    webhook::{WebhookMetrics, metrics::Dropped},
};

use self::{
    receiver::{Received, Receiver, status},
    relay::Relay,
};
use super::{
    doors::acl_line,
    processes::{Cluster, Data, known_as, local, wait_until},
    support::{ReloadingServer, app_file},
    *,
};

/// So long a lease holds that nobody renews, and a little more.
const LEASE: Duration = Duration::from_secs(7);

/// A webhook that wants everything.
fn webhook(url: &str) -> Arc<Webhook> {
    let carrier = Carrier::Http(HttpTarget {
        url: TargetUrl::parse(url).unwrap(),
        headers: ExtraHeaders::default(),
        ca: None,
        refuses_private: false,
    });
    Arc::new(Webhook::new(Target::default(), carrier))
}

/// The app with one webhook, to this receiver.
fn telling(receiver: &Receiver) -> App {
    let mut app = app("one");
    app.webhooks = vec![webhook(&receiver.url("http"))];
    app
}

/// A node that tells the receiver.
fn teller(receiver: &Receiver, servers: RedisServers) -> TestServer {
    let node = start(telling(receiver), RedisSettings::new(servers));
    await_connected(&node);
    node
}

fn at(store: &Store) -> RedisServers {
    RedisServers::Standalone(store.server.address())
}

/// The name of something of the receiver's stream.
fn key(receiver: &Receiver, kind: &str) -> String {
    let id = telling(receiver).webhooks[0].id;
    format!("soundpost:0:reverb:{{app-one/@webhook/{id}}}:{kind}")
}

/// Who has the lease; nobody: empty.
fn sender(store: &Store, receiver: &Receiver) -> String {
    store.say(&format!("GET {}", key(receiver, "o"))).pop().unwrap_or_default()
}

/// Waits until this node sends.
fn await_sender(store: &Store, receiver: &Receiver, node: &TestServer) {
    wait_until("the node sends", || sender(store, receiver) == name(node));
}

/// As what a node signs in the lease.
fn name(node: &TestServer) -> String {
    let soundpost_server::adapter::Adapter::Redis(redis) = &*node.node().adapter else { unreachable!() };
    format!("{:016x}", redis.life().0)
}

fn depth(store: &Store, receiver: &Receiver) -> u64 {
    store.say(&format!("XLEN {}", key(receiver, "q")))[0].parse().unwrap()
}

/// Notes a client event on the node, as a worker does.
fn note(node: &TestServer, channel: &str, number: u64) {
    let channel = ChannelName::parse(channel, &Limits::default()).unwrap();
    let (data, socket_id) = (number.to_string(), SocketId { left: 1, right: 2 });
    let event = Event::ClientEvent { event: "client-n", data: Some(&data), socket_id, user_id: None };
    let index = node.node().apps.table().all()[0].index;
    node.node().delivery.webhooks.event(index, &event, &channel, Instant::now());
}

fn metrics(node: &TestServer) -> Arc<WebhookMetrics> {
    let index = node.node().apps.table().all()[0].index;
    node.node().webhooks.of(index)
}

/// The next requests, up to so many events.
fn gather(receiver: &Receiver, events: usize) -> Vec<Received> {
    let (mut requests, mut count) = (Vec::new(), 0);
    while count < events {
        let request = receiver.next();
        count += request.events().len();
        requests.push(request);
    }
    assert_eq!(count, events);
    requests
}

/// The client events of these requests: of each channel its numbers.
fn numbers(requests: &[Received]) -> BTreeMap<String, Vec<u64>> {
    let mut numbers = BTreeMap::<_, Vec<_>>::new();
    for event in requests.iter().flat_map(Received::events).filter(|event| event["name"] == "client_event") {
        let channel = event["channel"].as_str().unwrap().to_owned();
        numbers.entry(channel).or_default().push(number(&event));
    }
    numbers
}

fn number(event: &Value) -> u64 {
    event["data"].as_str().unwrap().parse().unwrap()
}

/// The ids of a request's events.
fn event_ids(request: &Received) -> Vec<String> {
    let ids = request.header("X-Soundpost-Event-Ids").unwrap();
    ids.split(',').map(str::to_owned).collect()
}

/// Fails if more requests come.
#[track_caller]
fn expect_no_more(receiver: &Receiver) {
    std::thread::sleep(Duration::from_millis(500));
    assert!(receiver.try_next().is_none());
}

/// A receiver that answers nobody until the gate is open.
fn gated() -> (Receiver, Arc<AtomicBool>) {
    let is_open = Arc::new(AtomicBool::new(false));
    let open = Arc::clone(&is_open);
    let receiver = Receiver::start(move |_| {
        while !open.load(Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        status(200)
    });
    (receiver, is_open)
}
