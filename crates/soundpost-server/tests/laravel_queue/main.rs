//! Jobs for Laravel in real Redis processes, and run by Laravel's own worker.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail like tests"
)]

mod outages;
mod pushing;
#[path = "../support/redis/mod.rs"]
mod redis;
mod refusals;
#[path = "../sockets/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the tests of a single node")]
mod support;
mod whole;
mod worker;

use std::sync::Arc;

use soundpost_protocol::{
    app::{AppId, Limits},
    channel::ChannelName,
    presence::NodeId,
    webhook::{
        LaravelQueue, WebhookId,
        event::{self, Event, EventId},
        laravel_queue::JobName,
        queue::{Attempt, Outcome, RequestId},
    },
};
use soundpost_server::{config::RedisSettings, webhook::laravel::LaravelCarrier};

use redis::RedisServer;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The queue `webhooks` of an app whose keys begin with `app_`.
fn queue(redis: Option<&str>) -> LaravelQueue {
    let job = JobName::parse(r"App\Jobs\PusherWebhook@handle").unwrap();
    LaravelQueue { job, queue: "webhooks".into(), prefix: "app_".into(), redis: redis.map(Arc::from) }
}

fn carrier(queue: &LaravelQueue, nodes: Option<&RedisSettings>) -> LaravelCarrier {
    LaravelCarrier::new(AppId::parse("shop").unwrap(), WebhookId(7), queue, nodes).unwrap()
}

/// To the server, with this before the `@` of its URL.
fn carrier_to(server: &RedisServer, login: &str) -> LaravelCarrier {
    carrier(&queue(Some(&format!("redis://{login}127.0.0.1:{}", server.port))), None)
}

/// A request with these events, the first of which has this number.
fn attempt(first: u64, events: &[(&str, Event<'_>)]) -> Attempt {
    let encoded: Vec<_> = (first..)
        .zip(events)
        .map(|(number, (channel, event))| {
            let channel = ChannelName::parse(channel, &Limits::default()).unwrap();
            event.encode(EventId { life: NodeId(0x2f), number }, &channel)
        })
        .collect();
    let ids: Vec<_> = encoded.iter().map(|event| event.id.to_string()).collect();
    Attempt {
        request: RequestId(first),
        number: 1,
        body: event::body(1_700_000_000_123, &encoded),
        event_ids: ids.join(",").into(),
        events: events.len(),
    }
}

/// With one event.
fn small(first: u64) -> Attempt {
    attempt(first, &[("orders", Event::ChannelOccupied)])
}

async fn push(carrier: &LaravelCarrier, attempt: &Attempt) {
    assert_eq!(carrier.send(attempt).await.unwrap(), Outcome::Status(200));
}

/// Why it is not pushed. It is one line, and no password is in it.
fn refusal(carrier: &LaravelCarrier) -> String {
    let error = block_on(carrier.send(&small(1))).unwrap_err().to_string();
    assert!(!error.contains('\n') && !error.contains("hush"), "{error}");
    error
}
