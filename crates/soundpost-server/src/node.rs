//! What all doors of a node share: its apps, the way to deliver, and how full it is.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use tracing::debug;

use crate::{
    adapter::{Adapter, Local},
    addresses::{AddressPlace, AddressRefusal, Addresses},
    apps::{Apps, Quota},
    delivery::{Delivery, Queued},
    proxy::Proxies,
};

/// Request bodies that are being read, over all connections of the node, bytes.
const BODY_BYTES_IN_FLIGHT_MAX: usize = 256 << 20;

/// One node.
#[derive(Debug)]
pub struct Node {
    /// Who may connect and publish.
    pub apps: Apps,
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
    /// The largest body of a request; `None`: as much as the app's limits can need.
    pub request_bytes_max: Option<usize>,
    /// The node is about to stop.
    pub draining: AtomicBool,
    /// Connections by address; nothing where no address is limited.
    pub addresses: Option<Arc<Addresses>>,
    /// What may stand in front of the node.
    pub proxies: Proxies,
    /// Connections refused because of their address.
    pub refused_addresses: AtomicU64,
    /// Connections of trusted proxies that did not begin with a PROXY header.
    pub refused_headers: AtomicU64,
    body_bytes: AtomicUsize,
    requests: AtomicUsize,
}

impl Node {
    /// A node that takes connections.
    pub fn new(apps: Apps, delivery: Arc<Delivery>, queued: Arc<Queued>, quota: Arc<Quota>) -> Self {
        let hear = Arc::clone(&delivery);
        let adapter = Adapter::Local(Local::new(move |broadcasts| hear.trigger(broadcasts)));
        Self {
            apps,
            delivery,
            adapter: Arc::new(adapter),
            queued,
            quota,
            path_prefix: String::new(),
            request_bytes_max: None,
            draining: AtomicBool::new(false),
            addresses: None,
            proxies: Proxies::default(),
            refused_addresses: AtomicU64::new(0),
            refused_headers: AtomicU64::new(0),
            body_bytes: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
        }
    }

    /// Whether the node is about to stop.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Counts a connection in with those of its address; no place where nothing is limited, and for a client without
    /// an address: one on a Unix socket, whose proxy named none.
    ///
    /// Errors: the address has too many; that is counted and logged.
    pub fn admit_address(&self, address: Option<IpAddr>) -> Result<Option<AddressPlace>, AddressRefusal> {
        let Some((addresses, address)) = self.addresses.as_ref().zip(address) else { return Ok(None) };
        let admitted = addresses.admit(address, Instant::now());
        admitted.map(Some).inspect_err(|refusal| {
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
