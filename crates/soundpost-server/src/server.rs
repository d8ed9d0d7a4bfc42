//! A whole node: binds what the settings name, starts the workers, hands accepted sockets to them, and ends in order.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use soundpost_protocol::presence::NodeId;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, interval, sleep_until},
};
use tracing::{debug, info, warn};

pub use crate::listen::StartError;
use crate::{
    accept::{Acceptor, Reserve},
    adapter::{
        Adapter, Cluster,
        redis::{Redis, RedisThread, wire::error::TLS_TABLE},
    },
    admin,
    apps::{Apps, Quota, WORKERS_MAX, WorkerId},
    config::{ServerSettings, Settings},
    delivery::{Delivery, Queued, Reach},
    drain,
    listen::{Listener, SocketFile, listen, listen_admin},
    memory,
    node::Node,
    reload::{Reload, Reloader},
    tls::{Certificates, Served, Tls, TlsClient, TlsError},
    webhook::{
        self, Engine,
        engine::{Alone, Source},
        stream::Streams,
    },
    worker::Worker,
};

/// How often cache channels are looked through for what is too old.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Part of the node is dead, so all of it must end and be started anew.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum Died {
    /// A worker ended by itself.
    #[error("a worker thread died")]
    Worker,
    /// So did the thread that has the connections to Redis.
    #[error("the redis thread died")]
    Redis,
    /// So did one of the tasks that accept, keep time, or serve the admin listener.
    #[error("a task of the main thread died")]
    Task,
}

/// A server that is bound and serves as soon as it [runs](Self::run).
#[derive(Debug)]
pub struct Server {
    node: Arc<Node>,
    workers: Arc<[Worker]>,
    /// What meets the other nodes, if there may be any.
    redis: Option<RedisThread>,
    listeners: Vec<Listener>,
    admin: Option<TcpListener>,
    addresses: Vec<SocketAddr>,
    unix: Option<(PathBuf, SocketFile)>,
    reserve: Arc<Reserve>,
    settings: Settings,
    /// Nothing where nobody can ask for a reload.
    reload: Option<Reload>,
    /// Random, for what is hashed on the main thread.
    seed: u64,
}

impl Server {
    /// Raises the file limit, binds every listener and starts the workers. Nothing is accepted yet.
    ///
    /// Errors: [`StartError`].
    pub fn bind(settings: Settings) -> Result<Self, StartError> {
        raise_file_limit();
        let server = &settings.server;
        let listeners = listen(&server.listen, server.send_buffer_bytes)?;
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
        let mut listeners: Vec<_> = listeners.into_iter().map(Listener::Tcp).collect();
        let mut unix = None;
        if let Some(wanted) = &server.unix {
            let (file, listener) = SocketFile::listen(wanted, server.send_buffer_bytes)?;
            listeners.push(listener);
            unix = Some((wanted.path.clone(), file));
        }
        let admin = listen_admin(server.admin.host, server.admin.port, server.admin.explicit)?;
        let workers = server.workers.get().min(WORKERS_MAX);
        check_redis_tls(&settings)?;
        webhook::http::check(&settings.apps)?;
        let mut node = node(&settings, workers)?;
        node.path_prefix.clone_from(&server.path);
        node.settle(&settings);
        node.tls = tls(server, workers)?;
        let node = Arc::new(node);
        let start = |id| Worker::start(WorkerId(id), Arc::clone(&node));
        let workers = (0..=u8::MAX).take(workers).map(start).collect::<io::Result<_>>()?;
        let redis = match &*node.adapter {
            Adapter::Local(_) => None,
            Adapter::Redis(redis) => Some(RedisThread::start(redis.clone())?),
        };
        Ok(Self {
            node,
            workers,
            redis,
            listeners,
            admin,
            addresses,
            unix,
            reserve: Arc::new(Reserve::default()),
            settings,
            reload: None,
            seed: random()?,
        })
    }

    /// From when it [runs](Self::run), the server reads its settings again whenever it is asked to, or their files change.
    #[must_use]
    pub fn reloading(self, reload: Reload) -> Self {
        Self { reload: Some(reload), ..self }
    }

    /// Where clients and publishers connect by TCP.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The Unix socket on which they connect as well, if there is one.
    pub fn unix_socket(&self) -> Option<&Path> {
        self.unix.as_ref().map(|(path, _)| path.as_path())
    }

