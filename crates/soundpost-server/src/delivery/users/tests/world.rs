//! Nodes of one worker each over a store, in which everything happens one step after the other.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use soundpost_protocol::{
    app::{App, AppId, AppKey, AppSecret},
    cluster::{
        channel::{Answer, Effect},
        message::Notice,
        share::{Change, Entry, Share},
    },
    presence::{NodeId, UserId},
    socket_id::SocketId,
    user::User,
};

use crate::{
    adapter::{Ask, Cluster, Subject},
    apps::{AppIndex, Apps, UserKey, WorkerId},
    delivery::{ConnectionRef, Delivery, Item, Reach, users::SigningIn},
};

/// What is on its way to a node about a user.
#[derive(Clone, Debug)]
enum Heard {
    Acknowledged(u64),
    Answered(u64, Answer),
    Done(u64),
    Refused(NodeId, u64, bool),
    Notice(NodeId, u64, Notice),
}

/// One node, and its way to the store.
pub(super) struct Node {
    pub(super) delivery: Delivery,
    pub(super) cluster: Arc<Cluster>,
    topics: BTreeSet<String>,
    asks: VecDeque<Ask>,
    /// What comes over the two connections to the store: by topics, and as replies.
    topics_heard: VecDeque<(UserKey, Heard)>,
    replies: VecDeque<(UserKey, Heard)>,
    pub(super) is_alive: bool,
    /// Signed in: each connection with its user.
    pub(super) clients: BTreeMap<u32, User>,
}

/// The share of one life: the number of its last change, and its connections.
type Stored = (u64, Vec<Entry>);

pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    pub(super) app: AppIndex,
    /// By user, then by life.
    pub(super) store: BTreeMap<String, BTreeMap<NodeId, Stored>>,
    tombstones: BTreeSet<NodeId>,
    /// What concerns these users gets no further than to the adapter.
    pub(super) withheld: BTreeSet<String>,
    lives: u64,
    now: Instant,
}

pub(super) fn user(id: &str, watchlist: &[&str]) -> User {
    User {
        id: UserId::from_text(id),
        user_info: None,
        watchlist: watchlist.iter().map(|id| UserId::from_text(id)).collect(),
        watchlist_was_longer: false,
    }
}

pub(super) fn socket_id(n: u32) -> SocketId {
    ConnectionRef::new(n, 1).socket_id(WorkerId(0), u64::from(n) << 40)
}

impl World {
    /// All connected.
    pub(super) fn new(nodes: u64) -> Self {
        let app = App::new(AppId::parse("a").unwrap(), AppKey::parse("k").unwrap(), AppSecret::new("s"));
        let app = Apps::new(vec![app], 1).by_id("a").unwrap().index;
        let node = |life| {
            let cluster = Arc::new(Cluster::new(NodeId(life)));
            cluster.enter();
            let delivery = Delivery::new(1, Reach::Cluster(Arc::clone(&cluster)));
            let (topics, asks, topics_heard, replies, clients) = <_>::default();
            Node { delivery, cluster, topics, asks, topics_heard, replies, is_alive: true, clients }
        };
        let (store, tombstones, withheld) = <_>::default();
        Self {
            nodes: (1..=nodes).map(node).collect(),
            app,
            store,
            tombstones,
            withheld,
            lives: nodes,
            now: Instant::now(),
        }
    }

    pub(super) fn key(&self, user: &str) -> UserKey {
        UserKey { app: self.app, id: UserId::from_text(user) }
    }

    pub(super) fn sign_in(&mut self, node: usize, client: u32, user: &User) {
        self.sign_in_as(node, client, user, true);
    }

    pub(super) fn sign_in_as(&mut self, node: usize, client: u32, user: &User, is_watchable: bool) {
        let (app, now) = (self.app, self.now);
        let node = &mut self.nodes[node];
        let before = node.clients.insert(client, user.clone());
        let signing =
            SigningIn { app, socket_id: socket_id(client), user, before: before.as_ref(), is_watchable, now };
        let told = node.delivery.sign_in(&signing, &mut node.delivery.wakes());
        assert_eq!(told, None, "a node of several tells by the inbox");
    }

    pub(super) fn sign_out(&mut self, node: usize, client: u32) {
        let node = &mut self.nodes[node];
        let user = node.clients.remove(&client).unwrap();
        node.delivery.sign_out(self.app, socket_id(client), &user, self.now);
    }

