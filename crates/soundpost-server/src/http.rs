//! One accepted connection while it speaks HTTP: deadlines, and the way to the WebSocket door or the API.
//!
//! hyper's own timeout would end idle keep-alive connections, so the deadlines are kept here: one from the first byte
//! of a request's head, a longer one between requests.

use std::{
    cell::Cell,
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Version,
    body::Incoming,
    header::{CONNECTION, HeaderValue, ORIGIN, RETRY_AFTER, UPGRADE},
    rt::{Read, ReadBufCursor, Write},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use soundpost_protocol::{api::Query, close::CloseReason, connection::Opening};
use tokio::{
    io::{AsyncRead, ReadBuf},
    task::yield_now,
};
use tracing::debug;

use crate::{
    api,
    apps::{RunningApp, WorkerId},
    doorstep::{Held, Peer},
    node::Node,
    proxy::forwarded::Forwarded,
    socket::{self, Admitted, Opened, Pusher, Sockets},
    tls::{self, Transport},
};

/// A request's head must be complete so long after its first byte.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection may wait so long for its next request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// The longest head of a request, bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Requests of one connection before others get their turn, however many it sends without waiting for answers.
const REQUESTS_IN_A_ROW: u32 = 16;

/// What the HTTP connections of one worker share.
#[derive(Debug)]
pub struct Door {
    /// The node.
    pub node: Arc<Node>,
    /// The worker's connections.
    pub sockets: Rc<Sockets>,
    /// Which worker.
    pub worker: WorkerId,
}

/// What a connection is doing, for its deadline.
#[derive(Debug)]
struct Activity {
    began_at: Instant,
    /// One of the constants below.
    phase: AtomicU8,
    /// Milliseconds after `began_at` at which the phase began.
    since: AtomicU32,
}

const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;
/// Not HTTP at all; the connection is over.
const SPEAKS_TLS: u8 = 3;

impl Activity {
    fn new() -> Arc<Self> {
        Arc::new(Self { began_at: Instant::now(), phase: AtomicU8::new(IDLE), since: AtomicU32::new(0) })
    }

    fn enter(&self, phase: u8) {
        let now = u32::try_from(self.began_at.elapsed().as_millis()).unwrap_or(u32::MAX);
        self.since.store(now, Relaxed);
        self.phase.store(phase, Relaxed);
    }

    /// Bytes came in: the first of a head, if none was under way.
    fn heard(&self) {
        if self.phase.load(Relaxed) == IDLE {
            self.enter(HEAD);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let since = self.began_at + Duration::from_millis(u64::from(self.since.load(Relaxed)));
        match self.phase.load(Relaxed) {
            IDLE => Some(since + IDLE_TIMEOUT),
            HEAD => Some(since + HEAD_TIMEOUT),
            _ => None,
        }
    }
}

/// A socket that notes when something is read from it.
struct Watched {
    io: TokioIo<Transport>,
    activity: Arc<Activity>,
    /// Nothing has been read, so the first byte may show that the client speaks TLS to a plain port.
    is_fresh: bool,
}

/// What is read at first is looked at in a buffer of its own: most requests have less. hyper's own buffer cannot be
/// looked into.
const FIRST_READ_BYTES: usize = 2048;

impl Watched {
    /// The first read of a plain connection. Errors: those of the socket; it speaks TLS, and has been told.
    fn poll_first(&mut self, cx: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; FIRST_READ_BYTES];
        let length = bytes.len().min(into.remaining());
        let mut first = ReadBuf::new(bytes.get_mut(..length).unwrap_or_default());
        ready!(Pin::new(self.io.inner_mut()).poll_read(cx, &mut first))?;
        self.is_fresh = false;
        self.activity.heard();
        if let (Some(&tls::TLS_HANDSHAKE), Transport::Plain(stream)) =
            (first.filled().first(), self.io.inner())
        {
            tls::answer_tls(stream);
            self.activity.enter(SPEAKS_TLS);
            return Poll::Ready(Err(io::Error::other("the client speaks TLS to a plain port")));
        }
        into.put_slice(first.filled());
        Poll::Ready(Ok(()))
    }
}

impl Read for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_fresh {
            return self.poll_first(cx, into);
        }
        let read = Pin::new(&mut self.io).poll_read(cx, into);
        if read.is_ready() {
            self.activity.heard();
        }
        read
    }
}

