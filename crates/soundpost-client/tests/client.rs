//! The client against a scripted server on the loopback: what it sends, and what it makes of the answers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use fastwebsockets::{FragmentCollector, Frame, OpCode, upgrade};
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use soundpost_client::{Client, ClientError, Connection, Options, Publisher};
use soundpost_protocol::{
    app::{App, AppId, AppKey, AppSecret, Limits},
    channel::ChannelName,
};
use tokio::{net::TcpListener, task::JoinSet};

type Socket = FragmentCollector<TokioIo<Upgraded>>;

const GREETING: &str = r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"123456789.987654321\",\"activity_timeout\":30}"}"#;

fn app() -> Arc<App> {
    let (id, key) = (AppId::parse("soundpost-app").unwrap(), AppKey::parse("soundpost-key").unwrap());
    Arc::new(App::new(id, key, AppSecret::new("soundpost-secret")))
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name, &Limits::default()).unwrap()
}

/// With time enough for a busy machine.
fn options() -> Options {
    Options { deadline: Duration::from_secs(60), ..Options::default() }
}

/// A server that plays `script` on its one WebSocket; its address, and its tasks, which end when dropped.
async fn scripted<S, F>(script: S) -> (String, JoinSet<()>)
where
    S: FnOnce(Socket) -> F + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (upgraded, mut upgrades) = tokio::sync::mpsc::channel(1);
        let service = service_fn(|mut request: Request<Incoming>| {
            let upgraded = upgraded.clone();
            async move {
                assert!(request.uri().path().starts_with("/app/"), "{}", request.uri());
                let (response, upgrade) = upgrade::upgrade(&mut request).unwrap();
                upgraded.send(upgrade).await.unwrap();
                Ok::<_, Infallible>(response)
            }
        });
        http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await.unwrap();
        let socket = upgrades.recv().await.unwrap().await.unwrap();
        script(FragmentCollector::new(socket)).await;
    });
    (url, tasks)
}

async fn say(socket: &mut Socket, text: &str) {
    socket.write_frame(Frame::text(text.as_bytes().to_vec().into())).await.unwrap();
}

async fn hear(socket: &mut Socket) -> Value {
    let frame = socket.read_frame().await.unwrap();
    assert_eq!(frame.opcode, OpCode::Text);
    serde_json::from_slice(&frame.payload).unwrap()
}