    /// What clients of a node were told since the last call: `4 +bob -cy`.
    pub(super) fn told(&self, node: usize) -> Vec<String> {
        let mut items = VecDeque::new();
        self.nodes[node].delivery.inboxes.of(WorkerId(0)).take(&mut items);
        let line = |item: &Item| {
            let Item::Tell { connection, frame } = item else { panic!("{item:?}") };
            let (_, name) = ConnectionRef::of(*connection);
            let outer: serde_json::Value = serde_json::from_slice(frame.payload()).unwrap();
            let data: serde_json::Value = serde_json::from_str(outer["data"].as_str().unwrap()).unwrap();
            let mut line = name.parts().0.to_string();
            for group in data["events"].as_array().unwrap() {
                let sign = if group["name"] == "online" { '+' } else { '-' };
                for user in group["user_ids"].as_array().unwrap() {
                    line.extend([" ", &String::from(sign), user.as_str().unwrap()]);
                }
            }
            line
        };
        items.iter().map(line).collect()
    }

    /// Lets so much time pass, on all nodes.
    pub(super) fn pass(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
        for node in self.nodes.iter().filter(|node| node.is_alive) {
            for due in node.delivery.ticker.take(self.now) {
                node.delivery.come_due(&due, self.now);
            }
            node.delivery.tick_users(self.now);
        }
    }

    /// Until nothing is on its way.
    pub(super) fn run(&mut self) {
        for _ in 0..10_000 {
            let steps: Vec<bool> = (0..self.nodes.len()).map(|node| self.step(node)).collect();
            if !steps.contains(&true) {
                return;
            }
        }
        panic!("it never ends");
    }

    /// One thing on its way to a node or from it; false if there is none.
    pub(super) fn step(&mut self, at: usize) -> bool {
        (0..3).any(|way| self.step_on(at, way))
    }

    /// One thing on one of the ways: the topics (0), the replies (1), and what is asked.
    pub(super) fn step_on(&mut self, at: usize, way: usize) -> bool {
        let node = &mut self.nodes[at];
        if !node.is_alive || node.cluster.is_away() {
            return false;
        }
        if let Some(over) = node.cluster.take_renounced() {
            if over == node.cluster.life() {
                self.renew(at);
            }
            return true;
        }
        let heard = match way {
            0 => node.topics_heard.pop_front(),
            1 => node.replies.pop_front(),
            _ => return self.ask(at),
        };
        let Some((key, heard)) = heard else { return false };
        self.hear(at, &key, heard);
        true
    }

    fn hear(&self, at: usize, key: &UserKey, heard: Heard) {
        let (delivery, now) = (&self.nodes[at].delivery, self.now);
        match heard {
            Heard::Acknowledged(ticket) => delivery.user_acknowledged(key, ticket, now),
            Heard::Answered(ticket, answer) => delivery.user_answered(key, ticket, answer, now),
            Heard::Done(sequence) => delivery.user_done(key, sequence, now),
            Heard::Refused(life, sequence, is_over) => {
                delivery.user_refused(key, life, sequence, is_over, now);
            }
            Heard::Notice(life, sequence, notice) => delivery.hear_user(key, life, sequence, notice, now),
        }
    }

    /// Lets the store do one thing the node has asked for.
    fn ask(&mut self, at: usize) -> bool {
        let mut asked = VecDeque::new();
        self.nodes[at].cluster.take(&mut asked);
        self.nodes[at].asks.extend(asked);
        let is_free = |ask: &Ask| !self.withheld.contains(ask.user().id.as_str());
        let Some(next) = self.nodes[at].asks.iter().position(is_free) else { return false };
        let ask = self.nodes[at].asks.remove(next).unwrap();
        if let Some(reply) = self.execute(at, &ask) {
            self.nodes[at].replies.push_back((ask.user().clone(), reply));
        }
        true
    }

    fn execute(&mut self, at: usize, ask: &Ask) -> Option<Heard> {
        let (key, life) = (ask.user(), ask.life);
        let user = key.id.as_str();
        match ask.effect.clone() {
            Effect::Subscribe { ticket } => {
                let node = &mut self.nodes[at];
                node.topics.insert(user.to_owned());
                node.topics_heard.push_back((key.clone(), Heard::Acknowledged(ticket)));
                None
            }
            Effect::Unsubscribe => {
                self.nodes[at].topics.remove(user);
                None
            }
            Effect::Read { ticket, known } => {
                let (shares, over) = (self.shares(user, life), self.over(known));
                Some(Heard::Answered(ticket, Answer { shares, over }))
            }
            Effect::Change { sequence, .. } | Effect::Replace { sequence, .. }
                if self.tombstones.contains(&life) =>
            {
                Some(Heard::Refused(life, sequence, true))
            }
            Effect::Change { sequence, follows, change } => {
                Some(self.change(key, life, sequence, follows, change))
            }
            Effect::Replace { sequence, predecessors, entries, known, .. } => {
                let over = self.over(known);
                let mut replaced = self.replace(key, life, sequence, predecessors, entries);
                if let Heard::Answered(_, answer) = &mut replaced {
                    answer.over = over;
                }
                Some(replaced)
            }
            Effect::Enter { .. }
            | Effect::Refuse { .. }
            | Effect::Tell(_)
            | Effect::Count(_)
            | Effect::Keep
            | Effect::Renew(_) => panic!("{ask:?}"),
        }
    }

