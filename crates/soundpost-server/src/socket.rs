//! The WebSocket door: bytes of one client become inputs of its state machine, effects become bytes.
//!
//! The reading task of a connection is all it costs beside its seat in the hub. It owns the reading side of the socket
//! and reads into the worker's one buffer. What a whole message means is left to a [`Dialect`], which is the protocol
//! for every client of the server.

mod redact;

use std::{
    cell::RefCell,
    future::Future,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use soundpost_protocol::{
    channel::ChannelName,
    close::{CloseReason, Refusal},
    connection::{Connection, Effect, Input, Refused, RelayedEvent},
    server_frame,
    websocket::{Frame, Message},
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::tcp::OwnedReadHalf,
    task::yield_now,
};
use tracing::{debug, error};

use crate::{
    adapter::Broadcast,
    apps::{ChannelKey, QuotaPlace, RunningApp},
    delivery::{Arrival, ConnectionRef, Hub, Outlet},
    faults,
    metrics::ClientEventResult,
    tls::{TlsParts, Transport},
};

/// Reads of one connection before others get their turn.
const READS_IN_A_ROW: usize = 8;

/// Bytes of one connection before others get their turn: of the smallest messages these are hundreds. Every connection
/// of a worker reads into the same buffer of this size.
const TURN_BYTES: usize = 16 << 10;

/// What the sockets of one worker share.
#[derive(Debug)]
pub struct Sockets {
    /// Connections and channels.
    pub hub: RefCell<Hub>,
    buffer: RefCell<Box<[u8]>>,
    /// What was decrypted of it.
    plain: RefCell<Vec<u8>>,
    random: RefCell<RandomPool>,
}

impl Sockets {
    /// Around a hub without connections.
    pub fn new(hub: Hub) -> Rc<Self> {
        Rc::new(Self {
            hub: RefCell::new(hub),
            buffer: RefCell::new(vec![0; TURN_BYTES].into()),
            plain: RefCell::default(),
            random: RefCell::new(RandomPool { bytes: [0; 512], used: 512 }),
        })
    }
}

/// Random numbers fetched from the kernel a few at a time.
#[derive(Debug)]
struct RandomPool {
    bytes: [u8; 512],
    used: usize,
}

impl RandomPool {
    fn next(&mut self) -> Option<u64> {
        if self.used >= self.bytes.len() {
            getrandom::fill(&mut self.bytes).ok()?;
            self.used = 0;
        }
        let bytes = self.bytes.get(self.used..)?.first_chunk()?;
        self.used += size_of::<u64>();
        Some(u64::from_ne_bytes(*bytes))
    }
}

/// A client that passed every check on connect.
#[derive(Debug)]
pub struct Admitted {
    /// The app its key named.
    pub app: Arc<RunningApp>,
    /// Its places in the quotas of app and node.
    pub quota: [QuotaPlace; 2],
}

/// A client that completed the handshake, and what is to become of it.
#[derive(Debug)]
pub struct Opened {
    /// Its socket, and TLS where that lies in between.
    pub transport: Transport,
    /// Bytes it sent behind the handshake.
    pub early: Vec<u8>,
    /// Let in, or told why not. Refusals come after the handshake, since browsers hide HTTP statuses.
    pub admitted: Result<Admitted, CloseReason>,
}

/// What the messages of a client mean. Control frames, broken framing, queues and closing are not its business.
///
/// The server speaks [`Pusher`] alone. The other dialect is that of `examples/echo.rs`, with which the Autobahn test
/// suite tries everything else in this file.
pub trait Dialect {
    /// Whether a client is greeted with its socket id.
    const GREETS: bool;

    /// Decides on a text message.
    fn text(connection: &mut Connection, text: &str, now: Instant, effects: &mut Vec<Effect>);

    /// Decides on a binary message.
    fn binary(connection: &mut Connection, bytes: &[u8], now: Instant, effects: &mut Vec<Effect>);
}

/// The Pusher protocol.
#[derive(Debug)]
pub enum Pusher {}

impl Dialect for Pusher {
    const GREETS: bool = true;

    fn text(connection: &mut Connection, text: &str, now: Instant, effects: &mut Vec<Effect>) {
        log_received(connection, text);
        faults::strike(text.as_bytes());
        connection.step(now, Input::Text(text), effects);
    }

    fn binary(_: &mut Connection, _: &[u8], _: Instant, effects: &mut Vec<Effect>) {
        effects.push(Effect::Close(CloseReason::BinaryMessage));
    }
}

/// Seats a client and starts to read what it sends; `None` if the worker has no slot for it. The future that comes
/// back ends with the connection.
pub fn open<D: Dialect>(sockets: &Rc<Sockets>, opened: Opened) -> Option<Reading<D>> {
    let Opened { transport, mut early, admitted } = opened;
    let (app, quota, refused) = match admitted {
        Ok(Admitted { app, quota }) => (Some(app), Some(quota), None),
        Err(reason) => (None, None, Some(reason)),
    };
    let hub = &mut *sockets.hub.borrow_mut();
    let random = sockets.random.borrow_mut().next()?;
    let (read, outlet) = split(transport, &mut early, hub);
    let is_plain = outlet.is_plain();
    let name = hub.seat(Arrival { outlet, app: app.clone(), quota })?;
    match (app, refused) {
        (Some(app), None) => {
            let socket_id = name.socket_id(hub.worker, random);
            let (connection, greeting) = Connection::open(Arc::clone(&app.app), socket_id, Instant::now());
            if let Some(seat) = hub.get_mut(name) {
                seat.connection = Some(connection);
            }
            if D::GREETS {
                send(hub, name, &greeting);
            }
            hub.refile(name);
            if !early.is_empty() {
                receive::<D>(hub, name, &mut early);
            }
        }
        (_, reason) => hub.close(name, reason.unwrap_or(CloseReason::ServerFault), None),
    }
    Some(Reading { sockets: Rc::clone(sockets), read, name, is_plain, dialect: PhantomData })
}

/// The two sides of a connection. What its session has decrypted comes behind what is in `early`.
fn split(transport: Transport, early: &mut Vec<u8>, hub: &Hub) -> (OwnedReadHalf, Outlet) {
    match transport {
        Transport::Plain(stream) => {
            let (read, write) = stream.into_split();
            (read, Outlet::plain(write))
        }
        Transport::Tls(stream) => {
            let TlsParts { stream, session, plain, sealed } = stream.into_parts();
            early.extend(plain);
            let (read, write) = stream.into_split();
            (read, hub.secured(write, session, &sealed))
        }
    }
}

/// Reads one client until its connection ends.
#[derive(Debug)]
pub struct Reading<D> {
    sockets: Rc<Sockets>,
    read: OwnedReadHalf,
    name: ConnectionRef,
    is_plain: bool,
    dialect: PhantomData<fn() -> D>,
}

impl<D: Dialect> Future for Reading<D> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { sockets, read, name, is_plain, .. } = self.get_mut();
        let name = *name;
        let mut left = TURN_BYTES;
        for _ in 0..READS_IN_A_ROW {
            let hub = &mut *sockets.hub.borrow_mut();
            hub.set_waker(name, cx.waker());
            match hub.poll_flush(name, cx) {
                Poll::Ready(Err(_)) => hub.remove(name, CloseReason::Lost),
                Poll::Ready(Ok(())) if hub.get_mut(name).is_some_and(|seat| seat.is_closing()) => {
                    if !hub.end_write_side(name) {
                        hub.remove(name, CloseReason::Lost);
                    }
                }
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            if hub.get_mut(name).is_none() {
                return Poll::Ready(());
            }
            let buffer = &mut *sockets.buffer.borrow_mut();
            let mut filled = ReadBuf::new(buffer.get_mut(..left).unwrap_or_default());
            match Pin::new(&mut *read).poll_read(cx, &mut filled) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !filled.filled().is_empty() => {
                    left -= filled.filled().len();
                    if *is_plain {
                        receive::<D>(hub, name, filled.filled_mut());
                    } else {
                        receive_sealed::<D>(hub, name, filled.filled_mut(), &mut sockets.plain.borrow_mut());
                    }
                    if left == 0 {
                        break;
                    }
                }
                Poll::Ready(_) => {
                    hub.remove(name, CloseReason::Lost);
                    return Poll::Ready(());
                }
            }
        }
        // A waker alone would bring this task back dozens of times before the runtime looks for what others have sent.
        if pin!(yield_now()).poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

/// Tells a connection that its deadline may have come.
pub fn tick(hub: &mut Hub, name: ConnectionRef, now: Instant) {
    if hub.expire(name, now) {
        return;
    }
    guarded(hub, name, |hub| {
        let mut effects = Vec::new();
        if let Some(connection) = hub.get_mut(name).and_then(|seat| seat.connection.as_mut()) {
            connection.step(now, Input::Tick, &mut effects);
        }
        perform(hub, name, &mut effects);
    });
    hub.refile(name);
}

/// Decrypts what arrived, with `plain` to put it in, and goes on with that.
fn receive_sealed<D: Dialect>(hub: &mut Hub, name: ConnectionRef, bytes: &mut [u8], plain: &mut Vec<u8>) {
    guarded(hub, name, |hub| hub.unseal(name, bytes, plain));
    if !plain.is_empty() {
        receive::<D>(hub, name, plain);
    }
}

/// Decodes what arrived and lets the connection decide on each message.
fn receive<D: Dialect>(hub: &mut Hub, name: ConnectionRef, mut bytes: &mut [u8]) {
    let now = Instant::now();
    guarded(hub, name, |hub| {
        let mut effects = Vec::new();
        while next_message::<D>(hub, name, &mut bytes, now, &mut effects) {
            perform(hub, name, &mut effects);
        }
    });
}

/// Lets the connection decide on the next message in `bytes`; false if there is none.
fn next_message<D: Dialect>(
    hub: &mut Hub,
    name: ConnectionRef,
    bytes: &mut &mut [u8],
    now: Instant,
    effects: &mut Vec<Effect>,
) -> bool {
    let worker = hub.worker;
    let Some(seat) = hub.get_mut(name).filter(|seat| !seat.is_closing()) else { return false };
    let crate::delivery::Seat { connection: Some(connection), decoder, app: Some(app), .. } = seat else {
        return false;
    };
    let awaited_pong = connection.awaits_pong();
    let mut input = std::mem::take(bytes);
    let message = decoder.next(&mut input, connection.app().limits.message_bytes_max);
    if !matches!(message, Ok(None)) {
        app.counters(worker).received_messages.add(1);
    }
    let mut answer = None;
    match message {
        Ok(None) => return false,
        Ok(Some(Message::Text(text))) => D::text(connection, text, now, effects),
        Ok(Some(Message::Binary(bytes))) => D::binary(connection, bytes, now, effects),
        Ok(Some(Message::Ping(payload))) => connection.step(now, Input::Ping(payload), effects),
        Ok(Some(Message::Pong(_))) => connection.step(now, Input::Pong, effects),
        Ok(Some(Message::Close(close))) => answer = Some(close.map(|(code, _)| code)),
        Err(violation) => {
            debug!(socket_id = %connection.socket_id(), %violation, "framing broken");
            effects.push(Effect::Close(violation.close_reason()));
        }
    }
    *bytes = input;
    if awaited_pong {
        // It is filed for the end of the time for its answer, which the next ping may come before.
        hub.refile(name);
    }
    if let Some(code) = answer {
        hub.close(name, CloseReason::ClientLeft, code);
    }
    true
}

/// Carries effects out, in their order.
fn perform(hub: &mut Hub, name: ConnectionRef, effects: &mut Vec<Effect>) {
    for effect in effects.drain(..) {
        match effect {
            Effect::Send(frame) => send(hub, name, &frame),
            Effect::Join { channel, member } => {
                if let Err(failure) = hub.join(name, channel.clone(), member) {
                    let mut answers = Vec::new();
                    if let Some(connection) = hub.get_mut(name).and_then(|seat| seat.connection.as_mut()) {
                        connection.join_failed(&channel, &failure, &mut answers);
                    }
                    perform(hub, name, &mut answers);
                }
            }
            Effect::Rejoin { channel, member } => {
                if let Err(failure) = hub.rejoin(name, channel.clone(), member.as_ref()) {
                    for frame in failure.frames(channel.as_str()) {
                        send(hub, name, &frame);
                    }
                }
            }
            Effect::Leave { channel, member } => hub.leave(name, channel, member.as_deref()),
            Effect::Relay { channel, frame, told } => relay(hub, name, channel, frame, told.as_deref()),
            Effect::Count(refused) => count_refused(hub, name, refused),
            Effect::SignIn(user) => hub.sign_in(name, &user),
            Effect::Close(reason) => hub.close(name, reason, None),
        }
    }
}

fn relay(
    hub: &mut Hub,
    name: ConnectionRef,
    channel: ChannelName,
    frame: Frame,
    told: Option<&RelayedEvent>,
) {
    if hub.is_entering(name, &channel) {
        let refusal = server_frame::refusal(&Refusal::Unauthorized, Some(channel.as_str()));
        return perform(hub, name, &mut vec![Effect::Count(Refused::ClientEvent), Effect::Send(refusal)]);
    }
    let worker = hub.worker;
    let adapter = Arc::clone(&hub.adapter);
    let told = told.map(|told| Arc::new(hub.delivery.webhooks.encode(&told.event(), &channel)));
    let Some(seat) = hub.get_mut(name) else { return };
    let (Some(connection), Some(app)) = (&seat.connection, &seat.app) else { return };
    let key = ChannelKey { app: app.index, name: channel };
    let broadcast = Broadcast { key, frame, exclude: Some(connection.socket_id()), keep: None, told };
    let accepted = adapter.relay(&broadcast);
    let result = if accepted.is_ok() { ClientEventResult::Accepted } else { ClientEventResult::Unavailable };
    app.counters(worker).client_events(result).add(1);
    if accepted.is_err() {
        let mut answers = Vec::new();
        connection.relay_failed(&broadcast.key.name, &mut answers);
        perform(hub, name, &mut answers);
    }
}

fn count_refused(hub: &mut Hub, name: ConnectionRef, refused: Refused) {
    let worker = hub.worker;
    if let Some(app) = hub.get_mut(name).and_then(|seat| seat.app.as_ref()) {
        app.counters(worker).refused_messages(refused).add(1);
    }
}

fn send(hub: &mut Hub, name: ConnectionRef, frame: &Frame) {
    hub.log_frame(name, frame);
    hub.send(name, frame);
}

/// A panic while serving one connection ends that connection and nothing else.
fn guarded(hub: &mut Hub, name: ConnectionRef, serve: impl FnOnce(&mut Hub)) {
    if catch_unwind(AssertUnwindSafe(|| serve(hub))).is_err() {
        error!("serving a connection panicked; it is closed");
        hub.close(name, CloseReason::ServerFault, None);
    }
}

/// One line for a frame that came in, for `--debug`.
fn log_received(connection: &Connection, text: &str) {
    if tracing::enabled!(target: "soundpost::frames", tracing::Level::DEBUG) {
        debug!(target: "soundpost::frames", socket_id = %connection.socket_id(), "<- {}", redact::signatures(text));
    }
}
