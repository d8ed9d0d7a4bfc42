//! Other settings while webhooks have things to send.

use std::{fs, time::Duration};

use soundpost_protocol::{
    app::AppSecret,
    webhook::{
        event::Event,
        signature,
        target::{Batching, ExtraHeaders, Target},
    },
};
use soundpost_server::webhook::metrics::Dropped;

use crate::{
    authority::Authority,
    hook,
    node::{TestNode, app, batches, eventually, webhook, with},
    receiver::{Act, OK, Receiver, say},
};

#[test]
fn new_webhooks_begin_and_removed_ones_end() {
    let (first, second) = (Receiver::start(|_| say(OK)), Receiver::start(|_| say(OK)));
    let node = TestNode::start(vec![app(vec![])]);
    node.node.apps.replace(vec![app(vec![webhook(&first.url("http"))])]);
    node.event("b", &Event::ChannelOccupied);
    assert_eq!(first.next().events()[0]["channel"], "b");
    eventually("its answer to be there", || node.metrics().delivered.value() == 1);
    node.node.apps.replace(vec![app(vec![webhook(&first.url("http")), webhook(&second.url("http"))])]);
    node.event("c", &Event::ChannelOccupied);
    assert_eq!(first.next().events()[0]["channel"], "c");
    assert_eq!(second.next().events()[0]["channel"], "c");
    assert_eq!(first.connections(), 1, "who stays keeps the connection");
    node.node.apps.replace(vec![app(vec![webhook(&second.url("http"))])]);
    node.event("d", &Event::ChannelOccupied);
    assert_eq!(second.next().events()[0]["channel"], "d");
    let metrics = node.metrics();
    eventually("all to be settled", || (metrics.delivered.value(), metrics.depth.value()) == (4, 0));
    assert_eq!((metrics.sent.value(), first.try_next().is_none()), (4, true));
}

#[test]
fn what_waits_for_a_removed_webhook_is_given_up_and_counted() {
    let receiver = Receiver::start(|_| vec![Act::Wait(Duration::from_secs(60))]);
    let node = TestNode::start(vec![app(vec![webhook(&receiver.url("http"))])]);
    node.counts("a", 0..10);
    receiver.next();
    node.node.apps.replace(vec![app(vec![])]);
    eventually("all to be given up", || node.metrics().dropped(Dropped::Abandoned).value() == 10);
    assert_eq!(node.metrics().depth.value(), 0);
}

#[test]
fn another_secret_and_other_headers_and_portions_hold_for_what_waits() {
    let receiver = Receiver::start(|_| say(OK));
    let node = TestNode::start(vec![app(vec![batches(&receiver.url("http"), 10_000, 200)])]);
    node.counts("a", 0..10);
    eventually("them to wait", || node.metrics().depth.value() == 10);
    let target = Target { batching: Batching::new(1, 4).unwrap(), ..Target::default() };
    let changed = with(&receiver.url("http"), target, |http| {
        http.headers = ExtraHeaders::parse([("Authorization", "Bearer new")]).unwrap();
    });
    let mut app = app(vec![changed]);
    app.secret = AppSecret::new("another");
    node.node.apps.replace(vec![app]);
    let mut counts = Vec::new();
    for events in [4, 4, 2] {
        let request = receiver.next();
        let [.., signed] =
            signature::headers(&hook::app("one").key, &AppSecret::new("another"), &request.body);
        assert_eq!(request.header("X-Pusher-Signature"), Some(&*signed.1));
        assert_eq!(request.header("Authorization"), Some("Bearer new"));
        assert_eq!(request.events().len(), events);
        counts.extend(request.events().iter().map(|event| event["subscription_count"].as_u64().unwrap()));
    }
    assert_eq!(counts, (0..10).collect::<Vec<_>>());
}

#[test]
fn authorities_are_read_again_and_kept_while_they_cannot_be() {
    let (old, new) = (Authority::new(), Authority::new());
    let file = old.file().with_file_name("used.crt");
    fs::copy(old.file(), &file).unwrap();
    let first = Receiver::secured(old.serve("127.0.0.1", true), |_| say(OK));
    let second = Receiver::secured(new.serve("127.0.0.1", true), |_| say(OK));
    let plain = Receiver::start(|_| say(OK));
    let to = |receiver: &Receiver| {
        with(&receiver.url("https"), Target::default(), |http| http.ca = Some(file.clone()))
    };
    let apps = || vec![app(vec![to(&first), to(&second), webhook(&plain.url("http"))])];
    let node = TestNode::start(apps());
    node.event("a", &Event::ChannelOccupied);
    assert_eq!(first.next().events()[0]["channel"], "a");
    // What was read before is still good.
    fs::write(&file, "half of it").unwrap();
    node.node.apps.replace(apps());
    node.event("b", &Event::ChannelOccupied);
    assert_eq!(first.next().events()[0]["channel"], "b");
    assert_eq!(second.try_next().map(|request| request.body), None);
    fs::copy(new.file(), &file).unwrap();
    node.node.apps.replace(apps());
    // Those that failed until now follow.
    let mut channels: Vec<_> =
        (0..2).map(|_| second.next().events()[0]["channel"].as_str().unwrap().to_owned()).collect();
    channels.sort();
    assert_eq!(channels, ["a", "b"]);
    for channel in ["a", "b"] {
        assert_eq!(plain.next().events()[0]["channel"], channel, "nobody else has noticed");
    }
}