#[tokio::test]
async fn subscriptions_are_signed_and_answered() {
    let (url, _server) = scripted(|mut socket| async move {
        say(&mut socket, GREETING).await;
        let auth = "soundpost-key:9ac02caecbee230c6ac3535b5659be6be67a5681b765cb4097de0bb639e19d75";
        let data = json!({ "auth": auth, "channel": "private-orders.1" });
        assert_eq!(hear(&mut socket).await, json!({ "event": "pusher:subscribe", "data": data }));
        let subscribed = r#"{"event":"pusher_internal:subscription_succeeded","channel":"private-orders.1","data":"{}"}"#;
        say(&mut socket, subscribed).await;
        assert_eq!(hear(&mut socket).await["data"]["channel_data"], r#"{"user_id":"42"}"#);
        let refused = r#"{"event":"pusher:subscription_error","channel":"presence-room","data":{"type":"AuthError","error":"no","status":401}}"#;
        say(&mut socket, refused).await;
        assert_eq!(socket.read_frame().await.unwrap().opcode, OpCode::Close);
    })
    .await;
    let mut client = Client::connect(&url, app(), options()).await.unwrap();
    assert_eq!(client.socket_id().to_string(), "123456789.987654321");
    assert_eq!(client.activity_timeout(), Duration::from_secs(30));
    client.subscribe(&channel("private-orders.1")).await.unwrap();
    let refused = client.subscribe_presence(&channel("presence-room"), &json!({ "user_id": "42" })).await;
    assert_eq!(refused.unwrap_err().code(), Some(401));
    assert_eq!(client.close().await.unwrap(), 1000);
}

#[tokio::test]
async fn a_refused_connection_gives_back_the_code() {
    let error = r#"{"event":"pusher:error","data":{"code":4001,"message":"Application does not exist"}}"#;
    let (url, _server) = scripted(move |mut socket| async move { say(&mut socket, error).await }).await;
    let refused = Client::connect(&url, app(), options()).await.unwrap_err();
    assert_eq!(refused.code(), Some(4001));

    let (url, _server) = scripted(|mut socket| async move {
        socket.write_frame(Frame::close(4100, b"Over capacity")).await.unwrap();
    })
    .await;
    let closed = Client::connect(&url, app(), options()).await.unwrap_err();
    assert!(matches!(closed, ClientError::Closed { code: 4100, ref reason } if reason == "Over capacity"));
}

#[tokio::test]
async fn pings_are_answered_while_nobody_listens() {
    let (url, mut server) = scripted(|mut socket| async move {
        say(&mut socket, GREETING).await;
        say(&mut socket, r#"{"event":"pusher:ping","data":"{}"}"#).await;
        assert_eq!(hear(&mut socket).await, json!({ "event": "pusher:pong", "data": {} }));
        socket.write_frame(Frame::new(true, OpCode::Ping, None, b"hi".to_vec().into())).await.unwrap();
        let pong = socket.read_frame().await.unwrap();
        assert_eq!((pong.opcode, &*pong.payload), (OpCode::Pong, &b"hi"[..]));
    })
    .await;
    let client = Client::connect(&url, app(), options()).await.unwrap();
    server.join_next().await.unwrap().unwrap();
    drop(client);
}

#[tokio::test]
async fn messages_are_bounded_and_fragments_put_together() {
    let (url, _server) = scripted(|mut socket| async move {
        let parts = [(false, OpCode::Text, r#"{"event":"#), (true, OpCode::Continuation, r#""e"}"#)];
        for (fin, opcode, part) in parts {
            let frame = Frame::new(fin, opcode, None, part.as_bytes().to_vec().into());
            socket.write_frame(frame).await.unwrap();
        }
        for (fin, opcode) in [(false, OpCode::Text), (true, OpCode::Continuation)] {
            let frame = Frame::new(fin, opcode, None, vec![b'x'; 60].into());
            socket.write_frame(frame).await.unwrap();
        }
        assert!(socket.read_frame().await.is_err());
    })
    .await;
    let options = Options { message_bytes_max: 100, ..options() };
    let mut connection = Connection::open(&format!("{url}/app/key"), options).await.unwrap();
    assert_eq!(connection.next_event().await.unwrap().name, "e");
    assert!(matches!(connection.next_event().await, Err(ClientError::TooBig { bytes_max: 100 })));
    assert!(matches!(connection.next_event().await, Err(ClientError::Ended)));
}

#[tokio::test]
async fn a_deadline_that_passes_loses_nothing() {
    let (go, went) = tokio::sync::oneshot::channel::<()>();
    let (url, _server) = scripted(|mut socket| async move {
        went.await.unwrap();
        say(&mut socket, r#"{"event":"other"}"#).await;
        say(&mut socket, r#"{"event":"e"}"#).await;
        assert!(socket.read_frame().await.is_err());
    })
    .await;
    let mut connection = Connection::open(&format!("{url}/app/key"), options()).await.unwrap();
    let early = connection.next_event_within(Duration::from_millis(1)).await;
    assert!(matches!(early, Err(ClientError::Deadline { .. })));
    go.send(()).unwrap();
    assert_eq!(connection.next_named("e").await.unwrap().name, "e");
}

#[tokio::test]
async fn a_publisher_keeps_its_connection_and_reports_a_refusal() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        // One accept only: a second connection would wait for ever.
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(|request: Request<Incoming>| async move {
            let status = if request.uri().path() == "/apps/soundpost-app/events" { 200 } else { 404 };
            let body = if status == 200 { "{}" } else { "no such path" };
            let response = Response::builder().status(status).body(Full::new(Bytes::from(body)));
            Ok::<_, Infallible>(response.unwrap())
        });
        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.unwrap();
    });
    let mut publisher = Publisher::new(&url, app(), options()).unwrap();
    for _ in 0..3 {
        let reply = publisher.trigger(&[channel("orders")], "paid", "{}", None).await.unwrap();
        assert_eq!(reply, json!({}));
        let refused = publisher.get("/nothing", &[]).await.unwrap_err();
        assert!(matches!(refused, ClientError::Status { status: 404, ref body } if body == "no such path"));
    }
}
