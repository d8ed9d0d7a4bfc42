//! Three nodes, one store, and everything that may go wrong between them, in virtual milliseconds.

mod happenings;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::Arc,
    time::Instant,
};

use soundpost_protocol::{
    presence::{Member, NodeId},
    socket_id::SocketId,
};

use crate::{
    node::{Ask, Client, Kind, Node},
    random::Random,
    redis::{Command, Data, Published, Redis, Reply},
};

const NODES: usize = 3;
const USERS: u64 = 4;
const TICK: u64 = 250;
const BEAT: u64 = 2000;

/// What may go wrong in a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Nodes are killed.
    pub(crate) kills: bool,
    /// Nodes stop for a while and go on.
    pub(crate) pauses: bool,
    /// Connections to the store break, aloud or in silence.
    pub(crate) breaks: bool,
    /// The store stops for a while and goes on.
    pub(crate) stalls: bool,
    /// The store ends and comes back with its data, with old data or without.
    pub(crate) restarts: bool,
    /// Single notices are lost.
    pub(crate) gaps: bool,
}

impl Faults {
    pub(crate) fn of(random: &mut Random) -> Self {
        let mut faults = Self::default();
        match random.below(10) {
            0 => {}
            1 | 2 => faults.kills = true,
            3 => faults.pauses = true,
            4 => faults.restarts = true,
            _ => {
                faults = Self {
                    kills: random.chance(40),
                    pauses: random.chance(40),
                    breaks: random.chance(50),
                    stalls: random.chance(30),
                    restarts: random.chance(40),
                    gaps: random.chance(15),
                }
            }
        }
        faults
    }

    /// Whether nothing but the store ends.
    pub(crate) fn spare_nodes(self) -> bool {
        !(self.kills || self.pauses || self.breaks || self.stalls || self.gaps)
    }

    /// Whether the connections to the store hold, but for those of nodes that are killed.
    pub(crate) fn spare_connections(self) -> bool {
        !(self.pauses || self.breaks || self.stalls || self.restarts || self.gaps)
    }
}

#[derive(Clone, Debug)]
enum Event {
    Arrive(u64, Command),
    ArriveTopic(u64, Option<u64>),
    Replied(u64, Reply),
    Acknowledged(u64, u64),
    Pushed(u64, Published),
    /// Of the process with this number.
    Tick(usize, u64),
    Beat(usize, u64),
    Connect(usize, u64),
    Act,
    Fault,
    StoreBack(u64),
    Start(usize),
    /// The members of a node that was killed should be gone everywhere.
    Gone(NodeId),
    /// A user whose node was killed is back, at another one.
    Return(SocketId, Arc<Member>),
}

#[derive(Debug, Default)]
struct Connection {
    node: usize,
    process: u64,
    hears_topic: bool,
    /// Commands that arrive later are lost.
    executes_until: Option<u64>,
    /// Nothing comes from the store any more, and the node has not noticed.
    is_mute: bool,
    /// Nothing comes on the topics.
    is_deaf: bool,
    last: [u64; 4],
}

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) faults: Faults,
    pub(crate) kind: Kind,
    pub(crate) now: u64,
    base: Instant,
    pub(crate) redis: Redis,
    pub(crate) nodes: Vec<Node>,
    processes: Vec<u64>,
    connections: BTreeMap<u64, Connection>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, (usize, Event)>,
    pushed: u64,
    pub(crate) is_settling: bool,
    /// When the store went away last.
    away_at: u64,
    /// The store has come back with old data or without.
    pub(crate) is_forgotten: bool,
    snapshot: Data,
    sockets: u64,
    lives: u64,
    pub(crate) members: Vec<[Arc<Member>; 2]>,
    /// Users who came back in time and must not be announced as gone.
    guarded: BTreeSet<String>,
    /// Those who may yet: their socket, and until when.
    returning: BTreeMap<SocketId, u64>,
    pub(crate) killed: Vec<(NodeId, u64)>,
    pub(crate) trace: bool,
    pub(crate) largest_kept: usize,
    pub(crate) count: Counted,
}

/// What happened, so that a run can show that it tried something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) kills: u64,
    pub(crate) pauses: u64,
    pub(crate) breaks: u64,
    pub(crate) stalls: u64,
    pub(crate) restarts: u64,
    pub(crate) lost: u64,
    pub(crate) told: u64,
    pub(crate) refused: u64,
    pub(crate) guarded: u64,
    pub(crate) events: u64,
}

