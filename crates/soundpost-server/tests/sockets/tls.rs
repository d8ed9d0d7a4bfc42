//! TLS of the server's own, as clients and publishers of it see it.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use rustls::HandshakeKind;
use serde_json::json;
use socket2::{Domain, Socket, Type};
use soundpost_protocol::{app::App, websocket::Opcode};
use soundpost_server::{
    config::Settings,
    tls::{Certificates, Changed, Pair},
};

use crate::support::{
    Api, Authority, Client, DEADLINE, Http, Offer, ReloadingServer, Seen, TLS_1_2, TLS_1_3, TestServer, Wire,
    app, app_file, eventually, masked, shake,
};

/// A server with a certificate for `localhost`, and whoever issued it.
fn secure_with(change: impl FnOnce(&mut Settings, &Authority)) -> (TestServer, Authority) {
    let authority = Authority::new();
    let pair = authority.issue("localhost", &["localhost"]);
    let server = TestServer::start_with(vec![app("one")], |settings| {
        settings.server.workers = 1.try_into().unwrap();
        settings.server.tls = vec![pair];
        change(settings, &authority);
    });
    (server, authority)
}

fn secure() -> (TestServer, Authority) {
    secure_with(|_, _| {})
}

fn open(wire: Wire, app: &App) -> Client {
    let mut client = Client::open_on(wire, app, "/app/key-one?protocol=7", "", &[]);
    client.greeted();
    client
}

fn connect(server: &TestServer, authority: &Authority) -> Client {
    open(authority.connect(server.address, &Offer::default()).unwrap(), &server.apps[0])
}

fn api(server: &TestServer, authority: &Authority) -> Api {
    let wire = authority.connect(server.address, &Offer::default()).unwrap();
    Api::new(Http::on(wire), server.apps[0].clone())
}

fn handshakes(server: &TestServer, result: &str) -> u64 {
    server.metric(&format!("soundpost_tls_handshakes_total{{result=\"{result}\"}}"))
}

#[test]
fn clients_and_publishers_are_served_in_both_versions() {
    let (server, authority) = secure();
    for versions in [TLS_1_3, TLS_1_2] {
        let offer = Offer { versions, ..Offer::default() };
        let mut client = open(authority.connect(server.address, &offer).unwrap(), &server.apps[0]);
        client.subscribe("orders");
        let wire = authority.connect(server.address, &offer).unwrap();
        let mut api = Api::new(Http::on(wire), server.apps[0].clone());
        for n in 0..20 {
            // From a few bytes to more than a record holds, and the same the other way round.
            let data = "x".repeat(n * 5000);
            api.trigger("orders", &n.to_string(), &data);
            client.expect(&json!({"event": n.to_string(), "channel": "orders", "data": data}));
        }
        assert_eq!(api.ask("/channels/orders", &[]), json!({"occupied": true}));
        client.leave();
    }
    assert_eq!(handshakes(&server, "full"), 4);
    server.await_open(0);
}

#[test]
fn bursts_and_large_frames_arrive_whole_and_in_order() {
    let (server, authority) = secure_with(|settings, _| {
        settings.apps[0].limits.event_data_bytes_max = 2 << 20;
    });
    let mut client = connect(&server, &authority);
    client.subscribe("orders");
    let mut api = api(&server, &authority);
    let sizes = [10, 5000, 1 << 20, 100, 20_000, 0, 3, 70_000, 16_384, 16_300];
    for round in 0..5 {
        let event = |n: usize| json!({"name": format!("{round}-{n}"), "channel": "orders", "data": "y".repeat(sizes[n])});
        let small: Vec<_> = (0..10).filter(|n| sizes[*n] < 100_000).map(event).collect();
        let reply = api.post("/batch_events", json!({"batch": small}).to_string());
        assert_eq!((reply.status, reply.body.as_str()), (200, "{}"));
        api.publish(&event(2));
        for n in (0..10).filter(|n| *n != 2).chain([2]) {
            let data = "y".repeat(sizes[n]);
            client.expect(&json!({"event": format!("{round}-{n}"), "channel": "orders", "data": data}));
        }
    }
    client.leave();
}

