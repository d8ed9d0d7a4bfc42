//! Two nodes over one store, and their clients as they see the channels.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::NonZeroU32,
};

use soundpost_protocol::{
    app::{App, AppId, AppKey, AppSecret, Limits},
    channel::ChannelName,
    presence::Member,
    websocket::Frame,
};

use super::store::{Heard, Reply, Store};
use crate::{
    adapter::{Ask, Broadcast, Cluster, HeardEvent, Hearing, Keep},
    apps::{AppIndex, Apps, WorkerId},
    delivery::{Hears, Joiner, Joining, Leaving, Reach},
};

use super::{AHEAD, *};

/// A client on one channel.
#[derive(Debug)]
pub(super) struct Client {
    joiner: Joiner,
    key: Arc<ChannelKey>,
    user: Option<String>,
    ticket: u32,
    /// The version of the roster it knows, once it has entered.
    version: Option<u64>,
    /// Who it believes is there.
    pub(super) view: BTreeSet<String>,
    /// Answers to its subscribes.
    pub(super) successes: u32,
    /// What it has been told, but who is there.
    pub(super) heard: Vec<String>,
}

/// Names a client: a node's, and which of its connections.
pub(super) type Name = (usize, u32);

pub(super) struct Node {
    pub(super) delivery: Delivery,
    pub(super) cluster: Arc<Cluster>,
    cache: Arc<Cache>,
    pub(super) clients: BTreeMap<(u32, String), Client>,
    /// Asked of the store and not carried out yet: commands, and what concerns topics.
    commands: VecDeque<Ask>,
    topics: VecDeque<Ask>,
    pub(super) replies: VecDeque<Reply>,
    pub(super) is_connected: bool,
    /// Who was let in no more, how often that was said, and why.
    pub(super) refused: Vec<(u32, u32, SubscriptionFailure)>,
    pub(super) failed: Vec<String>,
    tickets: u32,
}

pub(super) struct World {
    pub(super) nodes: [Node; 2],
    pub(super) store: Store,
    pub(super) app: AppIndex,
    pub(super) tells_count: bool,
    /// Whose own events are delivered there before they are published.
    pub(super) delivers_first: Option<usize>,
    pub(super) hold: Duration,
    pub(super) members_max: Option<NonZeroU32>,
    /// Nobody of those who leave need tell the others.
    pub(super) is_quiet: bool,
}

fn text(frame: &Frame) -> serde_json::Value {
    serde_json::from_slice(frame.payload()).unwrap()
}

fn data(frame: &Frame) -> serde_json::Value {
    let text = text(frame);
    let data = &text["data"];
    data.as_str().map_or_else(|| data.clone(), |data| serde_json::from_str(data).unwrap_or(data.into()))
}

impl Node {
    fn new(life: u64) -> Self {
        let cluster = Arc::new(Cluster::new(NodeId(life)));
        cluster.enter();
        Self {
            delivery: Delivery::new(2, Reach::Cluster(Arc::clone(&cluster))),
            cluster,
            cache: Arc::new(Cache::new(10_000, Duration::from_secs(60))),
            clients: BTreeMap::new(),
            commands: VecDeque::new(),
            topics: VecDeque::new(),
            replies: VecDeque::new(),
            is_connected: true,
            refused: Vec::new(),
            failed: Vec::new(),
            tickets: 0,
        }
    }

    /// What delivery has asked for, in the two lanes in which it travels.
    pub(super) fn collect(&mut self) {
        let mut asks = VecDeque::new();
        self.cluster.take(&mut asks);
        // Channels are visited in an order that differs from run to run, and histories must not.
        let name = |ask: &Ask| match &ask.subject {
            Subject::Channel(key) => key.name.as_str().to_owned(),
            Subject::User(key) => key.id.as_str().to_owned(),
        };
        asks.make_contiguous().sort_by_key(name);
        for ask in asks {
            let is_topic = matches!(ask.effect, Effect::Subscribe { .. } | Effect::Unsubscribe);
            if is_topic { &mut self.topics } else { &mut self.commands }.push_back(ask);
        }
    }

    /// Takes up what is in a worker's inbox, as its hub does.
    pub(super) fn work(&mut self, worker: u8) {
        let mut items = VecDeque::new();
        self.delivery.inboxes.of(WorkerId(worker)).take(&mut items);
        for item in items {
            self.take_up(WorkerId(worker), item);
        }
    }

