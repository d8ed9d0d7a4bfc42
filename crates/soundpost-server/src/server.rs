//! A whole node: binds what the settings name, starts the workers, hands accepted sockets to them, and ends in order.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use soundpost_protocol::presence::NodeId;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, interval, sleep_until},
};
use tracing::{debug, error, info, warn};

use crate::{
    admin,
    apps::{Apps, Quota, WORKERS_MAX, WorkerId},
    config::{Listen, Settings},
    delivery::{Delivery, Queued},
    drain, memory,
    node::Node,
    worker::Worker,
};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// How often cache channels are looked through for what is too old.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// After accepting failed for want of something, so long until the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why a server does not start; each text is one line.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process has the port, or the address is not this machine's.
    #[error("cannot listen on {address}: {}", reason(.error))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// No random numbers, threads or event queue to be had.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

fn reason(error: &io::Error) -> String {
    let kind = error.kind();
    if kind == io::ErrorKind::AddrInUse {
        "the port is in use; stop the other server or choose another with --port".to_owned()
    } else if kind == io::ErrorKind::AddrNotAvailable {
        "this machine does not have that address".to_owned()
    } else if kind == io::ErrorKind::PermissionDenied {
        "permission denied; ports below 1024 need the right to bind them".to_owned()
    } else {
        error.to_string()
    }
}

/// A worker ended by itself: part of the node is dead, so all of it must end and be started anew.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a worker thread died")]
pub struct WorkerDied;

/// A server that is bound and serves as soon as it [runs](Self::run).
#[derive(Debug)]
pub struct Server {
    node: Arc<Node>,
    workers: Arc<[Worker]>,
    listeners: Vec<TcpListener>,
    admin: Option<TcpListener>,
    addresses: Vec<SocketAddr>,
    drain_window: Duration,
    reserve: Arc<Reserve>,
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
        let admin = listen_admin(server.admin.host, server.admin.port, server.admin.explicit)?;
        let workers = server.workers.get().min(WORKERS_MAX);
        let node_bytes_max = memory::limit().map_or(usize::MAX, |bytes| bytes / 4);
        let delivery = Arc::new(Delivery::new(workers, NodeId(random()?)));
        let mut node = Node::new(
            Apps::new(settings.apps, workers),
            delivery,
            Queued::new(server.queue_bytes_max, node_bytes_max),
            Quota::new(server.connections_max),
        );
        node.path_prefix.clone_from(&server.path);
        node.request_bytes_max = server.request_bytes_max;
        let node = Arc::new(node);
        let start = |id| Worker::start(WorkerId(id), Arc::clone(&node));
        let workers = (0..=u8::MAX).take(workers).map(start).collect::<io::Result<_>>()?;
        Ok(Self {
            node,
            workers,
            listeners,
            admin,
            addresses,
            // Nobody waits for a development server, least of all the person who has just pressed Ctrl-C.
            drain_window: if settings.development_app { Duration::ZERO } else { server.drain },
            reserve: Arc::new(Reserve::default()),
        })
    }

    /// Where clients and publishers connect.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where metrics are.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|admin| admin.local_addr().ok())
    }

    /// The node, for whoever wants to look inside.
    pub const fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Serves until `stop` says so, then drains; a second word from `stop` ends the draining.
    ///
    /// Errors: [`WorkerDied`].
    pub async fn run(mut self, mut stop: watch::Receiver<u32>) -> Result<(), WorkerDied> {
        let mut tasks = JoinSet::new();
        for listener in std::mem::take(&mut self.listeners) {
            tasks.spawn(accept(listener, Arc::clone(&self.workers), Arc::clone(&self.reserve)));
        }
        tasks.spawn(keep_time(Arc::clone(&self.node)));
        if let Some(admin) = self.admin.take() {
            tasks.spawn(admin::serve(admin, Arc::clone(&self.node)));
        }
        tokio::select! {
            () = asked(&mut stop, 1) => {}
            () = drain::worker_died(&self.workers) => return Err(WorkerDied),
        }
        tokio::select! {
            () = drain::drain(&self.node, &self.workers, self.drain_window) => {}
            () = asked(&mut stop, 2) => info!("stopping at once"),
            () = drain::worker_died(&self.workers) => return Err(WorkerDied),
        }
        tasks.shutdown().await;
        Ok(())
    }
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
            _ = sweep.tick() => node.delivery.directory.sweep_caches(std::time::Instant::now()),
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

