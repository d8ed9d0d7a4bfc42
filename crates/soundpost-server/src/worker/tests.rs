//! What a worker survives. What clients see otherwise is tested from outside.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream as Client},
    sync::atomic::Ordering::Relaxed,
};

use soundpost_protocol::{
    app::{App, AppId, AppKey, AppSecret, ClientEvents},
    channel::ChannelName,
    cluster::channel::ENTER_TIMEOUT,
    presence::NodeId,
    socket_id::SocketId,
    webhook::{
        Carrier, HttpTarget, Webhook,
        target::{ExtraHeaders, Target, TargetUrl},
    },
    websocket::{Decoder, Message, Opcode, Role, client_frame},
};

use super::*;
use crate::{
    adapter::{Cluster, Hearing},
    apps::{Apps, ChannelKey, Quota},
    delivery::{Delivery, Queued, Reach},
    drain,
    faults::FAULT,
    webhook::What,
};

/// Whatever a test waits for must have happened by then, however busy the machine is with other things.
const DEADLINE: Duration = Duration::from_secs(60);

struct Stage {
    node: Arc<Node>,
    worker: Worker,
    runtime: tokio::runtime::Runtime,
}

impl Stage {
    fn new() -> Self {
        Self::reaching(Reach::Local(NodeId(1)), ClientEvents::All)
    }