    fn take_up(&mut self, worker: WorkerId, item: Item) {
        let Self { delivery, clients, .. } = self;
        let on = |key: &ChannelKey, client: &&mut Client| {
            client.joiner.worker == worker && *client.key == *key && client.version.is_some()
        };
        match item {
            Item::Join { connection, ticket, cached } => {
                let is_it =
                    |client: &&mut Client| (client.joiner.connection, client.ticket) == (connection, ticket);
                let Some(client) = clients.values_mut().find(is_it) else { return };
                client.see_roster(delivery);
                client.heard.extend(cached.map(|frame| format!("cached {}", data(&frame))));
            }
            Item::Rejoin { connection, channel } => {
                let on =
                    |client: &&mut Client| on(&channel, client) && client.joiner.connection == connection;
                let Some(client) = clients.values_mut().find(on) else { return };
                client.see_roster(delivery);
            }
            Item::Notice { channel, frame, roster_version } => {
                let name = text(&frame)["event"].as_str().unwrap().rsplit('_').next().unwrap().to_owned();
                let user = data(&frame)["user_id"].as_str().unwrap().to_owned();
                for client in clients.values_mut().filter(|client| on(&channel, client)) {
                    if client.version.unwrap() < roster_version {
                        assert_ne!(client.user.as_ref(), Some(&user), "nobody hears of itself");
                        let is_news = match name.as_str() {
                            "added" => client.view.insert(user.clone()),
                            _ => client.view.remove(&user),
                        };
                        assert!(is_news, "{name} {user} again");
                        client.heard.push(format!("{name} {user}"));
                    }
                }
            }
            Item::Event { channel, frame, exclude } => {
                for client in clients.values_mut().filter(|client| on(&channel, client)) {
                    if exclude != Some(client.joiner.socket_id) {
                        client.heard.push(data(&frame).to_string());
                    }
                }
            }
            Item::Refuse { connection, ticket, channel } => {
                let Some(refusal) = delivery.take_refusal(&channel, connection, ticket) else { return };
                let name = clients
                    .iter()
                    .find(|(_, client)| client.joiner.socket_id == connection && client.key == channel);
                let name = name.unwrap().0.clone();
                assert!(clients.remove(&name).unwrap().version.is_none(), "refused though it had entered");
                self.refused.push((name.0, refusal.answers, refusal.failure));
            }
            Item::RelayFailed { channel, .. } => self.failed.push(channel.as_str().to_owned()),
            Item::Admit | Item::Tell { .. } | Item::Terminate { .. } => {}
        }
    }
}

impl Client {
    fn see_roster(&mut self, delivery: &Delivery) {
        self.successes += 1;
        self.version = Some(0);
        if let Some((version, frame)) = delivery.directory.roster_frame(&self.key) {
            let ids = data(&frame)["presence"]["ids"].clone();
            self.view = ids.as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect();
            assert!(self.view.contains(self.user.as_ref().unwrap()), "it sees itself");
            self.version = Some(version);
        }
    }

    pub(super) fn key(&self) -> &ChannelKey {
        &self.key
    }

    pub(super) const fn has_entered(&self) -> bool {
        self.version.is_some()
    }
}

impl World {
    pub(super) fn new() -> Self {
        let app = App::new(AppId::parse("a").unwrap(), AppKey::parse("k").unwrap(), AppSecret::new("s"));
        let app = Apps::new(vec![app], 1).by_id("a").unwrap().index;
        let nodes = [Node::new(1), Node::new(2)];
        let hold = Duration::ZERO;
        Self {
            nodes,
            store: Store::default(),
            app,
            tells_count: false,
            delivers_first: None,
            hold,
            members_max: None,
            is_quiet: false,
        }
    }

    pub(super) fn key(&self, name: &str) -> ChannelKey {
        ChannelKey { app: self.app, name: ChannelName::parse(name, &Limits::default()).unwrap() }
    }

    pub(super) fn joiner((node, n): Name) -> Joiner {
        let worker = WorkerId(u8::try_from(n % 2).unwrap());
        let connection = ConnectionRef::new(n, 1);
        Joiner { worker, connection, socket_id: connection.socket_id(worker, node as u64 * 2 + 1) }
    }

