//! A worker: one thread that serves its connections from the first byte to the last.
//!
//! What runs on it: a task that takes in sockets, one that carries out the inbox, one that turns the wheel of deadlines,
//! one that passes changed apps on, one for each connection, and for a moment those of a handshake and of a drain.

use std::{
    any::Any,
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use soundpost_protocol::close::CloseReason;
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    task::{LocalSet, spawn_local, yield_now},
    time::{MissedTickBehavior, interval},
};
use tracing::{error, warn};

use crate::{
    addresses::AddressPlace,
    apps::WorkerId,
    delivery::{Hub, Item},
    doorstep::{self, Held, Peer},
    http::{self, Door},
    node::Node,
    socket::{self, Sockets},
    tls::{Greeted, Transport, greet},
};

/// Accepted sockets on their way to one worker.
const HANDED_OVER_MAX: usize = 1024;

/// While a node drains, its connections are told to leave in steps of this length.
const DRAIN_STEP: Duration = Duration::from_millis(50);

/// After the apps were replaced, so many connections are looked at before others get their turn; one that is sent away
/// counts for several.
const ADOPTION_SLICE: usize = 1024;

/// What the main thread tells a worker.
#[derive(Debug)]
enum Order {
    Serve(std::net::TcpStream, Peer, Held),
    Drain(Duration),
}

/// A running worker, as the main thread sees it.
#[derive(Debug)]
pub struct Worker {
    orders: mpsc::Sender<Order>,
    load: Arc<AtomicUsize>,
}

impl Worker {
    /// Starts the thread. Errors: those of the system when it has no thread or runtime to give.
    pub fn start(id: WorkerId, node: Arc<Node>) -> io::Result<Self> {
        let (orders, inbound) = mpsc::channel(HANDED_OVER_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name(format!("worker-{}", id.0))
            .spawn(move || runtime.block_on(LocalSet::new().run_until(run(id, node, inbound))))?;
        Ok(Self { orders, load: Arc::default() })
    }

    /// Connections it has or is about to have.
    pub fn load(&self) -> usize {
        self.load.load(Relaxed)
    }

    /// Hands a socket over, waiting while the worker is far behind: meanwhile the kernel's backlog fills, not our
    /// memory. A socket for a worker that has died is closed.
    pub async fn hand_over(&self, stream: std::net::TcpStream, peer: Peer, place: Option<AddressPlace>) {
        let held = Held::new(Arc::clone(&self.load), place);
        // An error gives the order back, and dropping it closes the socket.
        drop(self.orders.send(Order::Serve(stream, peer, held)).await);
    }

    /// Tells its connections to leave, spread evenly over `window`. False if the worker has died.
    pub async fn drain(&self, window: Duration) -> bool {
        self.orders.send(Order::Drain(window)).await.is_ok()
    }

    /// Comes back once it takes no more orders, which it never stops by itself: its thread ends, however that came.
    pub async fn died(&self) {
        self.orders.closed().await;
    }
}

async fn run(id: WorkerId, node: Arc<Node>, mut orders: mpsc::Receiver<Order>) {
    let sockets = Sockets::new(Hub::new(
        id,
        Arc::clone(&node.delivery),
        Arc::clone(&node.adapter),
        Arc::clone(&node.queued),
    ));
    let door = Rc::new(Door { node: Arc::clone(&node), sockets: Rc::clone(&sockets), worker: id });
    let mut deliverer = spawn_local(deliver(Rc::clone(&sockets), Arc::clone(&node), id));
    let mut timekeeper = spawn_local(keep_time(Rc::clone(&sockets)));
    let mut adopter = spawn_local(adopt(Rc::clone(&sockets), Arc::clone(&node), node.apps.replacements()));
    loop {
        // None of these tasks ends by itself; without one of them this worker would only seem to live, so it ends as well.
        let order = tokio::select! {
            order = orders.recv() => order,
            _ = &mut deliverer => return,
            _ = &mut timekeeper => return,
            _ = &mut adopter => return,
        };
        match order {
            Some(Order::Serve(stream, peer, held)) => match TcpStream::from_std(stream) {
                Ok(stream) => take_in(&door, stream, peer, Rc::new(held)),
                Err(error) => warn!(%error, "a connection could not be taken in"),
            },
            Some(Order::Drain(window)) => {
                spawn_local(drain(Rc::clone(&sockets), window));
            }
            None => return,
        }
    }
}

/// Serves a connection in a task of its own: behind a proxy that says so once it has said whose it is, and with TLS
/// once hands are shaken.
fn take_in(door: &Rc<Door>, mut stream: TcpStream, peer: Peer, held: Rc<Held>) {
    let door = Rc::clone(door);
    if !peer.owes_header(&door.node) {
        serve(door, stream, peer, held);
        return;
    }
    spawn_local(async move {
        if let Some(peer) = doorstep::introduce(&door.node, &mut stream, peer, &held).await {
            serve(door, stream, peer, held);
        }
    });
}

fn serve(door: Rc<Door>, stream: TcpStream, peer: Peer, held: Rc<Held>) {
    if peer.owes_tls {
        spawn_local(secure(door, stream, peer, held));
    } else {
        spawn_local(http::serve(door, Transport::Plain(stream), peer, held));
    }
}

/// Shakes hands, then serves. Who speaks plain HTTP instead is served with what is wrong.
async fn secure(door: Rc<Door>, stream: TcpStream, peer: Peer, held: Rc<Held>) {
    let node = Arc::clone(&door.node);
    let Some(tls) = &node.tls else { return };
    let (transport, peer) = match greet(tls, door.worker, stream).await {
        Some(Greeted::Tls(stream)) => {
            (Transport::Tls(stream), Peer { is_tls: true, owes_tls: false, ..peer })
        }
        Some(Greeted::Plain(stream)) => {
            node.mistakes.plain_on_tls();
            (Transport::Plain(stream), peer)
        }
        None => return,
    };
    // A task of its own, so that the room for the handshake is free again.
    spawn_local(http::serve(door, transport, peer, held));
}

/// Carries out the inbox for as long as the worker lives.
async fn deliver(sockets: Rc<Sockets>, node: Arc<Node>, id: WorkerId) {
    let inbox = node.delivery.inboxes.of(id);
    let mut items = VecDeque::new();
    loop {
        inbox.filled().await;
        inbox.take(&mut items);
        while !items.is_empty() {
            deliver_batch(&sockets, &mut items).await;
            // However fast others fill the inbox, those who send and ask have their turn between two batches.
            yield_now().await;
            inbox.take(&mut items);
        }
        items.shrink_to(1024);
    }
}

/// Delivers all items, giving other tasks their turn after each slice.
async fn deliver_batch(sockets: &Sockets, items: &mut VecDeque<Item>) {
    let at_once = items.len() == 1;
    sockets.hub.borrow_mut().begin_batch();
    while let Some(item) = items.pop_front() {
        let mut delivering = isolated(|| sockets.hub.borrow_mut().take_up(item, at_once)).flatten();
        while let Some(item) = &mut delivering {
            // After a panic the item is given up: whom it has not reached by then does not get it.
            if isolated(|| sockets.hub.borrow_mut().deliver_slice(item)).unwrap_or(true) {
                delivering = None;
            } else {
                yield_now().await;
            }
        }
        if sockets.hub.borrow().batch_is_full() {
            write_batch(sockets).await;
        }
    }
    write_batch(sockets).await;
    sockets.hub.borrow_mut().end_batch();
}

async fn write_batch(sockets: &Sockets) {
    while !isolated(|| sockets.hub.borrow_mut().write_batch_slice()).unwrap_or(false) {
        yield_now().await;
    }
}

/// A panic in one item must not end the worker.
fn isolated<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work))
        .inspect_err(|_: &Box<dyn Any + Send>| error!("delivering an event panicked; it is given up"))
        .ok()
}