impl Write for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }
}

/// Serves one accepted connection of `peer` until it closes, times out or becomes a WebSocket. `held` is dropped at the
/// end of the connection, whatever it became.
pub async fn serve(door: Rc<Door>, transport: Transport, peer: Peer, held: Rc<Held>) {
    let activity = Activity::new();
    let is_fresh = matches!(transport, Transport::Plain(_)) && !peer.owes_tls;
    let watched = Watched { io: TokioIo::new(transport), activity: Arc::clone(&activity), is_fresh };
    let requests = Cell::new(0_u32);
    let service = service_fn(|request| {
        activity.enter(BUSY);
        requests.set(requests.get().wrapping_add(1));
        let is_turn_over = requests.get().is_multiple_of(REQUESTS_IN_A_ROW);
        let (door, held, activity) = (Rc::clone(&door), Rc::clone(&held), Arc::clone(&activity));
        async move {
            if is_turn_over {
                yield_now().await;
            }
            let response = respond(&door, request, peer, held).await;
            activity.enter(IDLE);
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX).header_read_timeout(None);
    let mut connection = pin!(builder.serve_connection(watched, service).with_upgrades());
    let mut alarm = pin!(tokio::time::sleep(HEAD_TIMEOUT));
    poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            if let Err(error) = ended {
                debug!(%error, "HTTP connection broke off");
            }
            if activity.phase.load(Relaxed) == SPEAKS_TLS {
                door.node.mistakes.tls_on_plain();
            }
            return Poll::Ready(());
        }
        while alarm.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let deadline = activity.deadline();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Poll::Ready(());
            }
            // The phase may change to one with a sooner deadline, so look again after the shortest there is.
            let next = deadline.map_or(now + HEAD_TIMEOUT, |deadline| deadline.min(now + HEAD_TIMEOUT));
            alarm.as_mut().reset(next.into());
        }
        Poll::Pending
    })
    .await;
}