/// A subscriber of `orders` with little room for what it does not read.
fn narrow(server: &TestServer, authority: &Authority) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(32 << 10).unwrap();
    socket.connect(&server.address.into()).unwrap();
    let config = authority.client(&Offer::default());
    let mut client = open(shake(TcpStream::from(socket), config, "localhost").unwrap(), &server.apps[0]);
    client.subscribe("orders");
    client
}

#[test]
fn who_reads_late_gets_everything_that_waited() {
    let (server, authority) = secure_with(|settings, _| {
        settings.apps[0].limits.event_data_bytes_max = 1 << 20;
        settings.server.queue_bytes_max = 4 << 20;
    });
    let mut late = narrow(&server, &authority);
    let mut api = api(&server, &authority);
    // Little enough to be published within the ten seconds after which it would be cut.
    let data = ["z".repeat(200_000), "z".repeat(100), "z".repeat(30_000)];
    for n in 0..9 {
        server.deliver(&mut api, &n.to_string(), &data[n % 3]);
    }
    // What waits is counted once, as it is: little more than what was published and has not been taken.
    let queued = server.metric("soundpost_queued_bytes");
    assert!((350_000..750_000).contains(&queued), "{queued} bytes wait");
    for n in 0..9 {
        late.expect(&json!({"event": n.to_string(), "channel": "orders", "data": data[n % 3]}));
    }
    late.expect_silence();
    eventually("the queue to be empty", || server.metric("soundpost_queued_bytes") == 0);
    late.leave();
}

