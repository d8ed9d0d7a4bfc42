//! Our jobs as Laravel's own worker runs them, with the class of `examples/laravel-queue`.
//!
//! `LARAVEL_AUTOLOAD` names the `vendor/autoload.php` of a Laravel app to be tried instead of Debian's packages.

use std::{
    env,
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};
use soundpost_protocol::{
    presence::UserId,
    socket_id::SocketId,
    webhook::{event::Event, queue::Attempt},
};

use super::{
    attempt, block_on, carrier_to, push,
    redis::{RedisServer, wait_until},
    small,
};

/// Longer than any test takes.
const SECONDS: u32 = 170;

/// A PHP process with a worker; ended when dropped.
pub(crate) struct Worker {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    /// That takes so many jobs. `settings`: what else than below.
    pub(crate) fn start(server: &RedisServer, jobs: u32, settings: &Value) -> Self {
        let folder = env!("CARGO_MANIFEST_DIR");
        let mut all = json!({
            "autoload": autoload(),
            "class": format!("{folder}/../../examples/laravel-queue/PusherWebhook.php"),
            "port": server.port,
            "database": 0,
            "prefix": "app_",
            "queue": "webhooks",
            "block_for": null,
            "jobs": jobs,
            "tries": 3,
            "backoff": 0,
            "fail": [],
            "seconds": SECONDS,
            "push": null,
        });
        for (key, value) in settings.as_object().unwrap() {
            all[key] = value.clone();
        }
        let mut command = Command::new("php");
        command.arg(format!("{folder}/tests/laravel_queue/worker.php")).arg(all.to_string());
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("php is installed");
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut worker = Self { child, said };
        let said = worker.next().unwrap();
        assert!(said == json!({"did": "waits"}) || said["did"] == "pushed", "{said}");
        worker
    }

    /// What it says next; `None` when it has ended.
    pub(crate) fn next(&mut self) -> Option<Value> {
        let line = self.said.next()?.unwrap();
        Some(serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}")))
    }