    fn reaching(reach: Reach, client_events: ClientEvents) -> Self {
        let mut app =
            App::new(AppId::parse("app").unwrap(), AppKey::parse("key").unwrap(), AppSecret::new("secret"));
        app.client_events = client_events;
        app.client_events_on_public = true;
        app.webhooks = vec![hook()];
        let delivery = Arc::new(Delivery::new(1, reach));
        let queued = Queued::new(1, 1 << 20, 1 << 30);
        let node = Arc::new(Node::new(Apps::new(vec![app], 1), delivery, queued, Quota::new(None)));
        let worker = Worker::start(WorkerId(0), Arc::clone(&node)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { node, worker, runtime }
    }

    /// What was noted for webhooks until all clients are gone.
    fn noted(&self) -> Vec<String> {
        let last = Instant::now() + DEADLINE;
        while self.node.delivery.seats.load(Relaxed) > 0 {
            assert!(Instant::now() < last, "a client is still there");
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut happenings = VecDeque::new();
        self.node.delivery.webhooks.take(&mut happenings);
        let words = |what: &What| match what {
            What::Came(subject) => format!("+ {}", subject.channel()),
            What::Left(subject) => format!("- {}", subject.channel()),
            What::Event(event) => String::from_utf8(event.json.to_vec()).unwrap(),
            What::Told => "told".to_owned(),
        };
        happenings.iter().map(|happening| words(&happening.what)).collect()
    }

    fn connect(&self) -> Guest {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = Client::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let (accepted, address) = listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        let peer = Peer::accepted(&self.node, Some(address.ip()));
        self.runtime.block_on(self.worker.hand_over(accepted, peer, None));
        stream
            .write_all(
                b"GET /app/key HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                  sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            )
            .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let socket_id = SocketId { left: 0, right: 0 };
        let mut guest = Guest { stream, decoder: Decoder::new(Role::Client), bytes: Vec::new(), socket_id };
        let established = guest.hear();
        assert!(established.contains("connection_established"));
        let socket_id = established.split('"').find_map(|text| SocketId::parse(text.trim_end_matches('\\')));
        Guest { socket_id: socket_id.unwrap(), ..guest }
    }
}

/// Wants to be told everything.
fn hook() -> Arc<Webhook> {
    let url = TargetUrl::parse("http://app.test/").unwrap();
    let http = HttpTarget { url, headers: ExtraHeaders::default(), ca: None, refuses_private: false };
    Arc::new(Webhook::new(Target::default(), Carrier::Http(http)))
}

struct Guest {
    stream: Client,
    decoder: Decoder,
    bytes: Vec<u8>,
    socket_id: SocketId,
}

impl Guest {
    fn say(&mut self, text: &str) {
        self.stream.write_all(&client_frame(Opcode::Text, text.as_bytes(), [1, 2, 3, 4])).unwrap();
    }

    fn subscribe(&mut self, channel: &str) {
        self.say(&format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}"}}}}"#));
        assert!(self.hear().contains("subscription_succeeded"));
    }

    /// The next message, as text; `close CODE` for the last.
    fn hear(&mut self) -> String {
        loop {
            let mut rest = &mut self.bytes[..];
            let before = rest.len();
            let heard = match self.decoder.next(&mut rest, 1 << 20).unwrap() {
                Some(Message::Text(text)) => Some(text.to_owned()),
                Some(Message::Close(close)) => Some(format!("close {}", close.map_or(0, |(code, _)| code))),
                other => other.map(|other| format!("{other:?}")),
            };
            let used = before - rest.len();
            self.bytes.drain(..used);
            if let Some(heard) = heard {
                return heard;
            }
            let mut more = [0; 4096];
            let count = self.stream.read(&mut more).unwrap();
            assert!(count > 0, "the connection ended");
            self.bytes.extend_from_slice(&more[..count]);
        }
    }
}

#[test]
fn a_panic_ends_the_connection_it_happened_in_and_frees_its_places() {
    let stage = Stage::new();
    let mut neighbour = stage.connect();
    neighbour.subscribe("news");
    let mut unlucky = stage.connect();
    unlucky.subscribe("news");
    unlucky.say(FAULT);
    assert_eq!(unlucky.hear(), "close 1011");
    neighbour.say(r#"{"event":"pusher:ping"}"#);
    assert!(neighbour.hear().contains("pusher:pong"));
    let app = stage.node.apps.table().all()[0].clone();
    assert_eq!(app.quota.open(), 1);
    let key = ChannelKey { app: app.index, name: ChannelName::parse("news", &app.app.limits).unwrap() };
    assert_eq!(stage.node.delivery.directory.counts(&key).unwrap().subscriptions, 1);
}

#[test]
fn a_panic_in_an_item_of_the_inbox_costs_that_item_alone() {
    let stage = Stage::new();
    let (mut sender, mut receiver) = (stage.connect(), stage.connect());
    receiver.subscribe("news");
    // The fault stands in the name of the event that is delivered, so it strikes on the way out; what asks for it is
    // escaped on the way in.
    let escaped = FAULT.replace('a', "\\u0061");
    for event in [format!("client-{escaped}"), "client-after".to_owned()] {
        sender.say(&format!(r#"{{"event":"{event}","channel":"news","data":1}}"#));
    }
    assert_eq!(receiver.hear(), r#"{"event":"client-after","channel":"news","data":1}"#);
}

#[test]
fn who_waits_for_the_cluster_is_no_subscriber_and_hears_when_it_is_not_let_in() {
    let cluster = Arc::new(Cluster::new(NodeId(1)));
    cluster.enter();
    let stage = Stage::reaching(Reach::Cluster(cluster), ClientEvents::Members);
    let delivery = &stage.node.delivery;
    let mut guest = stage.connect();
    for _ in 0..2 {
        guest.say(r#"{"event":"pusher:subscribe","data":{"channel":"news"}}"#);
    }
    guest.say(r#"{"event":"client-hello","channel":"news","data":1}"#);
    assert!(guest.hear().contains("4009"), "nothing is answered before the cluster is");
    std::thread::sleep(ENTER_TIMEOUT);
    delivery.tick();
    for _ in 0..2 {
        assert!(guest.hear().contains("subscription_error"));
        assert!(guest.hear().contains("4100"));
    }
    guest.say(r#"{"event":"pusher:subscribe","data":{"channel":"news"}}"#);
    delivery.lost();
    let app = stage.node.apps.table().all()[0].clone();
    let name = ChannelName::parse("news", &app.app.limits).unwrap();
    let key = ChannelKey { app: app.index, name };
    while delivery.directory.counts(&key).is_none() {
        delivery.lost();
    }
    assert!(guest.hear().contains("subscription_succeeded"), "while the store is away everybody is let in");
    delivery.relay_failed(guest.socket_id, &key);
    assert!(guest.hear().contains("4301"));
}

#[test]
fn what_webhooks_tell_is_noted_once_it_has_happened() {
    let stage = Stage::new();
    let mut guest = stage.connect();
    let socket_id = guest.socket_id;
    for _ in 0..2 {
        guest.subscribe("news");
    }
    for (event, channel) in [("client-é", "news"), ("not-mine", "news"), ("client-x", "no channel")] {
        guest.say(&format!(r#"{{"event":"{event}","channel":"{channel}","data":[1, 2]}}"#));
    }
    assert!(guest.hear().contains("pusher:error"), "no such channel");
    guest.say(r#"{"event":"pusher:unsubscribe","data":{"channel":"news"}}"#);
    guest.subscribe("news");
    drop(guest);
    let event = format!(
        r#"{{"name":"client_event","channel":"news","event":"client-é","data":"[1, 2]","socket_id":"{socket_id}"}}"#
    );
    assert_eq!(stage.noted(), ["+ news", &event, "- news", "+ news", "- news"]);
}

#[test]
fn in_a_cluster_client_events_are_noted_and_who_comes_and_goes_is_not() {
    let stage = Stage::reaching(Reach::Cluster(Arc::new(Cluster::new(NodeId(1)))), ClientEvents::All);
    let mut guest = stage.connect();
    guest.subscribe("news");
    guest.say(r#"{"event":"client-x","channel":"news"}"#);
    drop(guest);
    let noted = stage.noted();
    assert!(matches!(&noted[..], [event] if event.contains("client-x")), "{noted:?}");
}

#[test]
fn that_a_worker_died_is_heard_without_looking() {
    let stage = Stage::new();
    let (orders, inbound) = mpsc::channel(1);
    let workers = [stage.worker, Worker { orders, load: Arc::default() }];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut died = std::pin::pin!(drain::worker_died(&workers));
        let while_both_live = tokio::time::timeout(Duration::from_millis(20), died.as_mut()).await;
        assert!(while_both_live.is_err());
        let dying = std::thread::spawn(move || {
            let _orders = inbound;
            panic!("as by a defect");
        });
        tokio::time::timeout(DEADLINE, died).await.unwrap();
        assert!(dying.join().is_err());
    });
}