impl World {
    pub(crate) fn new(seed: u64, base: Instant, members: Vec<[Arc<Member>; 2]>, trace: bool) -> Self {
        let mut random = Random(seed);
        let faults = Faults::of(&mut random);
        let kind = match random.below(10) {
            0 => Kind::Plain,
            1 | 2 => Kind::User,
            _ => Kind::Presence,
        };
        let mut world = Self {
            random,
            faults,
            kind,
            now: 0,
            base,
            redis: Redis { is_up: true, ..Redis::default() },
            nodes: Vec::new(),
            processes: vec![0; NODES],
            connections: BTreeMap::new(),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            pushed: 0,
            is_settling: false,
            away_at: 0,
            is_forgotten: false,
            snapshot: Data::default(),
            sockets: 0,
            lives: 0,
            members,
            guarded: BTreeSet::new(),
            returning: BTreeMap::new(),
            killed: Vec::new(),
            trace,
            largest_kept: 0,
            count: Counted::default(),
        };
        for node in 0..NODES {
            let life = world.new_life();
            world.nodes.push(Node::new(life, kind, 0, trace));
            world.start(node);
        }
        for _ in 0..world.random.between(10, 50) {
            let time = world.random.between(100, 15_000);
            world.push(time, NODES, Event::Act);
        }
        if faults != Faults::default() {
            for _ in 0..world.random.between(1, 5) {
                let time = world.random.between(1000, 14_000);
                world.push(time, NODES, Event::Fault);
            }
        }
        world
    }

    fn new_life(&mut self) -> NodeId {
        // Renewed lives count up from here by ten.
        self.lives += 1;
        NodeId(self.lives * 1000 + self.random.below(10))
    }

    fn start(&mut self, node: usize) {
        let process = self.processes[node];
        let (now, offset) = (self.now, self.random.below(TICK));
        self.push(now + self.random.clone().below(50), node, Event::Connect(node, process));
        self.push(now + offset, node, Event::Tick(node, process));
        let offset = self.random.below(BEAT);
        self.push(now + offset, node, Event::Beat(node, process));
    }

    fn push(&mut self, time: u64, node: usize, event: Event) {
        self.pushed += 1;
        self.queue.push(Reverse((time.max(self.now), self.pushed)));
        self.events.insert(self.pushed, (node, event));
    }