    /// All it still says.
    fn rest(mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn autoload() -> Vec<String> {
    match env::var("LARAVEL_AUTOLOAD") {
        Ok(file) => vec![file],
        Err(_) => ["Queue", "Redis", "Events", "Cache"]
            .map(|package| format!("/usr/share/php/Illuminate/{package}/autoload.php"))
            .into(),
    }
}

/// A name for its type that PHP would agree with.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// Of what a worker said: what each line says it did, with the attempts or the event's name.
fn told(said: &[Value]) -> Vec<String> {
    said.iter()
        .map(|line| {
            let detail = if line["name"].as_str().is_some_and(|name| name.starts_with("pusher.")) {
                line["name"].as_str().unwrap_or_default().to_owned()
            } else {
                line["attempts"].to_string()
            };
            format!("{} {detail}", line["did"].as_str().unwrap())
        })
        .collect()
}

fn pushed(server: &RedisServer, attempts: &[Attempt]) {
    let carrier = carrier_to(server, "");
    block_on(async {
        for attempt in attempts {
            push(&carrier, attempt).await;
        }
    });
}

/// The app pushes a job of the same class with the same data: all it writes stands in ours.
#[test]
fn a_job_has_all_that_laravel_writes_and_lies_where_laravel_puts_it() {
    let server = RedisServer::start(&[]);
    let of = |key: &str| server.ask(&["LRANGE", key, "0", "-1"]);
    let job = r"App\Jobs\PusherWebhook@handle";
    let data = json!({"app_id": "shop"});
    Worker::start(&server, 0, &json!({"push": {"job": job, "data": data}})).rest();
    pushed(&server, &[small(1)]);
    assert_eq!(server.ask(&["KEYS", "*"]).lines().count(), 2);
    let jobs = of("app_queues:webhooks");
    let jobs: Vec<Value> = jobs.lines().map(|job| serde_json::from_str(job).unwrap()).collect();
    let [theirs, ours] = &jobs[..] else { panic!("{jobs:?}") };
    for (field, value) in theirs.as_object().unwrap().iter().filter(|(field, _)| *field != "delay") {
        assert_eq!(kind(&ours[field]), kind(value), "{field}: {ours}");
    }
    for field in ["job", "displayName", "attempts"] {
        assert_eq!(ours[field], theirs[field]);
    }
    assert_eq!(of("app_queues:webhooks:notify"), "1\n1");
}

#[test]
fn every_event_reaches_the_app_and_the_job_is_gone() {
    let server = RedisServer::start(&[]);
    let zoe = UserId::from_text("Zo\"\u{e9}/\u{1f600}\\");
    let client_event = Event::ClientEvent {
        event: "client-x",
        data: Some(r#"{"on": [], "n": 12345678901234567890}"#),
        socket_id: SocketId { left: 1, right: 2 },
        user_id: Some(&zoe),
    };
    let events = [
        ("presence-a", Event::ChannelOccupied),
        ("presence-a", Event::MemberAdded(&zoe)),
        ("presence-a", client_event),
        ("presence-a", Event::MemberRemoved(&zoe)),
        ("presence-a", Event::ChannelVacated),
        ("cache-a", Event::CacheMiss),
        ("orders", Event::SubscriptionCount(1_000_000)),
    ];
    pushed(&server, &[attempt(1, &events)]);
    let said = Worker::start(&server, 1, &json!({})).rest();
    let user = "Zo\"\u{e9}/\u{1f600}\\";
    let expected = [
        json!({"name": "channel_occupied", "channel": "presence-a"}),
        json!({"name": "member_added", "channel": "presence-a", "user_id": user}),
        json!({
            "name": "client_event", "channel": "presence-a", "event": "client-x",
            "data": r#"{"on": [], "n": 12345678901234567890}"#, "socket_id": "1.2", "user_id": user,
        }),
        json!({"name": "member_removed", "channel": "presence-a", "user_id": user}),
        json!({"name": "channel_vacated", "channel": "presence-a"}),
        json!({"name": "cache_miss", "channel": "cache-a"}),
        json!({"name": "subscription_count", "channel": "orders", "subscription_count": 1_000_000}),
    ];
    let [events @ .., last] = &said[..] else { panic!("{said:?}") };
    assert_eq!(events.len(), expected.len(), "{said:?}");
    for (line, event) in events.iter().zip(expected) {
        assert_eq!(line["name"], format!("pusher.{}", event["name"].as_str().unwrap()));
        assert_eq!((&line["event"], &line["app"]), (&event, &json!("shop")));
    }
    assert_eq!(last["did"], "processed");
    assert_eq!((&last["name"], &last["id"]), (&json!(r"App\Jobs\PusherWebhook"), &last["uuid"]));
    assert_eq!((&last["attempts"], &last["deleted"]), (&json!(1), &json!(true)));
    assert_eq!(server.ask(&["KEYS", "*"]), "");
}

#[test]
fn a_job_that_fails_runs_again_from_where_it_was() {
    let server = RedisServer::start(&[]);
    let channel = "presence-a";
    let zoe = UserId::from_text("zoe");
    pushed(&server, &[attempt(1, &[(channel, Event::ChannelOccupied), (channel, Event::MemberAdded(&zoe))])]);
    let said = Worker::start(&server, 2, &json!({"fail": ["member_added"]})).rest();
    assert_eq!(
        told(&said),
        [
            "event pusher.channel_occupied",
            "threw 1",
            "reported null",
            "event pusher.member_added",
            "processed 2"
        ]
    );
    assert_eq!(server.ask(&["KEYS", "*"]), "");
}

#[test]
fn a_job_that_has_failed_as_often_as_it_may_is_given_up() {
    let server = RedisServer::start(&[]);
    pushed(&server, &[small(1)]);
    let said = Worker::start(&server, 1, &json!({"fail": ["channel_occupied"], "tries": 1})).rest();
    assert_eq!(told(&said), ["failed null", "threw 1", "reported null"]);
    assert_eq!(server.ask(&["KEYS", "*"]), "");
}

#[test]
fn an_event_that_comes_again_is_dropped() {
    let server = RedisServer::start(&[]);
    let both = attempt(1, &[("a", Event::ChannelOccupied), ("b", Event::ChannelOccupied)]);
    // What another node sends again may be in other portions.
    pushed(&server, &[both.clone(), both, attempt(2, &[("b", Event::ChannelOccupied)]), small(3)]);
    let said = Worker::start(&server, 4, &json!({})).rest();
    let event = "event pusher.channel_occupied";
    assert_eq!(
        told(&said),
        [event, event, "processed 1", "processed 1", "processed 1", event, "processed 1"]
    );
    assert_eq!(said[2]["uuid"], said[3]["uuid"]);
}

#[test]
fn a_worker_that_waits_is_woken() {
    let server = RedisServer::start(&[]);
    let mut worker = Worker::start(&server, 1, &json!({"block_for": SECONDS}));
    wait_until("the worker waits", || server.ask(&["CLIENT", "LIST"]).contains(" cmd=blpop "));
    // Within the time that tests wait for anything, which is less than the worker would.
    let said = std::thread::spawn(move || worker.next().map(|said| (said, worker.rest())));
    pushed(&server, &[small(1)]);
    wait_until("the worker is woken", || said.is_finished());
    let (first, rest) = said.join().unwrap().unwrap();
    assert_eq!(told(&[first]), ["event pusher.channel_occupied"]);
    assert_eq!(told(&rest), ["processed 1"]);
    assert_eq!(server.ask(&["KEYS", "*"]), "");
}
