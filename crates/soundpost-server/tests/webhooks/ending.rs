//! A node that ends while its webhooks have things to send.

use std::time::{Duration, Instant};

use soundpost_protocol::app::App;
use soundpost_server::{
    config::Settings,
    server::{Server, StartError},
    webhook::engine::FAREWELL,
};

use crate::{
    node::{TestNode, app, batches, eventually, webhook, with},
    receiver::{Act, OK, Receiver, say},
};

#[test]
fn what_is_held_and_what_waits_for_others_is_sent_before_the_end() {
    // What is not sent within the farewell is given up, and a busy machine may take longer for one.
    assert!((0..5).any(|_| ends_with_all_sent()), "it does not end as soon as all is sent");
}

/// False: the farewell was over first.
fn ends_with_all_sent() -> bool {
    let receiver = Receiver::start(|_| [vec![Act::Wait(Duration::from_millis(50))], say(OK)].concat());
    let node = TestNode::start(vec![app(vec![batches(&receiver.url("http"), 10_000, 100)])]);
    node.counts("a", 0..250);
    node.left("b");
    let begun = Instant::now();
    node.stop();
    node.end();
    if begun.elapsed() >= FAREWELL {
        return false;
    }
    let events: Vec<_> =
        std::iter::from_fn(|| receiver.try_next()).flat_map(|request| request.events()).collect();
    assert_eq!(events.len(), 251);
    assert!(events.iter().any(|event| event["name"] == "channel_vacated" && event["channel"] == "b"));
    true
}

#[test]
fn a_receiver_that_hangs_holds_the_end_up_for_a_moment_only() {
    let receiver = Receiver::start(|_| vec![Act::Wait(Duration::from_secs(60))]);
    let node = TestNode::start(vec![app(vec![webhook(&receiver.url("http"))])]);
    node.counts("a", 0..10);
    receiver.next();
    let begun = Instant::now();
    node.stop();
    node.end();
    let time = begun.elapsed();
    assert!(time >= FAREWELL && time < FAREWELL + Duration::from_secs(25), "{time:?}");
}

#[test]
fn asked_twice_a_node_leaves_its_webhooks_at_once() {
    let receiver = Receiver::start(|_| vec![Act::Wait(Duration::from_secs(60))]);
    let node = TestNode::start(vec![app(vec![webhook(&receiver.url("http"))])]);
    node.counts("a", 0..10);
    receiver.next();
    let metrics = node.metrics();
    let begun = Instant::now();
    node.stop();
    node.stop();
    node.end();
    assert!(begun.elapsed() < FAREWELL);
    eventually("all to be counted", || metrics.depth.value() == 0);
}

#[test]
fn authorities_that_cannot_be_used_are_refused_at_the_start() {
    let missing = with("https://a.test/", Default::default(), |http| {
        http.ca = Some(std::env::temp_dir().join("soundpost-no-such-file"));
    });
    let good = webhook("http://a.test/");
    let mut settings = Settings::new(vec![App::clone(&app(vec![good, missing]))]);
    settings.server.workers = 1.try_into().unwrap();
    let Err(error) = Server::bind(settings) else { panic!("it must be refused") };
    assert!(matches!(error, StartError::Tls(_)), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("apps.0.webhooks.1.ca: cannot read "), "{text}");
}