/// Looks at each connection whose deadline may have come.
async fn keep_time(sockets: Rc<Sockets>) {
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        seconds.tick().await;
        let now = Instant::now();
        let due = sockets.hub.borrow_mut().due(now);
        for names in due.chunks(256) {
            for name in names {
                socket::tick(&mut sockets.hub.borrow_mut(), *name, now);
            }
            yield_now().await;
        }
    }
}

/// Brings the connections up to date whenever the apps were replaced. Who is seated later has the newest already.
async fn adopt(sockets: Rc<Sockets>, node: Arc<Node>, mut replaced: watch::Receiver<()>) {
    // The node holds the sender, so this comes back only with news.
    while replaced.changed().await.is_ok() {
        let names = sockets.hub.borrow().names();
        let mut names = names.into_iter();
        let mut is_done = false;
        while !is_done {
            // The newest for each slice: nobody is sent away for what was taken back meanwhile.
            let apps = node.apps.table();
            let mut spent = 0;
            while spent < ADOPTION_SLICE && !is_done {
                match names.next() {
                    Some(name) => spent += sockets.hub.borrow_mut().adopt(name, &apps),
                    None => is_done = true,
                }
            }
            yield_now().await;
        }
    }
}

/// Tells every connection to leave, evenly over `window`: clients come back at once, so the spread is all that keeps
/// them from arriving elsewhere in one wave.
async fn drain(sockets: Rc<Sockets>, window: Duration) {
    let names = sockets.hub.borrow().names();
    let began_at = Instant::now();
    let mut told = 0;
    while let Some(left) = names.get(told..).filter(|left| !left.is_empty()) {
        let passed = began_at.elapsed().as_secs_f64() / window.as_secs_f64().max(f64::EPSILON);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a length")]
        let due = (names.len() as f64 * passed.min(1.0)).ceil() as usize;
        for name in left.iter().take(due.saturating_sub(told)) {
            sockets.hub.borrow_mut().close(*name, CloseReason::Draining, None);
        }
        told = told.max(due);
        tokio::time::sleep(DRAIN_STEP.min(window)).await;
    }
}

#[cfg(test)]
mod tests;
