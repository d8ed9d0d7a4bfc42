//! A worker's hub: its connections, the channels they are on, and their deadlines. One thread owns it, so delivering
//! takes no lock; what other workers must know goes through the directory.

mod adopt;
mod channels;
mod deadlines;
mod lobby;

use std::{
    collections::HashSet,
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use foldhash::quality::RandomState;
use soundpost_protocol::{
    close::CloseReason,
    connection::Connection,
    server_frame,
    socket_id::SocketId,
    user::User,
    websocket::{Decoder, Frame, Role},
};

use tokio::net::tcp::OwnedWriteHalf;

pub(super) use lobby::Newcomer;

use self::lobby::Lobby;
use super::{
    ConnectionRef, Delivery, Outlet, Queued, Slab, WorkerQueues,
    fan_out::{Batch, Lane},
    outlet::Sent,
    subscribers::{Place, Subscribers},
    wheel::{Second, Wheel},
};
use crate::{
    adapter::Adapter,
    apps::{ChannelKey, QuotaPlace, RunningApp, WorkerId},
    tls::Session,
};

/// A client that takes nothing for so long is cut.
const STALL_MAX: Duration = Duration::from_secs(10);

/// A closing connection is given so long to read our close frame and to close, too.
const LINGER: Duration = Duration::from_secs(2);

/// A join on its way through the inbox.
#[derive(Debug)]
struct Pending {
    ticket: u32,
    key: Arc<ChannelKey>,
    /// Once it waits in the lobby: the subscribes that are answered when it is let in.
    answers: u32,
}

/// What is left of a connection that has been told to close.
#[derive(Clone, Copy, Debug)]
struct Closing {
    until: Instant,
    write_side_ended: bool,
}

/// One client's place in the hub.
#[derive(Debug)]
pub struct Seat {
    /// What the protocol knows of it; nothing for a client that was refused at the door.
    pub connection: Option<Connection>,
    /// Frames in.
    pub decoder: Decoder,
    /// Frames out.
    pub(super) outlet: Outlet,
    /// Frames of the batch under way.
    pub(super) lane: Lane,
    /// Whose connection; nothing for a client that was refused at the door.
    pub app: Option<Arc<RunningApp>>,
    /// Who is signed in.
    user: Option<Arc<User>>,
    places: Vec<Place>,
    pending: Vec<Pending>,
    waker: Option<Waker>,
    filed: Second,
    closing: Option<Closing>,
    /// Its place in the app's quota and in the node's, given back as soon as it is told to close.
    quota: Option<[QuotaPlace; 2]>,
}

impl Seat {
    /// Whether the close frame is on its way, so that nothing more is read or sent.
    pub const fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Whether frames wait for the socket.
    pub const fn is_blocked(&self) -> bool {
        self.outlet.is_blocked()
    }

    /// When somebody must look at it next.
    fn deadline(&self) -> Option<Instant> {
        let stalled = self.outlet.stalled_since().map(|since| since + STALL_MAX);
        let open = || self.connection.as_ref().map(Connection::deadline);
        let own = self.closing.map(|closing| closing.until).or_else(open);
        [stalled, own].into_iter().flatten().min()
    }
}

/// What a new connection brings along.
#[derive(Debug)]
pub struct Arrival {
    /// The writing side of its socket.
    pub outlet: Outlet,
    /// The app its key named, if it was let in.
    pub app: Option<Arc<RunningApp>>,
    /// Its places in the quotas of app and node, if it was let in.
    pub quota: Option<[QuotaPlace; 2]>,
}

/// The connections of one worker.
#[derive(Debug)]
pub struct Hub {
    /// Which worker's.
    pub worker: WorkerId,
    /// What all workers share.
    pub delivery: Arc<Delivery>,
    /// The way to the subscribers of all nodes.
    pub adapter: Arc<Adapter>,
    pub(super) queues: WorkerQueues,
    pub(super) seats: Slab<Seat>,
    pub(super) subscribers: Subscribers,
    pub(super) batch: Batch,
    /// Connections whose queue is not empty.
    blocked: HashSet<ConnectionRef, RandomState>,
    lobby: Lobby,
    wheel: Wheel,
    began_at: Instant,
    tickets: u32,
}

impl Hub {
    /// Without connections.
    pub fn new(
        worker: WorkerId,
        delivery: Arc<Delivery>,
        adapter: Arc<Adapter>,
        queued: Arc<Queued>,
    ) -> Self {
        Self {
            worker,
            delivery,
            adapter,
            queues: WorkerQueues { all: queued, worker },
            seats: Slab::default(),
            subscribers: Subscribers::default(),
            batch: Batch::default(),
            blocked: HashSet::default(),
            lobby: Lobby::default(),
            wheel: Wheel::default(),
            began_at: Instant::now(),
            tickets: 0,
        }
    }

    /// The writing side of a connection behind TLS.
    pub fn secured(&self, writer: OwnedWriteHalf, session: Session, sealed: &[u8]) -> Outlet {
        Outlet::secured(writer, session, sealed, &self.queues)
    }

    /// Seats a client. `None`: the worker has no slot left; then its socket is closed.
    pub fn seat(&mut self, arrival: Arrival) -> Option<ConnectionRef> {
        let Arrival { outlet, app, quota } = arrival;
        let seated = self.seats.insert(|_| Seat {
            connection: None,
            decoder: Decoder::new(Role::Server),
            outlet,
            lane: Lane::EMPTY,
            app,
            user: None,
            places: Vec::new(),
            pending: Vec::new(),
            waker: None,
            filed: Second::MAX,
            closing: None,
            quota,
        });
        self.delivery.seats.fetch_add(usize::from(seated.is_some()), Relaxed);
        seated
    }

    /// The seat of that name, unless its connection has ended.
    pub fn get_mut(&mut self, name: ConnectionRef) -> Option<&mut Seat> {
        self.seats.get_mut(name)
    }

    /// Names of all connections.
    pub fn names(&self) -> Vec<ConnectionRef> {
        self.seats.names().collect()
    }

    /// Connections, closing ones too.
    pub const fn len(&self) -> usize {
        self.seats.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// Notes which task reads this client, so that it can be told of a queue to flush or an end.
    pub fn set_waker(&mut self, name: ConnectionRef, waker: &Waker) {
        if let Some(seat) = self.seats.get_mut(name) {
            seat.waker.get_or_insert_with(|| waker.clone());
        }
    }

    /// Sends one frame to one client.
    pub fn send(&mut self, name: ConnectionRef, frame: &Frame) {
        let Some(seat) = self.seats.get_mut(name).filter(|seat| !seat.is_closing()) else { return };
        if let Some(app) = &seat.app {
            app.counters(self.worker).sent_bytes.add(frame.bytes().len() as u64);
        }
        let sent = seat.outlet.send(frame.bytes(), &self.queues);
        self.settle(name, &sent);
    }

    /// Acts on what became of frames: wakes the task that flushes, cuts who is too slow, forgets who is gone.
    pub(super) fn settle(&mut self, name: ConnectionRef, sent: &io::Result<Sent>) {
        match sent {
            Ok(Sent::Whole) => {}
            Ok(Sent::Behind) => self.relieve(),
            Ok(Sent::Blocked) => {
                self.blocked.insert(name);
                self.refile(name);
                self.wake(name);
                self.relieve();
            }
            Ok(Sent::Overflow) => self.cut(name, CloseReason::SlowConsumer),
            Err(_) => self.remove(name, CloseReason::Lost),
        }
    }

    /// Brings the node's queues back under their bound: the largest of the workers with the most is cut first.
    fn relieve(&mut self) {
        while self.queues.all.asks_too_much(self.worker) {
            let seats = &self.seats;
            let size = |name: &ConnectionRef| seats.get(*name).map_or(0, |seat| seat.outlet.queued_bytes());
            self.blocked.retain(|name| size(name) > 0);
            let Some(largest) = self.blocked.iter().copied().max_by_key(size) else { return };
            self.cut(largest, CloseReason::SlowConsumer);
        }
    }

    /// Notes that a queue was flushed.
    pub fn unblocked(&mut self, name: ConnectionRef) {
        self.blocked.remove(&name);
        if self.blocked.is_empty() {
            self.blocked.shrink_to(64);
        }
        self.note_arrival(name);
    }

    /// Ends the connection with an error frame, where the reason has one, and a close frame; then waits for the
    /// client to do the same, or a while. `code`: the client's own, to send back.
    pub fn close(&mut self, name: ConnectionRef, reason: CloseReason, code: Option<u16>) {
        let Some(seat) = self.seats.get_mut(name).filter(|seat| !seat.is_closing()) else { return };
        // What the batch under way holds for it would come after the close frame.
        seat.lane = Lane::EMPTY;
        self.leave_all(name, false);
        self.count_closed(name, reason);
        if reason.has_error_frame() {
            self.send(name, &server_frame::closing(reason));
        }
        let frame = match (reason, code) {
            (CloseReason::ClientLeft, None) => Frame::close(None),
            (CloseReason::ClientLeft, Some(code)) => Frame::close(Some((code, ""))),
            _ => Frame::close(Some(reason.wire())),
        };
        self.send(name, &frame);
        let Some(seat) = self.seats.get_mut(name) else { return };
        seat.closing = Some(Closing { until: Instant::now() + LINGER, write_side_ended: false });
        self.refile(name);
        self.wake(name);
    }

    /// Once everything is written, ends the writing side of a closing connection, or sees to it that what must go out
    /// before does; false if that is impossible.
    pub fn end_write_side(&mut self, name: ConnectionRef) -> bool {
        let Some(seat) = self.seats.get_mut(name) else { return false };
        let Some(closing) = seat.closing.as_mut().filter(|closing| !closing.write_side_ended) else {
            return true;
        };
        let ended = seat.outlet.shutdown(&self.queues);
        closing.write_side_ended = matches!(ended, Ok(true));
        if let (Ok(false), Some(waker)) = (&ended, &seat.waker) {
            waker.wake_by_ref();
        }
        ended.is_ok()
    }

    /// What a client behind TLS says in `bytes`, which were read from its socket, is put into `plain`. A connection whose
    /// session is broken or over is forgotten.
    pub fn unseal(&mut self, name: ConnectionRef, bytes: &mut [u8], plain: &mut Vec<u8>) {
        plain.clear();
        let Some(seat) = self.seats.get_mut(name).filter(|seat| !seat.is_closing()) else { return };
        if let Some(unsealed) = seat.outlet.unseal(bytes, plain, &self.queues) {
            self.settle(name, &unsealed);
        }
    }

    /// Forgets a connection whose socket has ended or is to end without another word.
    pub fn remove(&mut self, name: ConnectionRef, reason: CloseReason) {
        if let Some(seat) = self.part(name, reason) {
            seat.outlet.release();
        }
    }

    /// Ends a connection at once: the client sees a reset, the kernel's buffers are freed.
    pub fn cut(&mut self, name: ConnectionRef, reason: CloseReason) {
        if let Some(seat) = self.part(name, reason) {
            seat.outlet.cut();
        }
    }

    fn part(&mut self, name: ConnectionRef, reason: CloseReason) -> Option<Seat> {
        self.leave_all(name, false);
        self.count_closed(name, reason);
        let seat = self.seats.remove(name)?;
        self.delivery.seats.fetch_sub(1, Relaxed);
        if seat.is_blocked() {
            self.unblocked(name);
        }
        if let Some(waker) = &seat.waker {
            waker.wake_by_ref();
        }
        Some(seat)
    }

    /// Takes the protocol's view of the connection away, so that its end is counted once. Its places are given back last:
    /// who finds one free finds the end counted, too.
    fn count_closed(&mut self, name: ConnectionRef, reason: CloseReason) {
        let Some(seat) = self.seats.get_mut(name) else { return };
        let places = seat.quota.take();
        if let (Some(connection), Some(app)) = (seat.connection.take(), &seat.app) {
            let (socket_id, word) = (connection.socket_id(), reason.word());
            tracing::debug!(%socket_id, reason = word, "connection ended");
            app.counters(self.worker).closed(reason).add(1);
        }
        drop(places);
    }

    fn wake(&self, name: ConnectionRef) {
        if let Some(waker) = self.seats.get(name).and_then(|seat| seat.waker.as_ref()) {
            waker.wake_by_ref();
        }
    }

    /// The local connection with this public name.
    pub(super) fn find(&self, socket_id: SocketId) -> Option<ConnectionRef> {
        let (worker, name) = ConnectionRef::of(socket_id);
        let connection = self.seats.get(name)?.connection.as_ref()?;
        (worker == self.worker && connection.socket_id() == socket_id).then_some(name)
    }

    /// Writes what waits for this client as far as its socket takes it.
    pub fn poll_flush(&mut self, name: ConnectionRef, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(seat) = self.seats.get_mut(name) else { return Poll::Ready(Ok(())) };
        if !seat.is_blocked() {
            return Poll::Ready(Ok(()));
        }
        let flushed = seat.outlet.poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.unblocked(name);
        }
        flushed
    }
}