    /// Where metrics are.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|admin| admin.local_addr().ok())
    }

    /// The certificates it speaks TLS with; none where it does not.
    pub fn certificates(&self) -> Vec<Served> {
        self.node.tls.as_ref().map(|tls| tls.certificates.served()).unwrap_or_default()
    }

    /// The node, for whoever wants to look inside.
    pub const fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Serves until `stop` says so, then drains; a second word from `stop` ends the draining.
    ///
    /// Errors: [`Died`].
    pub async fn run(mut self, mut stop: watch::Receiver<u32>) -> Result<(), Died> {
        let mut tasks = JoinSet::new();
        for listener in std::mem::take(&mut self.listeners) {
            let acceptor = Acceptor {
                workers: Arc::clone(&self.workers),
                node: Arc::clone(&self.node),
                reserve: Arc::clone(&self.reserve),
            };
            tasks.spawn(acceptor.accept(listener));
        }
        tasks.spawn(keep_time(Arc::clone(&self.node)));
        if let Some(admin) = self.admin.take() {
            tasks.spawn(admin::serve(admin, Arc::clone(&self.node)));
        }
        if let Some(reload) = self.reload.take() {
            tasks.spawn(Reloader::new(Arc::clone(&self.node), self.settings.clone(), reload).run());
        }
        let mut webhooks = self.engine();
        tokio::select! {
            () = asked(&mut stop, 1) => {}
            () = drain::worker_died(&self.workers) => return Err(Died::Worker),
            () = over(self.redis.as_ref()) => return Err(Died::Redis),
            () = webhooks.over() => return Err(Died::Task),
            _ = tasks.join_next() => return Err(Died::Task),
        }
        tokio::select! {
            () = drain::drain(&self.node, &self.workers, self.node.drain_window()) => {}
            () = asked(&mut stop, 2) => info!("stopping at once"),
            () = drain::worker_died(&self.workers) => return Err(Died::Worker),
            () = over(self.redis.as_ref()) => return Err(Died::Redis),
            () = webhooks.over() => return Err(Died::Task),
            _ = tasks.join_next() => return Err(Died::Task),
        }
        tokio::select! {
            biased;
            () = asked(&mut stop, 2) => webhooks.stop().await,
            () = webhooks.finish() => {}
        }
        if let Some(redis) = &self.redis {
            tokio::select! {
                () = redis.leave() => {}
                () = asked(&mut stop, 2) => {}
            }
        }
        tasks.shutdown().await;
        Ok(())
    }

    /// Starts what sends webhooks.
    fn engine(&self) -> Engine {
        let node = &self.node;
        let source = match &*node.adapter {
            Adapter::Local(_) => Source::Alone(Alone::new(self.seed)),
            Adapter::Redis(redis) => Source::Streams(Streams::new(redis.clone())),
        };
        Engine::start(
            Arc::clone(&node.apps),
            Arc::clone(&node.delivery.webhooks),
            Arc::clone(&node.webhooks),
            source,
            self.settings.redis.clone(),
        )
    }
}

/// The node, with the adapter that its settings want.
fn node(settings: &Settings, workers: usize) -> Result<Node, StartError> {
    let server = &settings.server;
    let life = NodeId(random()?);
    let cluster = settings.redis.as_ref().map(|redis| (redis, Arc::new(Cluster::new(life))));
    let reach = match &cluster {
        None => Reach::Local(life),
        Some((_, cluster)) => Reach::Cluster(Arc::clone(cluster)),
    };
    let node_bytes_max = memory::limit().map_or(usize::MAX, |bytes| bytes / 4);
    let mut node = Node::new(
        Apps::new(settings.apps.clone(), workers),
        Arc::new(Delivery::new(workers, reach)),
        Queued::new(workers, server.queue_bytes_max, node_bytes_max),
        Quota::new(server.connections_max),
    );
    if let Some((redis, cluster)) = cluster {
        let hearing = Arc::clone(&node.delivery);
        let redis = Redis::new(redis.clone(), Arc::clone(&node.apps), cluster, hearing);
        node.adapter = Arc::new(Adapter::Redis(redis));
    }
    Ok(node)
}

/// Comes back when the thread that has the connections to Redis is over; never where there is none.
async fn over(redis: Option<&RedisThread>) {
    match redis {
        Some(redis) => redis.over().await,
        None => std::future::pending().await,
    }
}

/// Whether the files of `redis.tls` can be used. They are read again for each connection; but what is wrong with them at the
/// start is to be seen then, and not by somebody who wonders why nodes do not meet.
fn check_redis_tls(settings: &Settings) -> Result<(), TlsError> {
    let Some(tls) = settings.redis.as_ref().and_then(|redis| redis.tls.as_ref()) else { return Ok(()) };
    TlsClient::load(TLS_TABLE, tls.ca.as_deref(), tls.client.as_ref()).map(drop)
}

/// What the listeners speak TLS with, if they are to.
fn tls(server: &ServerSettings, workers: usize) -> Result<Option<Tls>, TlsError> {
    if server.tls.is_empty() {
        return Ok(None);
    }
    let certificates = Certificates::load(server.tls.clone())?;
    for warning in certificates.warnings(SystemTime::now()) {
        warn!("{warning}");
    }
    let mut tls = Tls::new(certificates, workers)?;
    tls.handshake_timeout = server.tls_handshake_timeout;
    Ok(Some(tls))
}

/// Carries out what was put off, and forgets what cache channels have kept for long enough.
async fn keep_time(node: Arc<Node>) {
    let ticker = &node.delivery.ticker;
    let mut sweep = interval(SWEEP_INTERVAL);
    loop {
        let next = ticker.next().map_or_else(|| Instant::now() + SWEEP_INTERVAL, Instant::from_std);
        tokio::select! {
            () = sleep_until(next) => {}
            () = ticker.sooner() => {}
            _ = sweep.tick() => {
                let now = std::time::Instant::now();
                node.apps.table().all().iter().for_each(|app| app.cache.sweep(now));
            },
        }
        let now = std::time::Instant::now();
        for due in ticker.take(now) {
            node.delivery.come_due(&due, now);
        }
    }
}

/// Waits until the server was asked to stop `times` times; for ever if nobody can ask any more.
async fn asked(stop: &mut watch::Receiver<u32>, times: u32) {
    if stop.wait_for(|asked| *asked >= times).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn random() -> io::Result<u64> {
    getrandom::u64().map_err(io::Error::other)
}

/// Every connection is a file, and the usual limit of 1024 is made for programs that are not servers.
fn raise_file_limit() {
    match rlimit::increase_nofile_limit(rlimit::INFINITY) {
        Ok(files) => debug!(files, "file limit raised"),
        Err(error) => warn!(%error, "the file limit could not be raised"),
    }
}
