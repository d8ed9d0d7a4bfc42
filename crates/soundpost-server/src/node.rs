//! What all doors of a node share: its apps, the way to deliver, and how full it is.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use tracing::debug;

use crate::{
    adapter::{Adapter, Local},
    addresses::{AddressLimits, AddressPlace, AddressRefusal, Addresses},
    apps::{Apps, Quota},
    config::Settings,
    delivery::{Delivery, Queued},
    metrics::Reloads,
    proxy::Proxies,
    seldom::Seldom,
    tls::{Mistakes, Tls},
    webhook::Meters,
};

/// Request bodies that are being read, over all connections of the node, bytes.
const BODY_BYTES_IN_FLIGHT_MAX: usize = 256 << 20;

/// One node.
#[derive(Debug)]
pub struct Node {
    /// Who may connect and publish.
    pub apps: Arc<Apps>,
    /// From an event heard to the subscribers of this node.
    pub delivery: Arc<Delivery>,
    /// From an accepted event to all nodes.
    pub adapter: Arc<Adapter>,
    /// Bounds and bytes of all queues.
    pub queued: Arc<Queued>,
    /// Connections of the whole node.
    pub quota: Arc<Quota>,
    /// What stands before every route: empty, or `/prefix`.
    pub path_prefix: String,
    /// Connections of each address, where that is limited.
    pub addresses: Arc<Addresses>,
    /// The largest body of a request; 0: as much as the app's limits can need.
    request_bytes_max: AtomicUsize,
    /// The time over which a stopping node spreads its goodbyes, milliseconds.
    drain_milliseconds: AtomicU64,
    /// Whether balancers are told to go elsewhere while Redis is away.
    ready_requires_redis: AtomicBool,
    /// What is counted of webhooks.
    pub webhooks: Arc<Meters>,
    /// How often the settings were read again.
    pub reloads: Reloads,
    /// What the public listeners speak TLS with, if they do.
    pub tls: Option<Tls>,
    /// Clients that speak the wrong protocol to them.
    pub mistakes: Mistakes,
    /// The node is about to stop.
    pub draining: AtomicBool,
    /// What may stand in front of the node.
    pub proxies: ArcSwap<Proxies>,
    /// Connections refused because of their address.
    pub refused_addresses: AtomicU64,
    /// Connections of trusted proxies that did not begin with a PROXY header.
    pub refused_headers: AtomicU64,
    /// When that was last logged.
    pub header_warning: Seldom,
    body_bytes: AtomicUsize,
    requests: AtomicUsize,
}

impl Node {
    /// A node that takes connections.
    pub fn new(apps: Apps, delivery: Arc<Delivery>, queued: Arc<Queued>, quota: Arc<Quota>) -> Self {
        let (hear, terminate) = (Arc::clone(&delivery), Arc::clone(&delivery));
        let adapter = Adapter::Local(Local::new(
            move |broadcasts| hear.trigger(broadcasts),
            move |user, present| terminate.terminate(user, present),
        ));
        Self {
            apps: Arc::new(apps),
            delivery,
            adapter: Arc::new(adapter),
            queued,
            quota,
            path_prefix: String::new(),
            addresses: Addresses::new(AddressLimits::default()),
            request_bytes_max: AtomicUsize::new(0),
            drain_milliseconds: AtomicU64::new(0),
            ready_requires_redis: AtomicBool::new(false),
            webhooks: Arc::default(),
            reloads: Reloads::new(unix_seconds()),
            tls: None,
            mistakes: Mistakes::default(),
            draining: AtomicBool::new(false),
            proxies: ArcSwap::default(),
            refused_addresses: AtomicU64::new(0),
            refused_headers: AtomicU64::new(0),
            header_warning: Seldom::default(),
            body_bytes: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
        }
    }

    /// Lets these settings hold from now on: the part of them that can change while the node runs, its apps aside.
    pub fn settle(&self, settings: &Settings) {
        let server = &settings.server;
        self.quota.set_max(server.connections_max);
        self.addresses.set_limits(server.address_limits);
        self.proxies.store(Arc::new(server.proxies.clone()));
        self.queued.set_connection_bytes_max(server.queue_bytes_max);
        self.request_bytes_max.store(server.request_bytes_max.unwrap_or(0), Relaxed);
        self.ready_requires_redis.store(server.ready_requires_redis, Relaxed);
        // Nobody waits for a development server, least of all the person who has just pressed Ctrl-C.
        let drain = if settings.development_app { Duration::ZERO } else { server.drain };
        self.drain_milliseconds.store(u64::try_from(drain.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// The largest body of a request; `None`: as much as the app's limits can need.
    pub fn request_bytes_max(&self) -> Option<usize> {
        Some(self.request_bytes_max.load(Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// The time over which a stopping node spreads its goodbyes.
    pub fn drain_window(&self) -> Duration {
        Duration::from_millis(self.drain_milliseconds.load(Relaxed))
    }

    /// Whether the node is about to stop.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Whether balancers are told to go elsewhere while Redis is away.
    pub fn ready_requires_redis(&self) -> bool {
        self.ready_requires_redis.load(Relaxed)
    }

    /// Counts a connection in with those of its address; no place where nothing is limited, and for a client without
    /// an address: one on a Unix socket, whose proxy named none.
    ///
    /// Errors: the address has too many; that is counted and logged.
    pub fn admit_address(&self, address: Option<IpAddr>) -> Result<Option<AddressPlace>, AddressRefusal> {
        let Some(address) = address else { return Ok(None) };
        self.addresses.admit(address, Instant::now()).inspect_err(|refusal| {
            debug!(%address, ?refusal, "connection refused");
            self.refused_addresses.fetch_add(1, Relaxed);
        })
    }

    /// Counts a request as under way until what comes back is dropped.
    pub fn begin_request(self: &Arc<Self>) -> UnderWay {
        self.requests.fetch_add(1, Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// Whether anything must still be said: a request to be answered, or a client to be told goodbye.
    pub fn is_busy(&self) -> bool {
        self.requests.load(Relaxed) > 0 || self.delivery.seats.load(Relaxed) > 0
    }

    /// Makes room for a part of a request's body; `None` if too many bodies are being read already.
    pub fn reserve_body(self: &Arc<Self>, bytes: usize) -> Option<BodyRoom> {
        let before = self.body_bytes.fetch_add(bytes, Relaxed);
        let room = BodyRoom { node: Arc::clone(self), bytes };
        (before.saturating_add(bytes) <= BODY_BYTES_IN_FLIGHT_MAX).then_some(room)
    }
}

/// Room for a body, given back when dropped.
#[derive(Debug)]
pub struct BodyRoom {
    node: Arc<Node>,
    bytes: usize,
}

impl Drop for BodyRoom {
    fn drop(&mut self) {
        self.node.body_bytes.fetch_sub(self.bytes, Relaxed);
    }
}

/// A request that is not answered yet.
#[derive(Debug)]
pub struct UnderWay(Arc<Node>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Relaxed);
    }
}

/// Seconds since 1970.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
