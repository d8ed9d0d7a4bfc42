//! What the adapter does when this node is slower than Redis: delivery is played by the test.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;
use soundpost_protocol::{
    channel::ChannelName,
    cluster::{
        channel::{Answer, Effect},
        message::Notice,
    },
    presence::NodeId,
    server_frame,
    socket_id::SocketId,
    webhook::event::Encoded,
    websocket::Frame,
};
use soundpost_server::{
    adapter::{
        Adapter, Ask, Broadcast, Cluster, HeardEvent, Hearing, KeptFrame, Subject,
        redis::{Redis, RedisThread},
    },
    apps::{AppIndex, Apps, ChannelKey, UserKey},
};

use super::*;

/// Delivery without connections.
#[derive(Debug, Default)]
struct Ear {
    is_full: AtomicBool,
    acknowledged: AtomicU64,
    heard: Mutex<Vec<String>>,
}

impl Hearing for Ear {
    fn event(&self, _: &Arc<ChannelKey>, event: HeardEvent) {
        assert!(!self.is_full.load(Relaxed), "heard without room");
        let event: Value = serde_json::from_slice(event.frame.payload()).unwrap();
        self.heard.lock().push(event["data"].as_str().unwrap().to_owned());
    }
    fn kept(&self, _: &Arc<ChannelKey>, _: &Frame, _: usize, _: bool) {}
    fn notice(&self, _: &Subject, _: NodeId, _: u64, _: Notice) {}
    fn acknowledged(&self, _: &Subject, ticket: u64) {
        self.acknowledged.store(ticket, Relaxed);
    }
    fn answered(&self, _: &Subject, _: u64, _: Answer, _: Option<KeptFrame>) {}
    fn done(&self, _: &Subject, _: u64) {}
    fn refused(&self, _: &Subject, _: NodeId, _: u64, _: bool) {}
    fn lost(&self) {}
    fn back(&self) {}
    fn renew(&self, _: NodeId) {}
    fn tick(&self) {}
    fn ended(&self, _: NodeId) {}
    fn terminate(&self, _: &UserKey, _: bool) {}
    fn relay_failed(&self, _: SocketId, _: &ChannelKey) {}
    fn note(&self, _: AppIndex, _: &Encoded) {}
    fn has_told(&self, _: AppIndex) {}
    fn has_noted(&self) -> bool {
        false
    }
    fn deliver_here(&self, _: &[Broadcast]) -> bool {
        false
    }
    fn has_room(&self) -> bool {
        !self.is_full.load(Relaxed)
    }
    fn has_left(&self) -> bool {
        true
    }
    fn subjects(&self) -> Vec<Subject> {
        Vec::new()
    }
}

#[test]
fn while_the_workers_have_no_room_nothing_is_read_and_nothing_is_lost() {
    const EVENTS: u64 = 3000;
    let store = Store::start();
    let apps = Arc::new(Apps::new(vec![app("one")], 1));
    let (life, ear) = (NodeId(7), Arc::new(Ear::default()));
    let cluster = Arc::new(Cluster::new(life));
    let redis = Redis::new(redis(&store), Arc::clone(&apps), Arc::clone(&cluster), Arc::clone(&ear) as _);
    let thread = RedisThread::start(redis.clone()).unwrap();
    eventually("redis is reached", || !redis.is_away());
    let running = apps.by_id("app-one").unwrap();
    let name = ChannelName::parse("orders", &running.app.limits).unwrap();
    let key = ChannelKey { app: running.index, name: name.clone() };
    let subject = Subject::Channel(Arc::new(key.clone()));
    cluster.ask(Ask { subject, life, effect: Effect::Subscribe { ticket: 1 }, is_silent: true });
    eventually("the topic is heard", || ear.acknowledged.load(Relaxed) == 1);

    ear.is_full.store(true, Relaxed);
    let adapter = Adapter::Redis(redis.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for number in 0..EVENTS {
        let frame = server_frame::event(&name, "n", &format!("\"{number}\""));
        let broadcast = Broadcast { key: key.clone(), frame, exclude: None, keep: None, told: None };
        let receipt = adapter.publish(&[broadcast]).unwrap().unwrap();
        // Redis takes them, though nothing is read of what comes back.
        runtime.block_on(receipt.confirmed()).unwrap();
    }
    assert_eq!(ear.heard.lock().len(), 0);
    ear.is_full.store(false, Relaxed);
    eventually("all are heard", || ear.heard.lock().len() as u64 == EVENTS);
    let expected: Vec<_> = (0..EVENTS).map(|number| number.to_string()).collect();
    assert_eq!(*ear.heard.lock(), expected);
    assert_eq!((redis.metrics().gaps.value(), redis.metrics().duplicates.value()), (0, 0));
    runtime.block_on(thread.leave());
    assert_eq!(store.say("ZCARD soundpost:0:reverb:{nodes}:lives"), ["0"]);
}
