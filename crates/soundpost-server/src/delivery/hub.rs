//! A worker's hub: its connections, the channels they are on, and their deadlines. One thread owns it, so nothing here
//! locks; what other workers must know goes through the directory.

use std::{
    collections::HashSet,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use foldhash::quality::RandomState;
use soundpost_protocol::{
    channel::ChannelName,
    close::CloseReason,
    connection::Connection,
    presence::Member,
    server_frame::{self, SubscriptionFailure},
    socket_id::SocketId,
    websocket::{Decoder, Frame, Role},
};

use super::{
    ConnectionRef, Delivery, Joiner, Outlet, Queued, Slab, Wakes,
    fan_out::{Batch, Lane},
    membership::Joining,
    outlet::Sent,
    subscribers::{Moved, Place, Subscriber, Subscribers},
    wheel::{Second, Wheel},
};
use crate::{
    adapter::Adapter,
    apps::{ChannelKey, QuotaPlace, RunningApp, WorkerId},
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
    /// Whose connection; nothing if its key or path named no app.
    pub app: Option<Arc<RunningApp>>,
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
    /// The app its key named.
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
    pub(super) queued: Arc<Queued>,
    pub(super) seats: Slab<Seat>,
    pub(super) subscribers: Subscribers,
    pub(super) batch: Batch,
    /// Connections whose queue is not empty.
    blocked: HashSet<ConnectionRef, RandomState>,
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
            queued,
            seats: Slab::default(),
            subscribers: Subscribers::default(),
            batch: Batch::default(),
            blocked: HashSet::default(),
            wheel: Wheel::default(),
            began_at: Instant::now(),
            tickets: 0,
        }
    }

    /// Seats a client. `None`: the worker has no slot left; then its socket is closed.
    pub fn seat(&mut self, arrival: Arrival) -> Option<ConnectionRef> {
        let Arrival { outlet, app, quota } = arrival;
        self.seats.insert(|_| Seat {
            connection: None,
            decoder: Decoder::new(Role::Server),
            outlet,
            lane: Lane::EMPTY,
            app,
            places: Vec::new(),
            pending: Vec::new(),
            waker: None,
            filed: Second::MAX,
            closing: None,
            quota,
        })
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
        let sent = seat.outlet.send(frame.bytes(), &self.queued);
        self.settle(name, &sent);
    }

    /// Acts on what became of frames: wakes the task that flushes, cuts who is too slow, forgets who is gone.
    pub(super) fn settle(&mut self, name: ConnectionRef, sent: &std::io::Result<Sent>) {
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

    /// Brings the node's queues back under their bound: the largest of this worker is cut first.
    fn relieve(&mut self) {
        while self.queued.bytes() > self.queued.node_bytes_max {
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
    }

    /// Ends the connection with an error frame, where the reason has one, and a close frame; then waits for the
    /// client to do the same, or a while. `code`: the client's own, to send back.
    pub fn close(&mut self, name: ConnectionRef, reason: CloseReason, code: Option<u16>) {
        let Some(seat) = self.seats.get_mut(name).filter(|seat| !seat.is_closing()) else { return };
        // What the batch under way holds for it would come after the close frame.
        seat.lane = Lane::EMPTY;
        self.leave_all(name);
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

    /// Once everything is written, ends the writing side of a closing connection; false if that is impossible.
    pub fn end_write_side(&mut self, name: ConnectionRef) -> bool {
        let Some(seat) = self.seats.get_mut(name) else { return false };
        let Some(closing) = seat.closing.as_mut().filter(|closing| !closing.write_side_ended) else {
            return true;
        };
        closing.write_side_ended = true;
        seat.outlet.shutdown().is_ok()
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
        self.leave_all(name);
        self.count_closed(name, reason);
        let seat = self.seats.remove(name)?;
        if seat.is_blocked() {
            self.unblocked(name);
        }
        if let Some(waker) = &seat.waker {
            waker.wake_by_ref();
        }
        Some(seat)
    }

    /// Takes the protocol's view of the connection away, so that its end is counted once.
    fn count_closed(&mut self, name: ConnectionRef, reason: CloseReason) {
        let Some(seat) = self.seats.get_mut(name) else { return };
        seat.quota = None;
        if let (Some(connection), Some(app)) = (seat.connection.take(), &seat.app) {
            let (socket_id, word) = (connection.socket_id(), reason.word());
            tracing::debug!(%socket_id, reason = word, "connection ended");
            app.counters(self.worker).closed(reason).add(1);
        }
    }

    fn wake(&self, name: ConnectionRef) {
        if let Some(waker) = self.seats.get(name).and_then(|seat| seat.waker.as_ref()) {
            waker.wake_by_ref();
        }
    }

    /// Puts the connection's join on its way. Errors: see [`Delivery::join`].
    pub fn join(
        &mut self,
        name: ConnectionRef,
        channel: ChannelName,
        member: Option<Arc<Member>>,
    ) -> Result<(), SubscriptionFailure> {
        let Some((app, joiner)) = self.joiner(name) else { return Ok(()) };
        let members_max = app.app.limits.presence_members_max;
        let joining = member.map(|member| Joining { member, joined_at: unix_milliseconds(), members_max });
        self.tickets = self.tickets.wrapping_add(1);
        let ticket = self.tickets;
        let key = ChannelKey { app: app.index, name: channel };
        let mut wakes = Wakes::new(&self.delivery.inboxes);
        let key = self.delivery.join(joiner, key, ticket, joining, &mut wakes)?;
        drop(wakes);
        if let Some(seat) = self.seats.get_mut(name) {
            seat.pending.push(Pending { ticket, key });
        }
        Ok(())
    }

    /// Asks for another `subscription_succeeded` on a channel the connection holds.
    pub fn rejoin(
        &mut self,
        name: ConnectionRef,
        channel: ChannelName,
        member: Option<&Arc<Member>>,
    ) -> Result<(), SubscriptionFailure> {
        let Some((app, joiner)) = self.joiner(name) else { return Ok(()) };
        let key = Arc::new(ChannelKey { app: app.index, name: channel });
        self.delivery.rejoin(joiner, &key, member, &mut self.delivery.wakes())
    }

    /// Takes the connection off a channel, here and in the directory.
    pub fn leave(&mut self, name: ConnectionRef, channel: ChannelName, member: Option<&Member>) {
        let Some((app, joiner)) = self.joiner(name) else { return };
        let key = ChannelKey { app: app.index, name: channel };
        self.leave_channel(name, joiner, &key, member, &mut Wakes::new(&Arc::clone(&self.delivery).inboxes));
    }

    fn leave_all(&mut self, name: ConnectionRef) {
        let Some((app, joiner)) = self.joiner(name) else { return };
        let Some(connection) = self.seats.get_mut(name).and_then(|seat| seat.connection.as_mut()) else {
            return;
        };
        let held: Vec<_> = connection.leave_all().collect();
        let delivery = Arc::clone(&self.delivery);
        let mut wakes = delivery.wakes();
        for (channel, member) in held {
            let key = ChannelKey { app: app.index, name: channel };
            self.leave_channel(name, joiner, &key, member.as_deref(), &mut wakes);
        }
    }

    fn leave_channel(
        &mut self,
        name: ConnectionRef,
        joiner: Joiner,
        key: &ChannelKey,
        member: Option<&Member>,
        wakes: &mut Wakes<'_>,
    ) {
        if let Some(seat) = self.seats.get_mut(name) {
            if let Some(at) = seat.pending.iter().position(|pending| *pending.key == *key) {
                seat.pending.swap_remove(at);
            } else if let Some(channel) = self.subscribers.find(key)
                && let Some(at) = seat.places.iter().position(|place| place.channel == channel)
            {
                let place = seat.places.swap_remove(at);
                if let Some(moved) = self.subscribers.leave(place) {
                    tell(&mut self.seats, moved);
                }
            }
        }
        self.delivery.leave(joiner, key, member.map(|member| &member.user_id), wakes);
    }

    /// The join has come up in the inbox: if it is still wanted, the connection hears the channel from now on.
    /// Gives back what to tell the client.
    pub(super) fn enter(&mut self, name: ConnectionRef, ticket: u32) -> Option<Frame> {
        let seat = self.seats.get_mut(name)?;
        let at = seat.pending.iter().position(|pending| pending.ticket == ticket)?;
        let Pending { key, .. } = seat.pending.swap_remove(at);
        if seat.pending.is_empty() {
            seat.pending = Vec::new();
        }
        let (roster_version, frame) = self.success(&key)?;
        let place = self.subscribers.enter(&key, Subscriber { connection: name, roster_version });
        let seat = self.seats.get_mut(name)?;
        if seat.places.is_empty() {
            seat.places = Vec::with_capacity(1);
        }
        seat.places.push(place);
        Some(frame)
    }

    /// The repeated join has come up: gives back what to tell the client, if it still holds the channel.
    pub(super) fn enter_again(&mut self, name: ConnectionRef, key: &ChannelKey) -> Option<Frame> {
        let channel = self.subscribers.find(key)?;
        let place = *self.seats.get(name)?.places.iter().find(|place| place.channel == channel)?;
        let (roster_version, frame) = self.success(key)?;
        self.subscribers.renew(place, roster_version);
        Some(frame)
    }

    fn success(&self, key: &ChannelKey) -> Option<(u64, Frame)> {
        if key.name.kind().is_presence() {
            self.delivery.directory.roster_frame(key)
        } else {
            Some((0, server_frame::subscription_succeeded(&key.name)))
        }
    }

    fn joiner(&self, name: ConnectionRef) -> Option<(Arc<RunningApp>, Joiner)> {
        let seat = self.seats.get(name)?;
        let socket_id = seat.connection.as_ref()?.socket_id();
        let app = seat.app.clone()?;
        Some((app, Joiner { worker: self.worker, connection: name, socket_id }))
    }

    /// The local connection with this public name.
    pub(super) fn find(&self, socket_id: SocketId) -> Option<ConnectionRef> {
        let (worker, name) = ConnectionRef::of(socket_id);
        let connection = self.seats.get(name)?.connection.as_ref()?;
        (worker == self.worker && connection.socket_id() == socket_id).then_some(name)
    }

    /// After a delivery: closes the gaps that leaves have left.
    pub(super) fn close_gaps(&mut self) {
        let seats = &mut self.seats;
        self.subscribers.end_delivery(|moved| tell(seats, moved));
    }

    /// Files the connection for its next deadline, unless it is filed for that time or sooner.
    pub fn refile(&mut self, name: ConnectionRef) {
        let Some(seat) = self.seats.get_mut(name) else { return };
        let Some(deadline) = seat.deadline() else { return };
        let second = whole_seconds(deadline.saturating_duration_since(self.began_at)).saturating_add(1);
        if second < seat.filed {
            seat.filed = self.wheel.file(name, second);
        }
    }

    /// The connections whose deadline may have come by `now`; each has to be filed again or ended.
    pub fn due(&mut self, now: Instant) -> Vec<ConnectionRef> {
        let second = whole_seconds(now.saturating_duration_since(self.began_at));
        let mut due = Vec::new();
        while let Some((second, names)) = self.wheel.turn(second) {
            for name in names {
                // One that was filed again for a sooner time has been looked at then.
                if let Some(seat) = self.seats.get_mut(name).filter(|seat| seat.filed == second) {
                    seat.filed = Second::MAX;
                    due.push(name);
                }
            }
        }
        due
    }

    /// Ends a connection that takes nothing, or that has lingered long enough; true if it is gone.
    pub fn expire(&mut self, name: ConnectionRef, now: Instant) -> bool {
        let Some(seat) = self.seats.get(name) else { return true };
        if seat.outlet.stalled_since().is_some_and(|since| since + STALL_MAX <= now) {
            self.cut(name, CloseReason::SlowConsumer);
            return true;
        }
        if seat.closing.is_some_and(|closing| closing.until <= now) {
            self.remove(name, CloseReason::ClientLeft);
            return true;
        }
        false
    }

    /// Writes what waits for this client as far as its socket takes it.
    pub fn poll_flush(
        &mut self,
        name: ConnectionRef,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let Some(seat) = self.seats.get_mut(name) else { return std::task::Poll::Ready(Ok(())) };
        if !seat.is_blocked() {
            return std::task::Poll::Ready(Ok(()));
        }
        let flushed = seat.outlet.poll_flush(cx);
        if matches!(flushed, std::task::Poll::Ready(Ok(()))) {
            self.unblocked(name);
        }
        flushed
    }
}

fn tell(seats: &mut Slab<Seat>, moved: Moved) {
    let Some(seat) = seats.get_mut(moved.connection) else { return };
    if let Some(place) = seat.places.iter_mut().find(|place| place.channel == moved.to.channel) {
        *place = moved.to;
    }
}

fn whole_seconds(duration: Duration) -> Second {
    Second::try_from(duration.as_secs()).unwrap_or(Second::MAX - 1)
}

fn unix_milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
