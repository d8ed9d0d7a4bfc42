//! From an accepted event to the subscribers: who gets it, and in which order.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde_json::{Value, json};

use crate::support::{Client, TestServer, app};

fn event(channel: &str, name: &str, data: &str) -> Value {
    json!({"event": name, "channel": channel, "data": data})
}

fn subscribers(server: &TestServer, count: usize, channel: &str) -> Vec<Client> {
    let subscribed = |_| {
        let mut client = server.connect();
        client.subscribe(channel);
        client
    };
    (0..count).map(subscribed).collect()
}

#[test]
fn events_arrive_in_the_order_they_were_accepted_in() {
    let server = TestServer::start(|_| {});
    let mut clients = subscribers(&server, 20, "orders");
    let mut publishers: Vec<_> = (0..8).map(|_| server.api()).collect();
    for n in 0..500 {
        publishers[n % 8].trigger("orders", "n", &n.to_string());
    }
    for client in &mut clients {
        for n in 0..500 {
            client.expect(&event("orders", "n", &n.to_string()));
        }
        client.expect_silence();
    }
}

#[test]
fn publishers_at_the_same_time_make_one_order_for_all() {
    let server = TestServer::start(|_| {});
    let mut clients = subscribers(&server, 10, "orders");
    std::thread::scope(|scope| {
        for publisher in 0..5 {
            let mut api = server.api();
            scope.spawn(move || {
                for n in 0..60 {
                    api.trigger("orders", &format!("publisher-{publisher}"), &n.to_string());
                }
            });
        }
    });
    let seen: Vec<Vec<Value>> =
        clients.iter_mut().map(|client| (0..300).map(|_| client.event()).collect()).collect();
    for events in &seen {
        assert_eq!(*events, seen[0], "one order for all");
    }
    for publisher in 0..5 {
        let name = format!("publisher-{publisher}");
        let own: Vec<_> = seen[0].iter().filter(|event| event["event"] == name.as_str()).collect();
        let expected: Vec<_> = (0..60).map(|n| event("orders", &name, &n.to_string())).collect();
        assert_eq!(own, expected.iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_newcomer_hears_everything_from_its_success_on_and_nothing_older() {
    let server = TestServer::start(|_| {});
    let mut api = server.api();
    let mut client = server.connect();
    api.trigger("orders", "old", "");
    client.subscribe("orders");
    api.trigger("orders", "new", "");
    client.expect(&event("orders", "new", ""));

    // And while events flow: each newcomer's share has no gap.
    let is_over = AtomicBool::new(false);
    let (last, clients) = std::thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            (0..).find(|n| {
                let is_last = is_over.load(Relaxed);
                api.trigger("busy", "n", &n.to_string());
                is_last
            })
        });
        let clients = subscribers(&server, 30, "busy");
        is_over.store(true, Relaxed);
        (publishing.join().unwrap().unwrap(), clients)
    });
    for mut client in clients {
        let mut expected = None;
        while expected != Some(last + 1) {
            let got = client.event();
            let n: i32 = got["data"].as_str().unwrap().parse().unwrap();
            assert_eq!(n, expected.unwrap_or(n), "{got}");
            expected = Some(n + 1);
        }
        client.expect_silence();
    }
}

#[test]
fn the_connection_named_by_socket_id_is_left_out() {
    let server = TestServer::start(|_| {});
    let mut api = server.api();
    let mut clients = subscribers(&server, 4, "orders");
    let excluded = clients[0].socket_id.clone();
    let foreign = "1234.5678";
    for (socket_id, excludes) in [(excluded.as_str(), true), (foreign, false)] {
        let body = json!({"name": socket_id, "channel": "orders", "data": "", "socket_id": socket_id});
        assert_eq!(api.publish(&body), json!({}));
        for client in &mut clients[usize::from(excludes)..] {
            client.expect(&event("orders", socket_id, ""));
        }
        for client in &mut clients {
            client.expect_silence();
        }
    }
}

#[test]
fn an_event_to_several_channels_reaches_each_once() {
    let server = TestServer::start(|_| {});
    let mut client = server.connect();
    client.subscribe("a");
    client.subscribe("private-b");
    let channels = ["a", "a", "private-b", "unoccupied", "a"];
    server.api().publish(&json!({"name": "n", "channels": channels, "channel": "c", "data": "x"}));
    client.expect(&event("a", "n", "x"));
    client.expect(&event("private-b", "n", "x"));
    client.expect_silence();
}

#[test]
fn data_arrives_as_the_string_it_was_and_other_json_as_its_text() {
    let server = TestServer::start(|_| {});
    let mut api = server.api();
    let mut client = server.connect();
    client.subscribe("orders");
    for (data, expected) in [
        (r#""""#, ""),
        (r#""{\"id\":1}""#, r#"{"id":1}"#),
        (r#""\u00eb \ud83d\ude00 \\ \u0000""#, "ë 😀 \\ \0"),
        (r#"{"a": 1.0}"#, r#"{"a": 1.0}"#),
        ("[]", "[]"),
        ("7", "7"),
        ("null", "null"),
    ] {
        let body = format!(r#"{{"name":"App\\Events\\Shipped","channel":"orders","data":{data}}}"#);
        assert_eq!(api.post("/events", &body).status, 200, "{data}");
        client.expect(&event("orders", "App\\Events\\Shipped", expected));
    }
}

#[test]
fn a_batch_arrives_in_its_order() {
    let server = TestServer::start(|_| {});
    let mut client = server.connect();
    client.subscribe("a");
    client.subscribe("b");
    let item = |n: usize| {
        let channel = ["a", "b"][n % 2];
        json!({"channel": channel, "name": "n", "data": n.to_string(), "socket_id": "1.1"})
    };
    let mut items: Vec<_> = (0..10).map(item).collect();
    items[4]["socket_id"] = client.socket_id.clone().into();
    let reply = server.api().post("/batch_events", json!({"batch": items}).to_string());
    assert_eq!((reply.status, reply.body.as_str()), (200, "{}"));
    for n in (0..10).filter(|n| *n != 4) {
        client.expect(&event(["a", "b"][n % 2], "n", &n.to_string()));
    }
    client.expect_silence();
    // One bad event, and none is published.
    items[9]["name"] = "pusher:x".into();
    let reply = server.api().post("/batch_events", json!({"batch": items}).to_string());
    assert_eq!(reply.status, 400);
    assert!(reply.body.starts_with("batch[9]: name starts with pusher:"), "{}", reply.body);
    client.expect_silence();
}

#[test]
fn large_events_and_small_ones_keep_their_order_in_a_burst() {
    let server = TestServer::start_with(vec![app("one")], |settings| {
        settings.server.workers = 1.try_into().unwrap();
    });
    let mut clients = subscribers(&server, 5, "orders");
    let mut api = server.api();
    let sizes = [10, 100_000, 3_000, 5_000, 0, 70_000, 4_096, 1, 20_000, 9];
    let data = |n: usize| format!("{n}:{}", "x".repeat(sizes[n]));
    let items: Vec<_> = (0..10).map(|n| json!({"channel": "orders", "name": "n", "data": data(n)})).collect();
    let body = json!({"batch": items}).to_string();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..5 {
                assert_eq!(api.post("/batch_events", &body).status, 200);
            }
        });
        for client in &mut clients {
            scope.spawn(move || {
                for n in (0..5).flat_map(|_| 0..10) {
                    client.expect(&event("orders", "n", &data(n)));
                }
                client.expect_silence();
            });
        }
    });
}
