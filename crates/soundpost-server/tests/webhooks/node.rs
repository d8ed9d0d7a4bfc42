//! A whole node for a test: what happens is noted as workers note it, and receivers see what comes of it.

use std::{
    sync::{Arc, mpsc::sync_channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use soundpost_protocol::{
    app::{App, Limits},
    channel::ChannelName,
    webhook::{
        Carrier, HttpTarget, Webhook,
        event::Event,
        hold::Subject,
        target::{Batching, Filter, Target},
    },
};
use soundpost_server::{
    apps::AppIndex,
    config::Settings,
    node::Node,
    server::{Died, Server},
    webhook::WebhookMetrics,
};
use tokio::sync::watch;

use crate::{hook, receiver::DEADLINE};

/// A running node. Dropping it stops it at once.
pub(crate) struct TestNode {
    pub(crate) node: Arc<Node>,
    stop: watch::Sender<u32>,
    thread: Option<JoinHandle<Result<(), Died>>>,
}

impl TestNode {
    /// With these apps. It drains at once, but for its webhooks.
    pub(crate) fn start(apps: Vec<App>) -> Self {
        let mut settings = Settings::new(apps);
        settings.server.workers = 1.try_into().unwrap();
        settings.server.drain = Duration::ZERO;
        let (stop, asked) = watch::channel(0);
        let (tell, started) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = Server::bind(settings).unwrap();
                tell.send(Arc::clone(server.node())).unwrap();
                server.run(asked).await
            })
        });
        let node = started.recv_timeout(DEADLINE).unwrap();
        Self { node, stop, thread: Some(thread) }
    }

    /// The index of the app of this number.
    pub(crate) fn app(&self, at: usize) -> AppIndex {
        self.node.apps.table().all()[at].index
    }

    /// Notes an event of the first app.
    pub(crate) fn event(&self, channel: &str, event: &Event<'_>) {
        self.node.delivery.webhooks.event(self.app(0), event, &name(channel), Instant::now());
    }

    /// Notes counts, which are told as they are and can be told apart.
    pub(crate) fn counts(&self, channel: &str, counts: std::ops::Range<u64>) {
        counts.for_each(|count| self.event(channel, &Event::SubscriptionCount(count)));
    }

    /// Notes that a channel of the first app was left.
    pub(crate) fn left(&self, channel: &str) {
        self.node.delivery.webhooks.left(self.app(0), Subject::Channel(name(channel)), Instant::now());
    }

    /// What is counted of the first app.
    pub(crate) fn metrics(&self) -> Arc<WebhookMetrics> {
        self.node.webhooks.of(self.app(0))
    }

    /// Asks it to stop, once more if it was asked before.
    pub(crate) fn stop(&self) {
        self.stop.send_modify(|asked| *asked += 1);
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) {
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.stop.send_replace(2);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn name(channel: &str) -> ChannelName {
    ChannelName::parse(channel, &Limits::default()).unwrap()
}

/// `app-one` with these webhooks.
pub(crate) fn app(webhooks: Vec<Webhook>) -> App {
    App { webhooks: webhooks.into_iter().map(Arc::new).collect(), ..hook::app("one") }
}

/// A webhook that wants everything.
pub(crate) fn webhook(url: &str) -> Webhook {
    with(url, Target::default(), |_| {})
}

/// One that gets events in portions of `events`, for which they wait so long.
pub(crate) fn batches(url: &str, milliseconds: u64, events: u64) -> Webhook {
    let batching = Batching::new(milliseconds, events).unwrap();
    with(url, Target { batching, ..Target::default() }, |_| {})
}

/// One that wants channels with this prefix alone.
pub(crate) fn of_channels(url: &str, prefix: &str) -> Webhook {
    let filter = Filter::new(prefix, "").unwrap();
    with(url, Target { filter, ..Target::default() }, |_| {})
}

/// One with changed settings of its requests.
pub(crate) fn with(url: &str, target: Target, change: impl FnOnce(&mut HttpTarget)) -> Webhook {
    let mut http = hook::target(url);
    change(&mut http);
    Webhook::new(target, Carrier::Http(http))
}

/// Waits until it holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
