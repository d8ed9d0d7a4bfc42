//! A server of its own for each test, and the two kinds of clients it has.

mod api;
mod client;
mod http;
mod reloading;
mod tls;
mod wire;

use std::{
    net::SocketAddr,
    sync::{Arc, mpsc::sync_channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use soundpost_protocol::app::{App, AppId, AppKey, AppSecret};
use soundpost_server::{
    config::Settings,
    node::Node,
    reload::Reload,
    server::{Died, Server},
};
use tokio::{runtime::Handle, sync::watch};

pub(crate) use self::{
    api::{Api, signed_target, unix_seconds},
    client::{Client, Seen, handshake, masked},
    http::{Http, Reply},
    reloading::{Counts, ReloadingServer, app_file, app_with_secret},
    tls::{Authority, Offer, TLS_1_2, TLS_1_3, shake},
    wire::Wire,
};

/// Whatever a test waits for must have happened by then, however busy the machine is with other things.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// An app `app-{name}` with key `key-{name}`, a secret of its own and every default.
pub(crate) fn app(name: &str) -> App {
    App::new(
        AppId::parse(&format!("app-{name}")).unwrap(),
        AppKey::parse(&format!("key-{name}")).unwrap(),
        AppSecret::new(&format!("secret-{name}")),
    )
}

/// A running server on free ports of 127.0.0.1. Dropping it stops it at once and waits for its end.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// As configured; the first is the one that is meant where none is named.
    pub(crate) apps: Vec<App>,
    node: Arc<Node>,
    #[allow(dead_code, reason = "only nodes of several are paused")]
    runtime: Handle,
    stop: watch::Sender<u32>,
    thread: Option<JoinHandle<Result<(), Died>>>,
}

impl TestServer {
    /// With one app, changed as the test needs it, and two workers.
    pub(crate) fn start(change_app: impl FnOnce(&mut App)) -> Self {
        let mut app = app("one");
        change_app(&mut app);
        Self::start_with(vec![app], |_| {})
    }

    /// With these apps and changed settings.
    pub(crate) fn start_with(apps: Vec<App>, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::new(apps);
        settings.server.workers = 2.try_into().unwrap();
        change(&mut settings);
        Self::start_reloading(settings, None)
    }

    /// With these settings, and a way to read them again.
    pub(crate) fn start_reloading(settings: Settings, reload: Option<Reload>) -> Self {
        let apps = settings.apps.clone();
        let (stop, asked) = watch::channel(0);
        let (tell, started) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut server = Server::bind(settings).unwrap();
                if let Some(reload) = reload {
                    server = server.reloading(reload);
                }
                let admin = server.admin_address().unwrap();
                // Nowhere, if it listens on a Unix socket alone.
                let address = server.addresses().first().copied().unwrap_or(([127, 0, 0, 1], 0).into());
                tell.send((address, admin, Arc::clone(server.node()), Handle::current())).unwrap();
                server.run(asked).await
            })
        });
        let (address, admin, node, runtime) = started.recv_timeout(DEADLINE).unwrap();
        Self { address, admin, apps, node, runtime, stop, thread: Some(thread) }
    }

    /// A client of the first app that has been greeted.
    pub(crate) fn connect(&self) -> Client {
        self.connect_to(0)
    }

    /// A client of another app that has been greeted.
    pub(crate) fn connect_to(&self, app: usize) -> Client {
        Client::connect(self.address, &self.apps[app])
    }

    /// A publisher of the first app, with a connection of its own.
    pub(crate) fn api(&self) -> Api {
        self.api_of(0)
    }

    /// A publisher of another app.
    pub(crate) fn api_of(&self, app: usize) -> Api {
        Api::new(self.http(), self.apps[app].clone())
    }

    /// A connection that speaks plain HTTP.
    pub(crate) fn http(&self) -> Http {
        Http::connect(self.address)
    }

    /// The value of one sample on the admin listener, named with its labels in the order written; 0 without it.
    pub(crate) fn metric(&self, sample: &str) -> u64 {
        let text = Http::connect(self.admin).get("/metrics").body;
        let value = |line: &str| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok();
        text.lines().find_map(value).unwrap_or(0)
    }

    /// Publishes to `orders`, which has one subscriber, and waits until the event is on its way to that: written, or in its
    /// queue. What is delivered together with others is counted before it is either.
    pub(crate) fn deliver(&self, api: &mut Api, name: &str, data: &str) {
        let running = Arc::clone(&self.node.apps.table().all()[0]);
        let count = || -> u64 { running.all_counters().iter().map(|of| of.deliveries.value()).sum() };
        let before = count();
        api.trigger("orders", name, data);
        eventually("it to be on its way", || count() == before + 1);
    }

    /// Waits until so many connections of all apps are open, which shows that every other has given its place back.
    pub(crate) fn await_open(&self, connections: u32) {
        eventually(&format!("{connections} connections"), || self.node.quota.open() == connections);
        let of_apps: u32 = self.node.apps.table().all().iter().map(|app| app.quota.open()).sum();
        assert_eq!(of_apps, connections);
    }

    /// The node, for what no client can see.
    pub(crate) const fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Stops the main thread for so long, as a machine does that has no CPU to give; the others go on.
    #[allow(dead_code, reason = "only nodes of several are paused")]
    pub(crate) fn pause(&self, time: Duration) {
        self.runtime.spawn(async move { std::thread::sleep(time) });
    }

    /// Asks the server to stop, as a first signal does.
    pub(crate) fn begin_stop(&self) {
        self.stop.send_modify(|asked| *asked += 1);
    }

    /// Whether `run` has come back.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop.send_replace(2);
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.expect("the server does not panic").expect("the workers live");
        }
    }
}

/// Looks again and again until `is_true`, and fails after the deadline.
pub(crate) fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !is_true() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