#[test]
fn who_stops_reading_is_cut_and_a_neighbour_hears_everything() {
    let (server, authority) = secure_with(|settings, _| settings.server.queue_bytes_max = 500_000);
    let mut slow = narrow(&server, &authority);
    let mut healthy = connect(&server, &authority);
    healthy.subscribe("orders");
    let mut api = api(&server, &authority);
    let data = "x".repeat(100_000);
    for n in 0..40 {
        api.trigger("orders", &n.to_string(), &data);
        healthy.expect(&json!({"event": n.to_string(), "channel": "orders", "data": data}));
    }
    server.await_open(1);
    assert_eq!(server.metric(r#"soundpost_closed_total{app="app-one",reason="slow_consumer"}"#), 1);
    eventually("the queue to be given back", || server.metric("soundpost_queued_bytes") == 0);
    // It hears a beginning without gaps, and then that the connection is gone.
    let (mut heard, mut seen) = (0, slow.next());
    while let Seen::Event(event) = seen {
        assert_eq!(event["event"], heard.to_string());
        (heard, seen) = (heard + 1, slow.next());
    }
    assert_eq!(seen, Seen::Reset);
    assert!(heard < 20, "{heard} events were read though nobody read");
}

#[test]
fn what_waits_goes_out_before_the_goodbye() {
    let (server, authority) = secure();
    let mut client = narrow(&server, &authority);
    let mut api = api(&server, &authority);
    let data = "x".repeat(100_000);
    for n in 0..6 {
        server.deliver(&mut api, &n.to_string(), &data);
    }
    assert!(server.metric("soundpost_queued_bytes") > 0, "nothing waits");
    client.send_raw(&masked(Opcode::Binary, b""));
    for n in 0..6 {
        client.expect(&json!({"event": n.to_string(), "channel": "orders", "data": data}));
    }
    // The end is announced by `close_notify`, without which the client would fail here.
    client.expect_goodbye(1003, "Binary messages are not supported");
    drop(client);
    server.await_open(0);
}

#[test]
fn a_stopping_server_says_goodbye_over_tls() {
    let (server, authority) = secure_with(|settings, _| settings.server.drain = Duration::ZERO);
    let mut client = connect(&server, &authority);
    server.begin_stop();
    client.expect_goodbye(4200, "Server is restarting");
    eventually("the end", || server.has_ended());
}

#[test]
fn an_app_that_wants_tls_takes_it() {
    let (server, authority) = secure_with(|settings, _| settings.apps[0].tls_only = true);
    connect(&server, &authority).leave();
    let plain = TestServer::start(|app| app.tls_only = true);
    Client::open(plain.address, &plain.apps[0], "/app/key-one", "", &[])
        .expect_goodbye(4000, "Application only accepts TLS connections");
}

/// Whether the server has a certificate for `name` to show.
fn shown(server: &TestServer, authority: &Authority, name: &'static str) -> bool {
    let wire = authority.connect(server.address, &Offer { name, ..Offer::default() });
    wire.map(|wire| assert_eq!(Http::on(wire).get("/up").status, 200)).is_ok()
}

#[test]
fn certificates_are_chosen_by_name_and_the_first_answers_the_rest() {
    let (server, authority) = secure_with(|settings, authority| {
        settings.server.tls.push(authority.issue("app", &["app.test", "*.app.test"]));
        settings.server.tls.push(authority.issue("www", &["www.app.test", "127.0.0.1"]));
    });
    for name in ["localhost", "app.test", "APP.test", "a.app.test", "www.app.test"] {
        assert!(shown(&server, &authority, name), "{name}");
    }
    // An unknown name is shown the first, which is not its own; so is a name two labels below the wildcard, and one that
    // is no host name and therefore not asked for.
    for name in ["other.test", "a.b.app.test", "127.0.0.1"] {
        assert!(!shown(&server, &authority, name), "{name}");
    }
    assert_eq!(handshakes(&server, "full"), 5);
    eventually("refusals to be counted", || handshakes(&server, "rejected") == 3);
}

#[test]
fn certificates_are_replaced_while_connections_go_on() {
    let (server, authority) = secure();
    let mut before = connect(&server, &authority);
    before.subscribe("orders");
    let tls = server.node().tls.as_ref().unwrap();
    let pair = Pair {
        table: "server.tls".to_owned(),
        certificate: authority.path("localhost.crt"),
        key: authority.path("localhost.key"),
        passphrase: None,
    };
    let read_again = || Certificates::read(vec![pair.clone()]).map(|fresh| tls.certificates.take(fresh));
    assert_eq!(read_again().unwrap(), Changed::Nothing);
    authority.issue("localhost", &["new.test"]);
    assert!(shown(&server, &authority, "localhost"), "what is in use changes on reload only");
    assert_eq!(read_again().unwrap(), Changed::Certificates);
    assert!(shown(&server, &authority, "new.test") && !shown(&server, &authority, "localhost"));
    // Half a renewal: the certificate is there, its key not yet.
    let key = std::fs::read(authority.path("localhost.key")).unwrap();
    authority.issue("localhost", &["newer.test"]);
    std::fs::write(authority.path("localhost.key"), key).unwrap();
    let error = read_again().unwrap_err().to_string();
    assert!(error.contains("does not belong to the first certificate"), "{error}");
    assert!(shown(&server, &authority, "new.test"), "the old one stays");
    let wire = authority.connect(server.address, &Offer { name: "new.test", ..Offer::default() }).unwrap();
    Api::new(Http::on(wire), server.apps[0].clone()).trigger("orders", "after", "");
    before.expect(&json!({"event": "after", "channel": "orders", "data": ""}));
    before.leave();
}

/// The lines of a pair, to stand after those of `[server]`.
fn tls_lines(pair: &Pair) -> String {
    format!("[server.tls]\ncertificate = {:?}\nkey = {:?}", pair.certificate, pair.key)
}

#[test]
fn renewed_files_are_read_without_being_asked_and_broken_ones_are_refused() {
    let authority = Authority::new();
    let lines = tls_lines(&authority.issue("localhost", &["localhost"]));
    let server = ReloadingServer::start(&lines, &app_file("one", ""));
    let mut before = connect(&server, &authority);
    before.subscribe("orders");
    let counts = server.counts();
    authority.issue("localhost", &["localhost", "renewed.test"]);
    assert_eq!(server.await_count(counts), "applied");
    assert!(shown(&server, &authority, "renewed.test"));
    let counts = server.counts();
    std::fs::write(authority.path("localhost.crt"), "half").unwrap();
    assert_eq!(server.await_count(counts), "refused");
    assert_eq!(server.reload_again(), "refused");
    assert!(shown(&server, &authority, "renewed.test"), "the old one stays");
    api(&server, &authority).trigger("orders", "meanwhile", "");
    before.expect(&json!({"event": "meanwhile", "channel": "orders", "data": ""}));
    // Other files, by the settings; asked for, as by SIGHUP.
    let other = tls_lines(&authority.issue("other", &["localhost", "other.test"]));
    assert_eq!(server.reload(&other, &app_file("one", "")), "applied");
    assert!(shown(&server, &authority, "other.test") && !shown(&server, &authority, "renewed.test"));
    // Without TLS the port would have to be another protocol's: that holds from the next start.
    assert_eq!(server.reload("", &app_file("one", "")), "unchanged");
    assert_eq!(server.reload(&other, &app_file("one", "")), "unchanged");
    api(&server, &authority).trigger("orders", "after", "");
    before.expect(&json!({"event": "after", "channel": "orders", "data": ""}));
    before.leave();
}

#[test]
fn only_http_1_is_agreed_on_and_whoever_agrees_on_nothing_is_served() {
    let (server, authority) = secure();
    let offer = |alpn| Offer { alpn, ..Offer::default() };
    for (alpn, agreed) in
        [(&["h2", "http/1.1"][..], Some(&b"http/1.1"[..])), (&["http/1.1"], Some(b"http/1.1")), (&[], None)]
    {
        let wire = authority.connect(server.address, &offer(alpn)).unwrap();
        let Wire::Tls(stream) = &wire else { panic!("it is TLS") };
        assert_eq!(stream.conn.alpn_protocol(), agreed);
        assert_eq!(Http::on(wire).get("/up").status, 200);
    }
    let error = authority.connect(server.address, &offer(&["h2"])).err().unwrap();
    assert_eq!(error, rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol));
    eventually("it to be counted", || handshakes(&server, "no_http1") == 1);
}

#[test]
fn who_comes_back_goes_on_with_the_session() {
    let (server, authority) = secure();
    for versions in [TLS_1_3, TLS_1_2] {
        let config = authority.client(&Offer { versions, ..Offer::default() });
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let stream = TcpStream::connect(server.address).unwrap();
            let wire = shake(stream, config.clone(), "localhost").unwrap();
            let mut http = Http::on(wire);
            assert_eq!(http.get("/up").status, 200);
            let Wire::Tls(stream) = http.into_stream() else { panic!("it is TLS") };
            assert_eq!(stream.conn.handshake_kind(), Some(kind));
        }
    }
    assert_eq!((handshakes(&server, "full"), handshakes(&server, "resumed")), (2, 2));
}

