//! The own life and those of the others: leases, heartbeats, suspicion, renewal, and the end.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use soundpost_protocol::{
    app::AppId,
    cluster::lives::{LEASE, Lives, RENEWAL},
    presence::NodeId,
};
use tracing::{info, warn};

use super::{
    answers,
    commands::Expect,
    holding::Holding,
    keys, messages,
    numbers::Numbers,
    query::Living,
    scripts::Script,
    session::{Lost, Session},
    wire::resp::Reply,
};
use crate::{
    adapter::{Census, next_beat, wants_beat},
    apps::{AppIndex, AppTable},
    node::unix_seconds,
};

/// For so long after its birth a life leaves what its predecessor held alone: channel by channel takes it over.
const TAKING_OVER: Duration = Duration::from_secs(4);
/// A node that leaves waits for so long until it holds nothing.
const LEAVING: Duration = Duration::from_secs(2);
/// Earlier lives of this process that are remembered.
const FORMER_MAX: usize = 64;
/// A life that was silent for so long may have had tombstones that are gone.
const TRACELESS: Duration = Duration::from_secs(9 * 60);
const LEASE_MILLISECONDS: &str = "6000";

/// Own events that were delivered on this node, because Redis went away with them on their way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Here {
    /// Whose numbers these are.
    pub(super) life: NodeId,
    /// Up to which one.
    pub(super) sequence: u64,
    /// When.
    pub(super) at: Instant,
}

/// What the adapter knows from one connected stretch to the next.
#[derive(Debug)]
pub(super) struct Node {
    /// The own life.
    pub(super) life: NodeId,
    /// Lives this process has had before.
    pub(super) former: Vec<NodeId>,
    /// Those of them that were without a lease for so long that their tombstones may be gone.
    long_gone: HashSet<NodeId>,
    born_at: Instant,
    /// What Redis holds for webhooks and this node has to see to.
    pub(super) holding: Holding,
    /// The others.
    pub(super) lives: Lives,
    /// Those that had a lease at the last beat.
    pub(super) leased: HashSet<NodeId>,
    /// How many events this life has published where.
    pub(super) numbers: Numbers,
    /// How many connections the others have said they have.
    pub(super) census: Census,
    /// Those whose shares count when somebody outside asks.
    pub(super) living: Arc<Living>,
    /// Lives that are over, and when channels are to be told that their shares should be gone.
    ending: Vec<(NodeId, Instant)>,
    /// When the lease was last renewed; `None`: there was none yet.
    renewed_at: Option<Instant>,
    /// The life that was last known to have a lease.
    leased_life: Option<NodeId>,
    beats: u64,
    /// The processes that Redis was when it was last there.
    runs: BTreeSet<String>,
    /// The apps of subjects, those that were removed as well.
    pub(super) apps: HashMap<AppIndex, AppId>,
    /// By topic. Should these come after all, they are dropped.
    pub(super) delivered_here: HashMap<bytes::Bytes, Here>,
}

impl Node {
    pub(super) fn new(life: NodeId, now: Instant) -> Self {
        Self {
            life,
            former: Vec::new(),
            long_gone: HashSet::new(),
            born_at: now,
            holding: Holding::default(),
            lives: Lives::default(),
            leased: HashSet::new(),
            living: Arc::default(),
            numbers: Numbers::new(life),
            census: Census::default(),
            ending: Vec::new(),
            renewed_at: None,
            leased_life: None,
            beats: 0,
            runs: BTreeSet::new(),
            apps: HashMap::new(),
            delivered_here: HashMap::new(),
        }
    }

    /// Whether others may take this life for over.
    pub(super) fn is_lease_over(&self, now: Instant) -> bool {
        self.renewed_at.is_some_and(|at| now.saturating_duration_since(at) >= LEASE)
    }

    /// Whether Redis is another process than before, which may have old data. From now on these are the ones.
    pub(super) fn is_other_run(&mut self, runs: BTreeSet<String>) -> bool {
        let is_other = !self.runs.is_empty() && !runs.is_subset(&self.runs);
        self.runs = runs;
        is_other
    }

    /// Whether the life is, or was, this node's.
    pub(super) fn is_own(&self, life: NodeId) -> bool {
        life == self.life || self.former.contains(&life)
    }

    /// Whether what that earlier life held may have been taken away without a trace that is left.
    pub(super) fn is_long_gone(&self, life: NodeId) -> bool {
        self.long_gone.contains(&life)
    }

    /// Another life. The numbers of the one before mean nothing any more. `is_other_run`: because Redis is another process,
    /// so that the others were cut off, too.
    pub(super) fn renew(&mut self, life: NodeId, is_other_run: bool, now: Instant) {
        let before = std::mem::replace(&mut self.life, life);
        self.end(before, now);
        let silent = self.renewed_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        if silent >= TRACELESS && !is_other_run {
            self.long_gone.insert(before);
        }
        if self.former.len() == FORMER_MAX {
            self.long_gone.remove(&self.former.remove(0));
        }
        self.former.push(before);
        self.numbers = Numbers::new(life);
        self.born_at = now;
        self.renewed_at = Some(now);
    }