async fn respond(
    door: &Rc<Door>,
    request: Request<Incoming>,
    peer: Peer,
    held: Rc<Held>,
) -> Response<Full<Bytes>> {
    if is_upgrade(&request) {
        return upgrade(door, request, peer, held);
    }
    if peer.owes_tls {
        return misdirected();
    }
    let draining = door.node.is_draining();
    let mut response = api::respond(&door.node, door.worker, request).await;
    if draining {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// For plain HTTP on a port with TLS.
fn misdirected() -> Response<Full<Bytes>> {
    let text = "this port speaks TLS: use https:// or wss://";
    let mut response = api::refusal(StatusCode::BAD_REQUEST, text);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Whether a request wants to become a WebSocket, whatever else is wrong with it.
fn is_upgrade(request: &Request<Incoming>) -> bool {
    let upgrade = request.headers().get(UPGRADE).and_then(|value| value.to_str().ok());
    request.method() == Method::GET && upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

/// Completes the handshake whatever the request asks for: only behind it can a browser be told why it is refused.
fn upgrade(
    door: &Rc<Door>,
    mut request: Request<Incoming>,
    peer: Peer,
    held: Rc<Held>,
) -> Response<Full<Bytes>> {
    if request.version() < Version::HTTP_11 {
        let text = "a WebSocket needs HTTP/1.1; in nginx that is proxy_http_version 1.1";
        return api::refusal(StatusCode::BAD_REQUEST, text);
    }
    let client = client_of(&door.node, peer, request.headers());
    let (response, upgraded) = match fastwebsockets::upgrade::upgrade(&mut request) {
        Ok(accepted) => accepted,
        Err(error) => {
            debug!(address = client.address.map(tracing::field::display), %error, "WebSocket handshake refused");
            return api::refusal(
                StatusCode::BAD_REQUEST,
                "the WebSocket handshake is not valid: version 13 and a key are needed",
            );
        }
    };
    // Only now: whose handshake fails leaves a proxy's connection to the clients who come after.
    if held.admit(&door.node, client.address).is_err() {
        return too_many();
    }
    let admitted = admit(&door.node, door.worker, client, &request);
    let door = Rc::clone(door);
    tokio::task::spawn_local(async move {
        let Ok(websocket) = upgraded.await else { return };
        let Ok(parts) = websocket.into_inner().into_inner().downcast::<Watched>() else { return };
        // A drain that has begun meanwhile has not seen this client, so it must not be let in any more; nor has a
        // reload, which may have changed its app.
        let admitted = match admitted {
            Ok(_) if door.node.is_draining() => Err(CloseReason::OverCapacity),
            Ok(Admitted { app, quota }) => door.node.apps.successor(&app).map(|app| Admitted { app, quota }),
            refused @ Err(_) => refused,
        };
        let opened = Opened { transport: parts.io.io.into_inner(), early: parts.read_buf.to_vec(), admitted };
        if let Some(reading) = socket::open::<Pusher>(&door.sockets, opened) {
            // A task of its own, so that the room this one needed for the handshake is free again.
            tokio::task::spawn_local(async move {
                reading.await;
                drop(held);
            });
        }
    });
    response.map(|_| Full::default())
}

/// Whoever sent a request, as the proxies in front of us have it if we believe them.
fn client_of(node: &Node, peer: Peer, headers: &HeaderMap) -> Peer {
    if !peer.is_trusted {
        return peer;
    }
    // What is no text is no address either.
    let values = |name| headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default());
    let (addresses, protocols) = (values("x-forwarded-for"), values("x-forwarded-proto"));
    let forwarded = Forwarded::read(&node.proxies.load().trusted, addresses, protocols);
    Peer {
        address: forwarded.address.or(peer.address),
        is_tls: forwarded.is_tls.unwrap_or(peer.is_tls),
        is_trusted: false,
        ..peer
    }
}

/// The address of the client has as many connections as it may have, or opens them too fast.
fn too_many() -> Response<Full<Bytes>> {
    let mut response = api::refusal(StatusCode::TOO_MANY_REQUESTS, "too many connections from this address");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// The checks on connect, in their order; a refusal is counted for the app, or for none if the key names none.
fn admit(
    node: &Node,
    worker: WorkerId,
    client: Peer,
    request: &Request<Incoming>,
) -> Result<Admitted, CloseReason> {
    let path = request.uri().path();
    let key = path.strip_prefix(node.path_prefix.as_str()).and_then(|path| path.strip_prefix("/app/"));
    let key = key.filter(|key| !key.is_empty() && !key.contains('/'));
    let app = key.and_then(|key| node.apps.by_key(key));
    let admitted = match key {
        None => Err(CloseReason::UnknownPath),
        // pusher-js comes back with TLS on its own when it is told so.
        Some(_) if client.owes_tls => Err(CloseReason::TlsOnly),
        Some(_) => check(node, app.as_ref(), client, request),
    };
    admitted.inspect_err(|reason| {
        debug!(
            address = client.address.map(tracing::field::display),
            path,
            reason = reason.word(),
            "connection refused"
        );
        let counters = app.as_ref().map_or_else(|| node.apps.nobody(worker), |app| app.counters(worker));
        counters.refused(*reason).add(1);
    })
}

fn check(
    node: &Node,
    app: Option<&Arc<RunningApp>>,
    client: Peer,
    request: &Request<Incoming>,
) -> Result<Admitted, CloseReason> {
    let query = Query::parse(request.uri().query().unwrap_or_default()).ok();
    let opening = Opening {
        app: app.map(|app| &*app.app),
        draining: node.is_draining(),
        is_tls: client.is_tls,
        protocol: query.as_ref().and_then(|query| query.value("protocol")),
        origin: request.headers().get(ORIGIN).map(|origin| origin.to_str().unwrap_or_default()),
    };
    opening.check()?;
    let app = app.ok_or(CloseReason::UnknownApp)?;
    let of_app = app.quota.admit().ok_or(CloseReason::AppOverQuota)?;
    let of_node = node.quota.admit().ok_or(CloseReason::OverCapacity)?;
    Ok(Admitted { app: Arc::clone(app), quota: [of_app, of_node] })
}