    fn member(user: &str, info: &str) -> Arc<Member> {
        Arc::new(Member { user_id: UserId::from_text(user), user_info: Some(info.into()) })
    }

    /// A client subscribes, or subscribes once more.
    pub(super) fn join(
        &mut self,
        name: Name,
        channel: &str,
        user: Option<&str>,
    ) -> Result<(), SubscriptionFailure> {
        let (key, joiner, members_max) = (self.key(channel), Self::joiner(name), self.members_max);
        let tells_count = self.tells_count;
        let node = &mut self.nodes[name.0];
        let mut wakes = node.delivery.wakes();
        node.tickets += 1;
        let ticket = node.tickets;
        if let Some(client) = node.clients.get(&(name.1, channel.to_owned())) {
            let info = format!(r#"{{"at":{ticket}}}"#);
            let member = user.map(|user| Self::member(user, &info));
            return node.delivery.rejoin(joiner, &client.key, member.as_ref(), &mut wakes);
        }
        let joining =
            |user| Joining { member: Self::member(user, "{}"), joined_at: u64::from(ticket), members_max };
        let company = Company { cache: &node.cache, tells_count, hears: Hears::EVERYTHING };
        let joined = node.delivery.join(joiner, key, ticket, user.map(joining), company, &mut wakes);
        drop(wakes);
        let client = Client {
            joiner,
            key: joined?,
            user: user.map(str::to_owned),
            ticket,
            version: None,
            view: BTreeSet::new(),
            successes: 0,
            heard: Vec::new(),
        };
        node.clients.insert((name.1, channel.to_owned()), client);
        Ok(())
    }

    pub(super) fn leave(&mut self, name: Name, channel: &str) {
        let node = &mut self.nodes[name.0];
        let client = node.clients.remove(&(name.1, channel.to_owned())).unwrap();
        let user_id = client.user.as_deref().map(UserId::from_text);
        let (hold, tells_count) = (self.hold, self.tells_count);
        let is_quiet = self.is_quiet;
        let leaving =
            Leaving { user_id: user_id.as_ref(), is_quiet, hold, tells_count, hears: Hears::EVERYTHING };
        node.delivery.leave(client.joiner, &client.key, &leaving, &mut node.delivery.wakes());
    }

    pub(super) fn publish(&mut self, channel: &str, data: &str, exclude: Option<Name>) {
        let key = self.key(channel);
        let frame = server_frame::event(&key.name, "e", data);
        let keep = key.name.kind().is_cache().then_some(data.len());
        let exclude = exclude.map(|name| Self::joiner(name).socket_id);
        if let Some(node) = self.delivers_first.and_then(|node| self.nodes.get(node)) {
            let keep = keep.map(|data_bytes| Keep { data_bytes, cache: Arc::clone(&node.cache) });
            let broadcast = Broadcast { key: key.clone(), frame: frame.clone(), exclude, keep, told: None };
            assert!(node.delivery.deliver_here(&[broadcast]));
        }
        self.store.publish_event(&key, HeardEvent { frame, exclude, keep });
    }

    /// One command of a node is executed. False if there is none.
    pub(super) fn command(&mut self, node: usize) -> bool {
        self.nodes[node].collect();
        let Some(ask) = self.nodes[node].commands.pop_front() else { return false };
        let reply = self.store.execute(node, ask);
        self.nodes[node].replies.extend(reply);
        true
    }

    /// A node asks for a topic or gives one up.
    pub(super) fn subscribe(&mut self, node: usize) -> bool {
        self.nodes[node].collect();
        let Some(ask) = self.nodes[node].topics.pop_front() else { return false };
        self.store.execute(node, ask).is_none()
    }

    /// A node hears one thing on its topics.
    pub(super) fn hear(&mut self, node: usize) -> bool {
        let Some(heard) = self.store.streams[node].pop_front() else { return false };
        let delivery = &self.nodes[node].delivery;
        match heard {
            Heard::Topic(subject, ticket) => delivery.acknowledged(&subject, ticket),
            Heard::Notice(subject, life, sequence, notice) => {
                delivery.notice(&subject, life, sequence, notice);
            }
            // As where `local_first` has it delivered already.
            Heard::Event(Subject::Channel(key), event) if self.delivers_first == Some(node) => {
                event.keep.iter().for_each(|bytes| delivery.kept(&key, &event.frame, *bytes, true));
            }
            Heard::Event(Subject::Channel(key), event) => delivery.event(&key, event),
            Heard::Event(Subject::User(_), _) => panic!("users have no events"),
        }
        true
    }

    /// A node gets one reply.
    pub(super) fn reply(&mut self, node: usize) -> bool {
        let node = &mut self.nodes[node];
        let Some(reply) = node.replies.pop_front() else { return false };
        match reply {
            Reply::Done(subject, sequence) => node.delivery.done(&subject, sequence),
            Reply::Refused(subject, life, sequence, is_over) => {
                node.delivery.refused(&subject, life, sequence, is_over);
            }
            Reply::Answer(subject, ticket, answer, kept) => {
                node.delivery.answered(&subject, ticket, answer, kept);
            }
        }
        true
    }

    /// Everything travels until nothing is left on its way.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut has_moved = false;
            for node in 0..2 {
                has_moved |= self.subscribe(node) | self.command(node) | self.hear(node) | self.reply(node);
            }
            if !has_moved {
                self.nodes.iter_mut().for_each(|node| (0..2).for_each(|worker| node.work(worker)));
                return;
            }
        }
        panic!("it never ends");
    }

    pub(super) fn lose(&mut self, node: usize) {
        self.store.disconnect(node);
        let node = &mut self.nodes[node];
        node.is_connected = false;
        node.cluster.leave();
        node.delivery.lost();
        node.commands.clear();
        node.topics.clear();
        node.replies.clear();
    }

    pub(super) fn find(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.is_connected = true;
        node.cluster.enter();
        node.delivery.back();
    }

    pub(super) fn renew(&mut self, node: usize, life: u64) {
        let node = &mut self.nodes[node];
        node.cluster.renew(NodeId(life));
        Hearing::renew(&node.delivery, NodeId(life));
        if node.is_connected {
            node.delivery.back();
        }
    }

    /// What is due after so many seconds is done, and what comes of it.
    pub(super) fn pass(&mut self, seconds: u64) {
        AHEAD.set(AHEAD.get() + Duration::from_secs(seconds));
        let then = now();
        for node in &self.nodes {
            node.delivery.tick_channels(then);
            for due in node.delivery.ticker.take(then) {
                node.delivery.come_due(&due, then);
            }
        }
        self.settle();
    }

    pub(super) fn client(&self, name: Name, channel: &str) -> &Client {
        &self.nodes[name.0].clients[&(name.1, channel.to_owned())]
    }

    /// What a client has heard since it was asked last.
    pub(super) fn heard(&mut self, name: Name, channel: &str) -> Vec<String> {
        let client = self.nodes[name.0].clients.get_mut(&(name.1, channel.to_owned())).unwrap();
        std::mem::take(&mut client.heard)
    }

    pub(super) fn views(&self, channel: &str) -> Vec<Vec<&str>> {
        let clients = self.nodes.iter().flat_map(|node| &node.clients);
        let clients = clients.filter(|((_, on), client)| on == channel && client.has_entered());
        clients.map(|(_, client)| client.view.iter().map(String::as_str).collect()).collect()
    }

    /// Once all clients have gone nothing is left of any channel, here or there.
    pub(super) fn assert_empty(&mut self) {
        for name in [0, 1] {
            let here: Vec<_> = self.nodes[name].clients.keys().cloned().collect();
            here.into_iter().for_each(|(n, channel)| self.leave((name, n), &channel));
        }
        self.settle();
        for seconds in [10, 20, 30] {
            self.pass(seconds);
        }
        for node in &self.nodes {
            assert!(node.delivery.has_left(), "{:?}", node.delivery.subjects());
            for shard in node.delivery.directory.shards() {
                assert!(shard.keys().is_empty(), "{:?}", shard.keys());
                assert!(shard.restless().is_empty());
            }
            assert!(node.delivery.ticker.next().is_none());
        }
        for topic in self.store.topics.values() {
            assert_eq!((topic.connections(), topic.heard_by.len()), (0, 0));
        }
    }
}