#[test]
fn who_does_not_finish_the_handshake_in_time_is_closed() {
    let (server, authority) =
        secure_with(|settings, _| settings.server.tls_handshake_timeout = Duration::from_millis(1500));
    let mut silent = TcpStream::connect(server.address).unwrap();
    let mut half = TcpStream::connect(server.address).unwrap();
    half.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
    for stream in [&mut silent, &mut half] {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
    }
    eventually("both to be counted", || handshakes(&server, "timeout") == 2);
    connect(&server, &authority).leave();
}

#[test]
fn a_broken_record_ends_its_own_connection_and_no_other() {
    let (server, authority) = secure();
    let mut neighbour = connect(&server, &authority);
    let mut broken = connect(&server, &authority);
    // Half a record, and silence: nothing is wrong with that.
    (&*broken.stream).write_all(&[23, 3, 3, 0, 40, 1, 2, 3]).unwrap();
    neighbour.expect_nothing();
    server.await_open(2);
    (&*broken.stream).write_all(&[9; 37]).unwrap();
    server.await_open(1);
    let mut bytes = Vec::new();
    let error = broken.stream.read_to_end(&mut bytes).unwrap_err();
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    let mut garbage = connect(&server, &authority);
    (&*garbage.stream).write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    server.await_open(1);
    assert!(garbage.stream.read_to_end(&mut bytes).is_err());
    neighbour.expect_nothing();
    neighbour.leave();
}

#[test]
fn a_client_may_change_its_keys_and_end_the_session() {
    let (server, authority) = secure();
    let mut client = connect(&server, &authority);
    for _ in 0..5 {
        let Wire::Tls(stream) = &mut client.stream else { panic!("it is TLS") };
        stream.conn.refresh_traffic_keys().unwrap();
        client.expect_nothing();
    }
    let Wire::Tls(stream) = &mut client.stream else { panic!("it is TLS") };
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    assert_eq!(client.next(), Seen::Eof);
    server.await_open(0);
}