    fn change(&mut self, key: &UserKey, life: NodeId, sequence: u64, follows: u64, change: Change) -> Heard {
        let shares = self.store.entry(key.id.as_str().to_owned()).or_default();
        let (last, entries) = shares.entry(life).or_default();
        if sequence <= *last || !(follows == *last || (follows == 0 && entries.is_empty())) {
            return Heard::Refused(life, sequence, false);
        }
        match &change {
            Change::Join(entry) => entries.push(entry.clone()),
            Change::Leave { socket_id, .. } => entries.retain(|entry| entry.socket_id != *socket_id),
            Change::Describe(_) | Change::Count(_) => panic!("{change:?}"),
        }
        *last = sequence;
        self.publish(key, life, sequence, &Notice::Change { follows, change });
        Heard::Done(sequence)
    }

    fn replace(
        &mut self,
        key: &UserKey,
        life: NodeId,
        sequence: u64,
        predecessors: Vec<NodeId>,
        entries: Vec<Entry>,
    ) -> Heard {
        let shares = self.store.entry(key.id.as_str().to_owned()).or_default();
        shares.remove(&life);
        for predecessor in &predecessors {
            shares.remove(predecessor);
            self.tombstones.insert(*predecessor);
        }
        shares.insert(life, (sequence, entries.clone()));
        let count = u32::try_from(entries.len()).unwrap();
        let notice = Notice::Replace { predecessors, count, entries: Some(entries) };
        self.publish(key, life, sequence, &notice);
        let shares = self.shares(key.id.as_str(), life);
        Heard::Answered(sequence, Answer { shares, over: Vec::new() })
    }

    fn over(&self, mut known: Vec<NodeId>) -> Vec<NodeId> {
        known.retain(|life| self.tombstones.contains(life));
        known
    }

    fn shares(&self, user: &str, own: NodeId) -> Vec<Share> {
        let shares = self.store.get(user).into_iter().flatten();
        let shares = shares.filter(|(life, (_, entries))| **life == own || !entries.is_empty());
        let share = |(life, (sequence, entries)): (&NodeId, &Stored)| {
            let (count, entries) = (u32::try_from(entries.len()).unwrap(), entries.clone());
            Share { life: *life, sequence: *sequence, entries, count, may_live: true }
        };
        shares.map(share).collect()
    }

    fn publish(&mut self, key: &UserKey, life: NodeId, sequence: u64, notice: &Notice) {
        for node in self.nodes.iter_mut().filter(|node| node.topics.contains(key.id.as_str())) {
            node.topics_heard.push_back((key.clone(), Heard::Notice(life, sequence, notice.clone())));
        }
    }

    /// The others have found a life dead.
    pub(super) fn reap(&mut self, life: NodeId, by: NodeId) {
        self.tombstones.insert(life);
        let users: Vec<String> = self.store.keys().cloned().collect();
        for user in users {
            if self.store.get_mut(&user).unwrap().remove(&life).is_some() {
                self.publish(&self.key(&user), by, 0, &Notice::Gone(life));
            }
        }
    }

    /// The node ends without a word, and the others find that out.
    pub(super) fn kill(&mut self, at: usize) {
        self.nodes[at].is_alive = false;
        self.disconnect(at);
        let life = self.nodes[at].cluster.life();
        self.reap(life, NodeId(0));
    }

    pub(super) fn disconnect(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.cluster.leave();
        node.topics.clear();
        node.asks.clear();
        node.topics_heard.clear();
        node.replies.clear();
        if node.is_alive {
            node.delivery.users_lost(self.now);
        }
    }

    pub(super) fn connect(&mut self, at: usize) {
        let node = &self.nodes[at];
        node.cluster.enter();
        node.delivery.users_back(self.now);
    }

    /// Another life for the whole node.
    pub(super) fn renew(&mut self, at: usize) {
        self.lives += 1;
        let (life, node) = (NodeId(self.lives), &mut self.nodes[at]);
        node.cluster.renew(life);
        node.delivery.renew_users(life, self.now);
        if !node.cluster.is_away() {
            node.delivery.users_back(self.now);
        }
    }
}

impl Ask {
    fn user(&self) -> &UserKey {
        let Subject::User(key) = &self.subject else { panic!("{self:?}") };
        key
    }
}
