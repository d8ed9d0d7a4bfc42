//! A Unix socket is one more door: what comes in by it is served as by TCP.

use std::{
    net::TcpStream,
    num::NonZeroU32,
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use serde_json::json;
use soundpost_server::config::{Settings, UnixSocket};

use crate::support::{Api, Client, Http, Seen, TestServer, app, eventually, handshake};

/// A server with a Unix socket beside its port; the file goes with it.
struct Both {
    server: TestServer,
    path: PathBuf,
}

impl Both {
    fn start(change: impl FnOnce(&mut Settings)) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("soundpost-{}-{}.sock", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        let server = TestServer::start_with(vec![app("one")], |settings| {
            settings.server.unix = Some(UnixSocket { path: path.clone(), mode: 0o600 });
            change(settings);
        });
        Self { server, path }
    }

    fn stream(&self) -> TcpStream {
        connect(&self.path)
    }

    fn open(&self, headers: &str) -> Client {
        Client::open_on(self.stream(), &self.server.apps[0], "/app/key-one", headers, &[])
    }

    fn client(&self) -> Client {
        let mut client = self.open("");
        client.greeted();
        client
    }
}

/// The tests' clients hold sockets of TCP; one of another kind reads and writes alike.
fn connect(path: &Path) -> TcpStream {
    OwnedFd::from(UnixStream::connect(path).unwrap()).into()
}

#[test]
fn clients_and_publishers_meet_whichever_way_they_come() {
    let both = Both::start(|_| {});
    assert_eq!(std::fs::metadata(&both.path).unwrap().permissions().mode() & 0o777, 0o600);
    let (mut by_unix, mut by_tcp) = (both.client(), both.server.connect());
    by_unix.subscribe("orders");
    by_tcp.subscribe("orders");
    let mut api = Api::new(Http::on(both.stream()), both.server.apps[0].clone());
    let large = "x".repeat(100_000);
    for (name, data) in [("small", "{}"), ("large", &large)] {
        api.trigger("orders", name, data);
        both.server.api().trigger("orders", name, data);
        for client in [&mut by_unix, &mut by_tcp] {
            (0..2).for_each(|_| client.expect(&json!({"event": name, "channel": "orders", "data": data})));
        }
    }
    assert_eq!(api.ask("/connections", &[]), json!({"connections": 2}));
    by_unix.leave();
    both.server.await_open(1);
}

#[test]
fn who_stops_reading_is_cut_there_too() {
    let both = Both::start(|settings| {
        settings.server.workers = 1.try_into().unwrap();
        settings.server.queue_bytes_max = 500_000;
    });
    let (mut slow, mut healthy) = (both.client(), both.client());
    slow.subscribe("orders");
    healthy.subscribe("orders");
    let mut api = both.server.api();
    let data = "x".repeat(100_000);
    for n in 0..40 {
        api.trigger("orders", &n.to_string(), &data);
        healthy.expect(&json!({"event": n.to_string(), "channel": "orders", "data": data}));
    }
    both.server.await_open(1);
    assert_eq!(both.server.metric(r#"soundpost_closed_total{app="app-one",reason="slow_consumer"}"#), 1);
    eventually("the queue to be given back", || both.server.metric("soundpost_queued_bytes") == 0);
    // What the kernel had taken is there, without gaps, and then it ends. It is little: the send buffer is bounded.
    let (mut heard, mut seen) = (0, slow.next());
    while let Seen::Event(event) = seen {
        assert_eq!(event["event"], heard.to_string());
        (heard, seen) = (heard + 1, slow.next());
    }
    assert_eq!(seen, Seen::Eof);
    assert!(heard < 4, "{heard} events were in the kernel");
}

#[test]
fn who_reads_late_gets_everything_that_waited() {
    let both = Both::start(|_| {});
    let mut late = both.client();
    late.subscribe("orders");
    let mut api = both.server.api();
    let data = "x".repeat(100_000);
    for n in 0..12 {
        both.server.deliver(&mut api, &n.to_string(), &data);
    }
    assert!(both.server.metric("soundpost_queued_bytes") > 0, "nothing waits");
    for n in 0..12 {
        late.expect(&json!({"event": n.to_string(), "channel": "orders", "data": data}));
    }
    eventually("the queue to be empty", || both.server.metric("soundpost_queued_bytes") == 0);
}

#[test]
fn who_connects_by_it_is_believed() {
    let both = Both::start(|settings| {
        settings.server.address_limits.connections_max = NonZeroU32::new(1);
    });
    let of = |address: &str| format!("x-forwarded-for: {address}\r\n");
    let mut inside = ["192.0.2.1", "192.0.2.2"].map(|address| both.open(&of(address)));
    inside.iter_mut().for_each(Client::greeted);
    let mut http = Http::on(both.stream());
    http.send_raw(handshake("/app/key-one", &of("192.0.2.2")).as_bytes());
    assert_eq!(http.reply(false).status, 429);
    // Without a word of its proxy a client has no address, and nothing to be counted by.
    let mut nameless = [both.open(""), both.open("")];
    nameless.iter_mut().for_each(Client::greeted);
}

#[test]
fn a_proxy_header_names_the_client_there_too() {
    let both = Both::start(|settings| {
        settings.server.proxies.protocol = true;
        settings.server.address_limits.connections_max = NonZeroU32::new(1);
    });
    let knock = |n: u8| {
        let mut http = Http::on(both.stream());
        http.send_raw(format!("PROXY TCP4 192.0.2.{n} 10.0.0.1 4711 443\r\n").as_bytes());
        http.send_raw(handshake("/app/key-one", "").as_bytes());
        (http.reply(true).status, http)
    };
    let inside = [knock(1), knock(2), knock(2)];
    assert_eq!(inside.each_ref().map(|(status, _)| *status), [101, 101, 429]);
    // By TCP nobody is trusted, so nobody owes one.
    both.server.connect().leave();
}

#[test]
fn a_drain_says_goodbye_and_the_file_goes_with_the_server() {
    let both = Both::start(|settings| {
        settings.server.drain = Duration::from_millis(200);
        settings.server.listen.clear();
    });
    let mut clients = [both.client(), both.client()];
    both.server.begin_stop();
    for client in &mut clients {
        client.expect_goodbye(4200, "Server is restarting");
    }
    eventually("the end", || both.server.has_ended());
    assert!(!both.path.exists());
}