    pub(crate) fn log(&self, text: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>6} {}", self.now, text());
        }
    }

    pub(crate) fn run_until(&mut self, end: u64) {
        while let Some(Reverse((time, number))) = self.queue.peek().copied() {
            if time > end {
                break;
            }
            self.queue.pop();
            self.now = time;
            self.count.events += 1;
            let (node, event) = self.events.remove(&number).expect("queued");
            // What a stopped process should see waits for it; what is on its way elsewhere does not.
            if let Some(paused) = self.nodes.get(node).filter(|node| node.paused_until > time) {
                let until = paused.paused_until;
                self.push(until, node, event);
                continue;
            }
            self.happen(event);
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(connection, command) => self.arrive(connection, command),
            Event::ArriveTopic(connection, ticket) => self.arrive_topic(connection, ticket),
            Event::Replied(connection, reply) => {
                if let Some(node) = self.hearer(connection) {
                    self.nodes[node].replied(self.base, self.now, reply);
                    self.attend(node);
                }
            }
            Event::Acknowledged(connection, ticket) => {
                if let Some(node) = self.hearer(connection) {
                    self.nodes[node].acknowledged(self.base, self.now, ticket);
                    self.attend(node);
                }
            }
            Event::Pushed(connection, published) => {
                if let Some(node) = self.hearer(connection) {
                    self.nodes[node].published(self.base, self.now, published);
                    self.attend(node);
                }
            }
            Event::Tick(node, process) => {
                if self.is_running(node, process) {
                    self.nodes[node].tick(self.base, self.now);
                    self.attend(node);
                    self.push(self.now + TICK, node, Event::Tick(node, process));
                }
            }
            Event::Beat(node, process) => {
                if self.is_running(node, process) {
                    self.nodes[node].beat(self.base, self.now);
                    self.attend(node);
                    self.push(self.now + BEAT, node, Event::Beat(node, process));
                }
            }
            Event::Connect(node, process) => self.connect(node, process),
            Event::Act => self.act(),
            Event::Fault => self.fault(),
            Event::StoreBack(how) => self.store_back(how),
            Event::Start(node) => {
                let life = self.new_life();
                self.log(|| format!("node {node} starts as {life:?}"));
                self.nodes[node] = Node::new(life, self.kind, self.now, self.trace);
                self.start(node);
            }
            Event::Gone(life) => self.check_gone(life),
            Event::Return(socket_id, member) => self.return_user(socket_id, &member),
        }
    }

    fn is_running(&self, node: usize, process: u64) -> bool {
        self.nodes[node].is_alive && self.processes[node] == process
    }

    /// The node that hears what comes on a connection, if it has not closed it.
    fn hearer(&self, id: u64) -> Option<usize> {
        let connection = self.connections.get(&id)?;
        let node = &self.nodes[connection.node];
        let is_open = node.is_connected && node.connection == id;
        (is_open && self.is_running(connection.node, connection.process)).then_some(connection.node)
    }

    fn connect(&mut self, node: usize, process: u64) {
        if !self.is_running(node, process) || self.nodes[node].is_connected {
            return;
        }
        if !self.redis.is_up || self.redis.stalled_until > self.now {
            return self.reconnect(node);
        }
        self.pushed += 1;
        let id = self.pushed;
        self.connections.insert(id, Connection { node, process, ..Connection::default() });
        self.nodes[node].connection = id;
        self.log(|| format!("node {node} connects"));
        self.nodes[node].connected(self.base, self.now, self.redis.run);
        self.attend(node);
    }

    fn reconnect(&mut self, node: usize) {
        let time = self.now + self.random.between(50, 500);
        self.push(time, node, Event::Connect(node, self.processes[node]));
    }

    /// When something sent on one of the four ways of a connection arrives; never before what was sent earlier.
    fn arrival(&mut self, id: u64, way: usize) -> u64 {
        let slow = if self.random.chance(5) { 200 } else { 10 };
        let delay = 1 + self.random.below(slow);
        let connection = self.connections.get_mut(&id).expect("only open connections are written to");
        let time = (self.now + delay).max(connection.last[way]);
        connection.last[way] = time;
        time
    }

    /// Does what a node asks for, and writes down what it said.
    fn attend(&mut self, node: usize) {
        if let Some(trace) = &mut self.nodes[node].trace {
            for line in std::mem::take(trace) {
                println!("{:>6} node {node}:{line}", self.now);
            }
        }
        self.largest_kept = self.largest_kept.max(self.nodes[node].largest_kept);
        self.count.refused += std::mem::take(&mut self.nodes[node].refused).len() as u64;
        for (user, is_added) in std::mem::take(&mut self.nodes[node].told) {
            self.count.told += 1;
            assert!(
                is_added || !self.guarded.contains(&user),
                "{user} came back in time, but is announced as gone"
            );
            assert!(is_added || !self.is_known(node, &user), "{user} is announced as gone, but never went");
        }
        for ask in std::mem::take(&mut self.nodes[node].asks) {
            let id = self.nodes[node].connection;
            match ask {
                Ask::Send(command) => {
                    let time = self.arrival(id, 0);
                    self.nodes[node].unanswered.push_back(self.now);
                    self.push(time, NODES, Event::Arrive(id, command));
                }
                Ask::Subscribe { ticket } => {
                    let time = self.arrival(id, 1);
                    self.push(time, NODES, Event::ArriveTopic(id, Some(ticket)));
                }
                Ask::Unsubscribe => {
                    let time = self.arrival(id, 1);
                    self.push(time, NODES, Event::ArriveTopic(id, None));
                }
                Ask::Disconnect => {
                    self.log(|| format!("node {node} notices that its connection is dead"));
                    self.break_connection(node);
                }
            }
        }
        self.check_returning(node);
    }

    /// Whether a user has been on the channel since before the store went away, once, and the node, too.
    fn is_known(&self, node: usize, user: &str) -> bool {
        let is_old = |client: &&Client| client.view.is_some() && client.entered_at + 500 < self.away_at;
        let clients = self.nodes.iter().flat_map(|node| node.clients.values());
        let is_user = |client: &Client| !client.is_observer && client.member.user_id.as_str() == user;
        let has_old = self.nodes[node].clients.values().any(|client| is_old(&client));
        self.faults.spare_nodes()
            && self.count.restarts == 1
            && has_old
            && clients.filter(is_old).any(is_user)
    }

    /// Whether a member has been on the channel since before the store went away.
    fn is_settled(&self, client: &Client) -> bool {
        !client.is_observer && client.view.is_some() && client.entered_at + 500 < self.away_at
    }

    /// Where one node is killed and nothing else happens, its members are gone in time.
    fn check_gone(&self, dead: NodeId) {
        if self.faults.spare_connections() && self.killed.len() == 1 {
            for channel in self.nodes.iter().filter_map(|node| node.channel.as_ref()) {
                assert!(channel.lives().all(|life| life != dead), "{dead:?} is still shown");
            }
        }
    }

    fn check_returning(&mut self, node: usize) {
        let entered: Vec<SocketId> = self.returning.keys().copied().collect();
        for socket_id in entered {
            let Some(client) = self.nodes[node].clients.get(&socket_id) else { continue };
            if client.view.is_some() {
                let deadline = self.returning.remove(&socket_id).expect("it was there");
                if self.now < deadline {
                    self.count.guarded += 1;
                    self.guarded.insert(client.member.user_id.as_str().to_owned());
                }
            }
        }
    }

    fn can_execute(&self, id: u64) -> bool {
        self.redis.is_up
            && self
                .connections
                .get(&id)
                .is_some_and(|found| found.executes_until.is_none_or(|at| at >= self.now))
    }

    fn arrive(&mut self, id: u64, command: Command) {
        if self.redis.stalled_until > self.now && self.redis.is_up {
            return self.push(self.redis.stalled_until, NODES, Event::Arrive(id, command));
        }
        if !self.can_execute(id) {
            return;
        }
        self.log(|| format!("redis: {command:?}"));
        let (reply, published) = self.redis.execute(self.now, command);
        if !self.connections[&id].is_mute {
            let time = self.arrival(id, 2);
            self.push_to(id, time, Event::Replied(id, reply));
        }
        let hearers: Vec<u64> = self.connections.keys().copied().collect();
        for published in published {
            for id in &hearers {
                let connection = &self.connections[id];
                let is_wanted = connection.hears_topic || matches!(published, Published::Heartbeat(_));
                if !is_wanted
                    || connection.is_mute
                    || connection.is_deaf
                    || connection.executes_until.is_some()
                {
                    continue;
                }
                if self.faults.gaps
                    && !self.is_settling
                    && self.random.chance(3)
                    && matches!(published, Published::Notice(..))
                {
                    self.count.lost += 1;
                    self.log(|| format!("lost for {id}: {published:?}"));
                    continue;
                }
                let time = self.arrival(*id, 3);
                self.push_to(*id, time, Event::Pushed(*id, published.clone()));
            }
        }
    }

    fn push_to(&mut self, id: u64, time: u64, event: Event) {
        let node = self.connections[&id].node;
        self.push(time, node, event);
    }

    fn arrive_topic(&mut self, id: u64, ticket: Option<u64>) {
        if self.redis.stalled_until > self.now && self.redis.is_up {
            return self.push(self.redis.stalled_until, NODES, Event::ArriveTopic(id, ticket));
        }
        let Some(connection) = self.connections.get_mut(&id).filter(|found| found.executes_until.is_none())
        else {
            return;
        };
        if !self.redis.is_up {
            return;
        }
        connection.hears_topic = ticket.is_some();
        if let Some(ticket) = ticket.filter(|_| !connection.is_mute && !connection.is_deaf) {
            let time = self.arrival(id, 3);
            self.push_to(id, time, Event::Acknowledged(id, ticket));
        }
    }

    /// Both connections of a node end. Some of what is on its way to the store still arrives.
    fn break_connection(&mut self, node: usize) {
        if !self.nodes[node].is_connected {
            return;
        }
        let id = self.nodes[node].connection;
        let until = self.now + if self.random.chance(50) { self.random.below(20) } else { 0 };
        if let Some(connection) = self.connections.get_mut(&id) {
            // What the store had taken in before it stopped, it executes when it goes on.
            connection.executes_until = Some(until.max(self.redis.stalled_until));
        }
        self.nodes[node].disconnected(self.base, self.now);
        self.attend(node);
        self.reconnect(node);
    }

    fn alive(&self) -> Vec<usize> {
        (0..NODES).filter(|node| self.nodes[*node].is_alive).collect()
    }

    pub(crate) fn hears_topic(&self, node: usize) -> bool {
        let id = self.nodes[node].connection;
        self.connections.get(&id).is_some_and(|connection| connection.hears_topic)
    }
}