    /// Lets the quotas hold by what the others have said. Also while Redis is away: what is too old does not count.
    pub(super) fn look_at_census(&mut self, table: &AppTable, now: Instant) {
        self.census.tick(now);
        self.census.settle(table);
    }

    /// A life is over. True if that is news.
    pub(super) fn end(&mut self, life: NodeId, now: Instant) -> bool {
        let is_news = self.lives.end(life, now);
        self.census.forget(life);
        if is_news {
            self.ending.push((life, now + RENEWAL));
            Arc::make_mut(&mut self.living).remove(life);
        }
        is_news
    }
}

/// A life that nobody has had.
pub(super) fn fresh_life(before: NodeId) -> NodeId {
    // A system without random numbers has not let the node start.
    getrandom::u64().map_or(NodeId(before.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1), NodeId)
}

impl Session<'_> {
    /// Renews the lease, says so to all, and asks who else is there.
    pub(super) fn beat(&mut self) {
        let now = self.now;
        self.next_beat = now + RENEWAL;
        self.node.beats += 1;
        let table = self.shared.apps.table();
        let apps = next_beat(&table);
        let mut parts = apps.iter();
        let (life, beats) = (self.node.life, self.node.beats);
        let message = messages::heartbeat(life, beats, parts.next().map_or(&[], Vec::as_slice));
        let names = &self.shared.names;
        let (lease, lives, control, leases) =
            (names.lease(life), names.lives(), names.control(), names.leases());
        let (hex, seconds) = (keys::hex(life), unix_seconds().to_string());
        let arguments =
            [hex.as_bytes(), LEASE_MILLISECONDS.as_bytes(), seconds.as_bytes(), &message, &leases];
        self.script(
            keys::NODES,
            Script::Beat,
            &[&lease, &lives, &control],
            &arguments,
            Expect::Beat(life, now),
        );
        for part in parts {
            self.say(&messages::heartbeat(life, beats, part));
        }
        for at in 0..self.servers.len() {
            self.ping(at);
        }
    }

    fn ping(&mut self, at: usize) {
        let Some(server) = self.servers.get_mut(at) else { return };
        server.topics.command(&[b"PING"]);
        server.pinged_at.get_or_insert(self.now);
    }

    /// Publishes something for all nodes.
    fn say(&mut self, message: &[u8]) {
        let control = self.control.clone();
        let verb: &[u8] = if self.is_sharded { b"SPUBLISH" } else { b"PUBLISH" };
        self.send(keys::NODES, &[verb, &control, message], Expect::Nothing);
    }

    /// The answer to a beat: who is there, and who has a lease.
    ///
    /// Errors: the lease cannot be written, so nothing that this node says would be believed.
    pub(super) fn beaten(&mut self, life: NodeId, asked_at: Instant, reply: &Reply) -> Result<(), Lost> {
        let [had, all] = answers::items(reply) else {
            let Reply::Error(line) = reply else { return Err(Lost::Unexpected) };
            return Err(Lost::said(line));
        };
        let now = self.now;
        let node = &mut *self.node;
        if life != node.life {
            return Ok(());
        }
        // By the clock of Redis the lease had run out, or somebody has deleted it: what this node held may be gone.
        let was_over = answers::number(had) == Some(0) && node.leased_life == Some(life);
        node.leased_life = Some(life);
        node.renewed_at = Some(asked_at);
        self.shared.metrics.leased(asked_at);
        node.leased.clear();
        let mut dead = Vec::new();
        for (life, lease) in answers::by_life(all) {
            if answers::number(lease) == Some(1) {
                node.leased.insert(life);
            }
            // What it held before is replaced channel by channel; only what is left then is taken away.
            let is_taking_over = node.former.contains(&life) && now < node.born_at + TAKING_OVER;
            if life == node.life || is_taking_over {
                continue;
            }
            if node.lives.is_dead(life) {
                dead.push(life);
            } else {
                node.lives.find(life, now);
            }
        }
        let lives = answers::by_life(all).map(|(life, _)| life);
        let counts =
            |life: &NodeId| *life == node.life || node.lives.may_live(*life, node.leased.contains(life), now);
        node.living = Arc::new(Living::new(node.life, lives.filter(counts).collect()));
        dead.into_iter().for_each(|life| self.reap_life(life));
        if was_over {
            self.renew();
        }
        Ok(())
    }

    /// A quarter of a second has passed.
    pub(super) fn look_after_lives(&mut self) {
        let now = self.now;
        let table = self.shared.apps.table();
        self.node.look_at_census(&table, now);
        // After the farewell a beat would bring the lease back.
        if wants_beat(&table) && !self.has_said_farewell {
            self.beat();
        }
        for life in self.node.lives.suspects(now) {
            if life != self.node.life {
                let lease = self.shared.names.lease(life);
                self.send(keys::NODES, &[b"EXISTS", &lease], Expect::Lease(life));
            }
        }
        let is_due = |(life, at): &(NodeId, Instant)| *at <= now && !self.reaping.has(*life);
        let due: Vec<_> = self.node.ending.iter().filter(|ending| is_due(ending)).copied().collect();
        self.node.ending.retain(|ending| !due.contains(ending));
        due.into_iter().for_each(|(life, _)| self.shared.hearing.ended(life));
    }

    /// Whether a life that is not heard has a lease.
    pub(super) fn lease_is(&mut self, life: NodeId, reply: &Reply) {
        if answers::number(reply) != Some(0) || self.node.is_own(life) {
            return;
        }
        if !self.node.lives.miss_lease(life, self.now) {
            return;
        }
        self.node.died(life, self.now);
        self.shared.metrics.deaths.add(1);
        info!(life = %keys::hex(life), "a node is gone: its lease has run out and it was not heard");
        self.reap_life(life);
    }

    /// Takes another life and tells everybody, the lease first.
    pub(super) fn renew(&mut self) {
        // Who hears the farewell sees to what this life has held, and says that it is gone. That is true.
        if self.has_said_farewell {
            return;
        }
        let life = fresh_life(self.node.life);
        warn!(life = %keys::hex(life), "redis has no lease of this node: it was taken for gone, or redis was emptied; it begins a new life");
        self.shared.metrics.renewals.add(1);
        self.node.renew(life, false, self.now);
        self.shared.cluster.renew(life);
        self.asks.retain(|ask| ask.effect == soundpost_protocol::cluster::channel::Effect::Unsubscribe);
        // They are older than what was not looked at yet.
        for ask in self.index.renew().into_iter().rev() {
            self.asks.push_front(ask);
        }
        self.beat();
        self.name_all_held();
        self.shared.hearing.renew(life);
        self.shared.hearing.back();
    }

    /// Whether the node has left the cluster, as it was told to.
    pub(super) fn has_left(&mut self) -> bool {
        if !*self.shared.leaving.borrow() {
            return false;
        }
        let since = *self.leaving_since.get_or_insert(self.now);
        if self.has_said_farewell {
            let is_quiet = self.servers.iter().all(|server| server.flights.is_empty());
            return is_quiet || self.now >= since + LEAVING + LEAVING;
        }
        let has_left = self.shared.hearing.has_left() && self.asks_waiting() == 0;
        if !has_left && self.now < since + LEAVING {
            return false;
        }
        self.has_said_farewell = true;
        let (names, life) = (&self.shared.names, self.node.life);
        let (lease, lives, index) = (names.lease(life), names.lives(), names.index(life));
        self.send(keys::NODES, &[b"DEL", &lease], Expect::Nothing);
        // Whoever still holds something is found gone by the others, who take it away.
        if has_left {
            // What is held for webhooks is seen to by whoever takes over what the index names: the others, who hear the
            // farewell, or if there are none, the next node that starts.
            if self.node.holding.is_empty() {
                let hex = keys::hex(life);
                self.send(keys::index_tag(life).as_bytes(), &[b"DEL", &index], Expect::Nothing);
                self.send(keys::NODES, &[b"ZREM", &lives, hex.as_bytes()], Expect::Nothing);
            }
            self.say(&messages::farewell(life));
        }
        self.next_beat = self.now + LEASE;
        false
    }

    /// A heartbeat has come.
    pub(super) fn heard_beat(&mut self, life: NodeId, beat: u64, apps: &[(&str, u32)]) {
        let now = self.now;
        if life == self.node.life {
            self.beat_heard_at = now;
        }
        let node = &mut *self.node;
        if node.is_own(life) || !node.lives.hear(life, now) {
            return;
        }
        if !node.living.has(life) {
            Arc::make_mut(&mut node.living).add(life);
        }
        let known = |(id, connections): &(&str, u32)| Some((self.shared.apps.by_id(id)?.index, *connections));
        node.census.heard(life, beat, apps.iter().filter_map(known), now);
    }

    /// For the beginning of a stretch: whether another life had to begin.
    pub(super) fn begin_life(&mut self, runs: BTreeSet<String>) -> bool {
        let is_other = self.node.is_other_run(runs);
        let is_new = is_other || self.node.is_lease_over(self.now);
        if is_other {
            self.node.census.forget_all();
        }
        if is_new {
            let life = fresh_life(self.node.life);
            self.shared.metrics.renewals.add(1);
            self.node.renew(life, is_other, self.now);
            self.shared.cluster.renew(life);
            self.shared.hearing.renew(life);
        }
        is_new
    }
}

impl Node {
    /// A life was found dead just now.
    fn died(&mut self, life: NodeId, now: Instant) {
        self.census.forget(life);
        self.ending.push((life, now + RENEWAL));
        Arc::make_mut(&mut self.living).remove(life);
    }
}
