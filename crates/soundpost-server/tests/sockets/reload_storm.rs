//! Reloads while everything else goes on.

use std::{
    env, fs,
    process::Command,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use serde_json::json;

use crate::support::{Client, Counts, ReloadingServer, Seen, app, app_file, eventually};

/// The app whose clients must not notice anything, with a limit that changes all the time.
fn steady(round: usize) -> String {
    let lines = format!("ping_interval_seconds = 600\npresence_members_max = {}", 1000 + round);
    app_file("one", &lines)
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
    let server = ReloadingServer::start("watch_files = false", &steady(0));
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
                thread::sleep(Duration::from_millis(2));
            }
            api.trigger("news", "last", "");
            published
        });
        let reading = subscribers.each_mut().map(|client| scope.spawn(|| read_to_last(client)));
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
        let text = fs::read_to_string(&server.file).unwrap();
        // Its own end, whatever a reload that was asked for before may yet come to.
        let reload = |apps: &str, times: usize, ended: fn(Counts) -> u64| {
            let before = ended(server.counts());
            fs::write(&server.file, text.replace(&steady(0), apps)).unwrap();
            (0..times).for_each(|_| server.asked.notify_one());
            eventually("the end of a reload", || ended(server.counts()) > before);
        };
        for round in 1..=60 {
            let (one, two) = (steady(round), app_file("two", ""));
            match round % 4 {
                0 => reload(&(one + &two), 1, |counts| counts.applied),
                1 => reload(&one, 1, |counts| counts.applied),
                2 => reload(&(one + "[[apps]]"), 1, |counts| counts.refused),
                // Several at once are at least one.
                _ => reload(&(two + &one), 3, |counts| counts.applied),
            }
        }
        reload(&steady(100), 1, |counts| counts.applied);
        drop(over);
        joining.join().unwrap();
        passing.join().unwrap();
        let published = publishing.join().unwrap();
        for reader in reading {
            assert_eq!(reader.join().unwrap(), published);
        }
        published
    });
    subscribers.iter_mut().for_each(Client::expect_silence);
    server.await_open(3);
    let accepted = server.metric("soundpost_triggers_total{app=\"app-one\",result=\"accepted\"}");
    assert_eq!(accepted, published + 1);
}

/// Reads events that are numbered in order, up to the last; gives back how many.
fn read_to_last(client: &mut Client) -> u64 {
    for n in 0.. {
        let event = client.event();
        if event["event"] == "last" {
            return n;
        }
        assert_eq!(event, json!({"event": "n", "channel": "news", "data": n.to_string()}));
    }
    unreachable!("it ends with the last")
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
    let drain = "drain_seconds = 5";
    let server = ReloadingServer::start(drain, &(app_file("one", "") + &app_file("two", "")));
    let (mut one, mut two) = (server.connect_as("one"), server.connect_as("two"));
    server.begin_stop();
    assert_eq!(server.reload(drain, &app_file("one", "")), "applied");
    one.expect_goodbye(4200, "Server is restarting");
    // Told by the drain or by the reload, whichever came first.
    let Seen::Event(error) = two.next() else { panic!("no error") };
    assert!([4001, 4200].contains(&error["data"]["code"].as_u64().unwrap()), "{error}");
    crate::support::eventually("the end", || server.has_ended());
}

/// Alone in its process: the memory is that of all who run beside it.
#[test]
fn nothing_grows_with_ten_thousand_reloads() {
    const ALONE: &str = "SOUNDPOST_TEST_ALONE";
    if env::var_os(ALONE).is_some() {
        return ten_thousand_reloads();
    }
    let name = "reload_storm::nothing_grows_with_ten_thousand_reloads";
    let mut itself = Command::new(env::current_exe().unwrap());
    let ended = itself.args(["--exact", name, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let [said, failure] = [&ended.stdout, &ended.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(ended.status.success() && said.contains("1 passed"), "{said}{failure}");
}

fn ten_thousand_reloads() {
    let server = ReloadingServer::start("watch_files = false", &app_file("one", ""));
    let mut client = server.connect_as("one");
    client.subscribe("news");
    let node = server.node();
    let memory = || server.metric("process_resident_memory_bytes") >> 20;
    let mut settled = 0;
    for round in 0..10_000 {
        let of = |name: &str, max| {
            let mut app = app(name);
            // Who is silent for as long as it takes is not asked whether it is there.
            app.ping_interval = Duration::from_secs(3600);
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