fn listen(addresses: &[Listen], send_buffer_bytes: usize) -> Result<Vec<TcpListener>, StartError> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for wanted in addresses {
        let mut address = wanted.address;
        if let (0, Some(first)) = (address.port(), listeners.first()) {
            address.set_port(first.local_addr()?.port());
        }
        match bind(address, Some(send_buffer_bytes)) {
            Ok(listener) => listeners.push(listener),
            Err(error) if wanted.required => return Err(StartError::Listen { address, error }),
            Err(error) => debug!(%address, %error, "not listening"),
        }
    }
    Ok(listeners)
}

/// The admin listener nobody asked for by name takes another port if its own is in use.
fn listen_admin(host: IpAddr, port: u16, explicit: bool) -> Result<Option<TcpListener>, StartError> {
    let address = SocketAddr::new(host, port);
    match bind(address, None) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if explicit => Err(StartError::Listen { address, error }),
        Err(error) => {
            warn!(%address, "admin listener: {}; taking any free port", reason(&error));
            let address = SocketAddr::new(host, 0);
            bind(address, None).map(Some).map_err(|error| StartError::Listen { address, error })
        }
    }
}

fn bind(address: SocketAddr, send_buffer_bytes: Option<usize>) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit both, which saves two calls for each.
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// One descriptor kept free, so that a connection can still be refused politely when there are no more.
#[derive(Debug, Default)]
struct Reserve {
    is_short: AtomicBool,
}

impl Reserve {
    /// Accepts one connection with the reserved descriptor and turns it away.
    fn refuse_one(&self, listener: &TcpListener, held: &mut Option<std::fs::File>) {
        if !self.is_short.swap(true, Relaxed) {
            error!("out of file descriptors: new connections are refused until some close");
        }
        *held = None;
        if let Ok((stream, _)) = listener.accept() {
            // One that is gone already needs no answer.
            drop(stream.set_nonblocking(true));
            drop(io::Write::write(
                &mut &stream,
                b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            ));
        }
        *held = reserve();
    }

    fn recovered(&self) {
        if self.is_short.swap(false, Relaxed) {
            info!("file descriptors are free again");
        }
    }
}

fn reserve() -> Option<std::fs::File> {
    std::fs::File::open("/dev/null").ok()
}

/// Hands every accepted socket to the worker with the least to do; equal loads take turns.
async fn accept(listener: TcpListener, workers: Arc<[Worker]>, short: Arc<Reserve>) {
    // The second handle accepts without the runtime, which would want a descriptor of its own.
    let both =
        listener.try_clone().and_then(|plain| Ok((plain, tokio::net::TcpListener::from_std(listener)?)));
    let (plain, listener) = match both {
        Ok(both) => both,
        Err(error) => {
            error!(%error, "cannot wait for connections");
            return;
        }
    };
    let mut held = reserve();
    let mut turn = 0;
    loop {
        match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => {
                short.recovered();
                let loads = workers.iter().cycle().skip(turn % workers.len()).take(workers.len());
                if let Some(worker) = loads.min_by_key(|worker| worker.load()) {
                    worker.hand_over(stream).await;
                }
                turn = turn.wrapping_add(1);
            }
            Err(error) if is_shortage(&error) => {
                short.refuse_one(&plain, &mut held);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            // The client has gone before it was served.
            Err(error) => debug!(%error, "accepting failed"),
        }
    }
}

/// Out of descriptors, of this process or of the system, or of memory for sockets.
fn is_shortage(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    const ENOMEM: i32 = 12;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE | ENOBUFS | ENOMEM))
}
