//! Reloads while everything else goes on.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{Client, ReloadingServer, Seen, app, app_file};

/// The app whose clients must not notice anything, with a limit that changes all the time.
fn steady(round: usize) -> String {
    app_file("one", &format!("presence_members_max = {}", 1000 + round))
}

/// Ends what goes on beside a test, also when the test fails: it would wait for that for ever.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn triggers_joins_and_connects_never_notice_a_reload() {
    let server = ReloadingServer::start("", &steady(0));
    let is_over = AtomicBool::new(false);
    let mut subscribers = [(); 3].map(|()| server.connect_as("one"));
    subscribers.iter_mut().for_each(|client| client.subscribe("news"));
    let published = thread::scope(|scope| {
        let over = Over(&is_over);
        let publishing = scope.spawn(|| {
            let mut api = server.api_of(0);
            let mut published = 0;
            while !is_over.load(Relaxed) {
                api.trigger("news", "n", &published.to_string());
                published += 1;
                // The subscribers read when all is over; what waits for them has to fit their queues, however long it takes.
                thread::sleep(Duration::from_millis(2));
            }
            published
        });
        let joining = scope.spawn(|| {
            while !is_over.load(Relaxed) {
                let mut client = server.connect_as("one");
                client.join("presence-room", r#"{"user_id":"ada"}"#);
                client.subscribe("private-a");
                client.leave();
            }
        });
        // An app that comes and goes, and whose clients do.
        let passing = scope.spawn(|| {
            while !is_over.load(Relaxed) {
                let mut client = Client::open(server.address, &app("two"), "/app/key-two", "", &[]);
                let mut last = client.next();
                while let Seen::Event(event) = &last {
                    let is_told = event["event"] != "pusher:error" || event["data"]["code"] == 4001;
                    assert!(is_told, "{event}");
                    last = client.next();
                }
                assert_eq!(last, Seen::Close(Some((4001, "Application does not exist".to_owned()))));
            }
        });
        for round in 1..=60 {
            let two = app_file("two", "");
            let expected = match round % 4 {
                0 => server.reload("", &(steady(round) + &two)),
                1 => server.reload("", &steady(round)),
                2 => {
                    assert_eq!(server.reload("", &(steady(round) + "[[apps]]")), "refused");
                    continue;
                }
                _ => {
                    // Several at once are at least one.
                    (0..3).for_each(|_| server.asked.notify_one());
                    server.reload("", &(two + &steady(round)))
                }
            };
            assert_ne!(expected, "refused", "round {round}");
        }
        server.reload("", &steady(100));
        drop(over);
        joining.join().unwrap();
        passing.join().unwrap();
        publishing.join().unwrap()
    });
    for client in &mut subscribers {
        for n in 0..published {
            let data = Value::String(n.to_string());
            client.expect(&json!({"event": "n", "channel": "news", "data": data}));
        }
        client.expect_silence();
    }
    server.await_open(3);
    assert_eq!(server.metric("soundpost_triggers_total{app=\"app-one\",result=\"accepted\"}"), published);
}

#[test]
fn whole_channels_that_are_sent_away_hear_of_nobody_who_leaves() {
    const MEMBERS: usize = 60;
    let server = ReloadingServer::start("", &(app_file("one", "") + &app_file("two", "")));
    let mut stays = server.connect_as("one");
    stays.join("presence-room", r#"{"user_id":"of-one"}"#);
    let mut goes: Vec<_> = (0..MEMBERS).map(|_| server.connect_as("two")).collect();
    for (n, client) in goes.iter_mut().enumerate() {
        client.join("presence-room", &json!({"user_id": n.to_string()}).to_string());
    }
    assert_eq!(server.reload("", &app_file("one", "")), "applied");
    for (n, client) in goes.iter_mut().enumerate() {
        for _ in n + 1..MEMBERS {
            assert_eq!(client.event()["event"], "pusher_internal:member_added");
        }
        client.expect_goodbye(4001, "Application does not exist");
    }
    // The channel of the same name is another app's, and nothing of this was its.
    stays.expect_silence();
    server.await_open(1);
}

#[test]
fn a_reload_during_the_drain_holds_nobody_up() {
    let server = ReloadingServer::start("drain_seconds = 1", &(app_file("one", "") + &app_file("two", "")));
    let (mut one, mut two) = (server.connect_as("one"), server.connect_as("two"));
    server.begin_stop();
    assert_eq!(server.reload("drain_seconds = 1", &app_file("one", "")), "applied");
    one.expect_goodbye(4200, "Server is restarting");
    // Told by the drain or by the reload, whichever came first.
    let Seen::Event(error) = two.next() else { panic!("no error") };
    assert!([4001, 4200].contains(&error["data"]["code"].as_u64().unwrap()), "{error}");
    crate::support::eventually("the end", || server.has_ended());
}

#[test]
fn nothing_grows_with_ten_thousand_reloads() {
    let server = ReloadingServer::start("watch_files = false", &app_file("one", ""));
    let mut client = server.connect_as("one");
    client.subscribe("news");
    let node = server.node();
    let memory = || server.metric("process_resident_memory_bytes") >> 20;
    let mut settled = 0;
    for round in 0..10_000 {
        let of = |name: &str, max| {
            let mut app = app(name);
            app.connections_max = std::num::NonZeroU32::new(max);
            app
        };
        node.apps.replace(vec![of("one", round), of(&format!("of-round-{round}"), 1)]);
        if round == 1000 {
            settled = memory();
        }
    }
    assert!(memory() <= settled + 4, "{settled} MiB after a thousand, {} after ten", memory());
    client.expect_silence();
}
