//! Sends every message back, for the Autobahn test suite: `cargo xtask autobahn` runs it.
//!
//! Not part of the product. Decoder, reading task, queue, control frames and closing are the server's own; only what a
//! message means differs. Takes connections on a free port of 127.0.0.1, prints the address, and serves until it is
//! ended.

#![expect(clippy::print_stdout, reason = "whoever starts it reads the address from its standard output")]

use std::{
    convert::Infallible,
    error::Error,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use soundpost_protocol::{
    app::{App, AppId, AppKey, AppSecret},
    connection::{Connection, Effect, Input},
    presence::NodeId,
    websocket::Frame,
};
use soundpost_server::{
    apps::{Apps, Quota, RunningApp, WorkerId},
    delivery::{Delivery, Hub, Queued, Reach},
    node::Node,
    socket::{self, Admitted, Dialect, Opened, Sockets},
    tls::Transport,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{LocalSet, spawn_local},
};

/// The largest message of the suite, in its cases 9.1.6 and 9.2.6, bytes.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Answers that may wait while the suite is still busy sending, bytes.
const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Says what it heard.
enum Echo {}

impl Dialect for Echo {
    const GREETS: bool = false;

    fn text(connection: &mut Connection, text: &str, now: Instant, effects: &mut Vec<Effect>) {
        // Like a pong, which asks for nothing and shows that the client lives.
        connection.step(now, Input::Pong, effects);
        effects.push(Effect::Send(Frame::text(text.len(), |out| out.extend_from_slice(text.as_bytes()))));
    }

    fn binary(connection: &mut Connection, bytes: &[u8], now: Instant, effects: &mut Vec<Effect>) {
        connection.step(now, Input::Pong, effects);
        effects.push(Effect::Send(Frame::binary(bytes)));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(serve()))
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let mut app = App::new(AppId::parse("echo")?, AppKey::parse("echo")?, AppSecret::new("echo"));
    app.limits.message_bytes_max = MESSAGE_BYTES_MAX;
    let delivery = Arc::new(Delivery::new(1, Reach::Local(NodeId(1))));
    let queued = Queued::new(1, QUEUE_BYTES_MAX, usize::MAX);
    let node = Node::new(Apps::new(vec![app], 1), delivery, queued, Quota::new(None));
    let Some(app) = node.apps.by_id("echo") else { return Err("one app went in".into()) };
    let hub = Hub::new(
        WorkerId(0),
        Arc::clone(&node.delivery),
        Arc::clone(&node.adapter),
        Arc::clone(&node.queued),
    );
    let sockets = Sockets::new(hub);
    spawn_local(keep_time(Rc::clone(&sockets)));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        spawn_local(greet(stream, Rc::clone(&sockets), Arc::clone(&app)));
    }
}

/// The worker's own timekeeper, for one worker without anything else to do.
async fn keep_time(sockets: Rc<Sockets>) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        let now = Instant::now();
        let hub = &mut *sockets.hub.borrow_mut();
        for name in hub.due(now) {
            socket::tick(hub, name, now);
        }
    }
}

/// Answers the handshake and lets the socket open.
async fn greet(stream: TcpStream, sockets: Rc<Sockets>, app: Arc<RunningApp>) {
    let service = service_fn(|mut request: Request<Incoming>| {
        let (sockets, app) = (Rc::clone(&sockets), Arc::clone(&app));
        async move {
            let Ok((response, upgraded)) = fastwebsockets::upgrade::upgrade(&mut request) else {
                let mut response = Response::new(Full::<Bytes>::default());
                *response.status_mut() = StatusCode::BAD_REQUEST;
                return Ok::<_, Infallible>(response);
            };
            spawn_local(async move {
                let Ok(websocket) = upgraded.await else { return };
                let Ok(parts) = websocket.into_inner().into_inner().downcast::<TokioIo<TcpStream>>() else {
                    return;
                };
                let (Some(of_app), Some(of_node)) = (app.quota.admit(), app.quota.admit()) else { return };
                let opened = Opened {
                    transport: Transport::Plain(parts.io.into_inner()),
                    early: parts.read_buf.to_vec(),
                    admitted: Ok(Admitted { app, quota: [of_app, of_node] }),
                };
                if let Some(reading) = socket::open::<Echo>(&sockets, opened) {
                    reading.await;
                }
            });
            Ok(response.map(|_| Full::default()))
        }
    });
    // An error is that of a client that left before the handshake was over.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await);
}
