//! One node: the channel, the lives it knows, and the little of an adapter that carries effects out.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use soundpost_protocol::{
    cluster::{
        channel::{Answer, ClusterChannel, Context, Effect},
        lives::{LEASE, Lives},
        share::{Entry, Share},
    },
    presence::{Member, NodeId},
    socket_id::SocketId,
};

use crate::{
    mutation::{Mutation, is_broken},
    redis::{Command, Published, ReadShare, Reply},
};

/// What a node asks of the world.
#[derive(Debug)]
pub(crate) enum Ask {
    Send(Command),
    Subscribe { ticket: u64 },
    Unsubscribe,
    Disconnect,
}

/// What the kind of channel asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Presence,
    Plain,
    User,
}

/// A client as it sees the channel.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) member: Arc<Member>,
    pub(crate) is_observer: bool,
    /// Subscribes not answered yet.
    pub(crate) asked: u32,
    /// When it entered.
    pub(crate) entered_at: u64,
    /// Who it believes is there, once it has entered.
    pub(crate) view: Option<BTreeSet<String>>,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) life: NodeId,
    pub(crate) is_alive: bool,
    pub(crate) paused_until: u64,
    pub(crate) is_connected: bool,
    /// Which of its connections is the newest.
    pub(crate) connection: u64,
    pub(crate) channel: Option<ClusterChannel>,
    pub(crate) lives: Lives,
    pub(crate) sequence: AtomicU64,
    pub(crate) clients: BTreeMap<SocketId, Client>,
    renewed_at: u64,
    /// Earlier lives of this process, the last one's end, and the run of the store that it knows.
    former: Vec<NodeId>,
    reborn_at: u64,
    run: Option<u64>,
    beat_heard_at: u64,
    /// When commands without a reply were sent.
    pub(crate) unanswered: VecDeque<u64>,
    pub(crate) asks: Vec<Ask>,
    pub(crate) count: u32,
    pub(crate) told: Vec<(String, bool)>,
    pub(crate) refused: Vec<SocketId>,
    pub(crate) largest_kept: usize,
    reads_under_way: u32,
    kind: Kind,
    pub(crate) trace: Option<Vec<String>>,
}

fn at(base: Instant, now: u64) -> Instant {
    base + Duration::from_millis(now)
}

impl Node {
    pub(crate) fn new(life: NodeId, kind: Kind, now: u64, trace: bool) -> Self {
        Self {
            life,
            is_alive: true,
            paused_until: 0,
            is_connected: false,
            connection: 0,
            channel: None,
            lives: Lives::default(),
            sequence: AtomicU64::new(0),
            clients: BTreeMap::new(),
            renewed_at: now,
            former: Vec::new(),
            reborn_at: 0,
            run: None,
            beat_heard_at: now,
            unanswered: VecDeque::new(),
            asks: Vec::new(),
            count: 0,
            told: Vec::new(),
            refused: Vec::new(),
            largest_kept: 0,
            reads_under_way: 0,
            kind,
            trace: trace.then(Vec::new),
        }
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(text());
        }
    }

    /// Lets `change` work on the channel and carries out what comes of it.
    fn with(&mut self, base: Instant, now: u64, change: impl FnOnce(&mut ClusterChannel, &mut Context<'_>)) {
        let Some(channel) = &mut self.channel else { return };
        let mut effects = Vec::new();
        let mut cx = Context { now: at(base, now), sequence: &self.sequence, effects: &mut effects };
        change(channel, &mut cx);
        self.largest_kept = self.largest_kept.max(channel.kept());
        if channel.is_idle() {
            self.channel = None;
        }
        let mut renew = false;
        for effect in effects {
            renew |= self.carry_out(now, effect);
        }
        if renew {
            self.renew(base, now);
        }
    }

    fn carry_out(&mut self, now: u64, effect: Effect) -> bool {
        self.note(|| format!("    {effect:?}").replace("Roster", ""));
        let life = self.life;
        match effect {
            Effect::Subscribe { ticket } => self.asks.push(Ask::Subscribe { ticket }),
            Effect::Unsubscribe => self.asks.push(Ask::Unsubscribe),
            Effect::Change { sequence, follows, change } => {
                self.asks.push(Ask::Send(Command::Change { life, sequence, follows, change }));
            }
            Effect::Replace { sequence, predecessors, entries, count, confirmed, known } => {
                self.reads_under_way += 1;
                let command =
                    Command::Replace { life, sequence, predecessors, entries, count, confirmed, known };
                self.asks.push(Ask::Send(command));
            }
            Effect::Read { ticket, known } => {
                self.reads_under_way += 1;
                self.asks.push(Ask::Send(Command::Read { life, ticket, known }));
            }
            Effect::Enter { socket_id, answers, roster } => {
                let client = self.clients.get_mut(&socket_id).expect("only clients enter");
                assert!(client.asked >= answers, "answered more often than asked: {socket_id}");
                client.asked -= answers;
                let view: BTreeSet<String> =
                    roster.members().map(|member| member.user_id.as_str().to_owned()).collect();
                if !client.is_observer && self.kind != Kind::Plain {
                    assert!(view.contains(client.member.user_id.as_str()), "entered, but not in the roster");
                }
                if client.view.is_none() {
                    client.entered_at = now;
                }
                client.view = Some(view);
            }
            Effect::Refuse { socket_id, answers } => {
                let client = self.clients.remove(&socket_id).expect("only clients are refused");
                assert_eq!(client.asked, answers, "refused other than asked");
                assert!(client.view.is_none(), "refused though it had entered");
                self.refused.push(socket_id);
            }
            Effect::Tell(transition) => {
                use soundpost_protocol::cluster::share::Transition;
                let is_added = matches!(transition, Transition::Added(_));
                let user = transition.user_id().as_str().to_owned();
                for (socket_id, client) in &mut self.clients {
                    let Some(view) = &mut client.view else { continue };
                    let is_own = !client.is_observer && client.member.user_id.as_str() == user;
                    assert!(!is_own, "{socket_id} hears of itself: {transition:?}");
                    let is_news = if is_added { view.insert(user.clone()) } else { view.remove(&user) };
                    assert!(is_news, "{socket_id} hears again: {transition:?}");
                }
                self.told.push((user, is_added));
            }
            Effect::Count(count) => self.count = count,
            Effect::Keep => {}
            Effect::Renew(over) => return over == life,
        }
        false
    }

    /// Another life for the whole node.
    fn renew(&mut self, base: Instant, now: u64) {
        let before = self.life;
        self.life = NodeId(before.0 + 10);
        let (life, is_connected) = (self.life, self.is_connected);
        self.note(|| format!("  renews {before:?} -> {life:?}"));
        self.lives.end(before, at(base, now));
        self.former.push(before);
        self.reborn_at = now;
        // Its lease is written before anything else: what follows on the same connection finds it there.
        self.asks.clear();
        if is_connected {
            self.asks.push(Ask::Send(Command::Renew(life)));
        }
        self.renewed_at = now;
        self.with(base, now, |channel, cx| {
            channel.renew(life, cx);
            if is_connected {
                channel.back(cx);
            }
        });
    }

    /// Both connections are there, to the store in its `run`.
    pub(crate) fn connected(&mut self, base: Instant, now: u64, run: u64) {
        self.is_connected = true;
        self.unanswered.clear();
        self.reads_under_way = 0;
        self.beat_heard_at = now;
        self.lives.connect(at(base, now));
        // Another run may have old data, with shares of this life that it knows nothing of any more.
        let is_other = self.run.replace(run).is_some_and(|before| before != run);
        let is_over = now - self.renewed_at >= LEASE.as_millis() as u64 || is_other;
        if is_over && !is_broken(Mutation::StubbornLife) {
            self.renew(base, now);
        } else {
            self.asks.push(Ask::Send(Command::Renew(self.life)));
            self.with(base, now, ClusterChannel::back);
        }
    }

    pub(crate) fn disconnected(&mut self, base: Instant, now: u64) {
        self.is_connected = false;
        self.lives.disconnect();
        self.asks.clear();
        self.with(base, now, ClusterChannel::lost);
        self.asks.clear();
    }

    pub(crate) fn beat(&mut self, base: Instant, now: u64) {
        if !self.is_connected {
            return;
        }
        self.asks.push(Ask::Send(Command::Renew(self.life)));
        let shown: Vec<NodeId> = self.channel.iter().flat_map(ClusterChannel::lives).collect();
        for life in shown {
            if self.lives.is_long_dead(life, at(base, now)) {
                self.with(base, now, |channel, cx| channel.ended(life, cx));
            }
        }
    }

    pub(crate) fn tick(&mut self, base: Instant, now: u64) {
        if self.is_connected {
            let is_late = self.unanswered.front().is_some_and(|sent| now - sent >= 1000);
            if is_late || now - self.beat_heard_at >= 5000 {
                self.asks.push(Ask::Disconnect);
                return;
            }
            if now - self.renewed_at >= LEASE.as_millis() as u64 && !is_broken(Mutation::StubbornLife) {
                self.renew(base, now);
            }
            let suspects = match is_broken(Mutation::HastyDeath) {
                true => self.channel.iter().flat_map(ClusterChannel::lives).collect(),
                false => self.lives.suspects(at(base, now)),
            };
            for life in suspects {
                if life != self.life {
                    self.asks.push(Ask::Send(Command::CheckLease(life)));
                }
            }
        }
        self.with(base, now, ClusterChannel::tick);
    }

    pub(crate) fn acknowledged(&mut self, base: Instant, now: u64, ticket: u64) {
        self.note(|| format!("  topic {ticket}"));
        self.with(base, now, |channel, cx| channel.acknowledged(ticket, cx));
    }

    pub(crate) fn published(&mut self, base: Instant, now: u64, published: Published) {
        match published {
            Published::Heartbeat(life) => {
                self.lives.hear(life, at(base, now));
                if life == self.life {
                    self.beat_heard_at = now;
                }
            }
            Published::Notice(life, sequence, notice) => {
                self.note(|| format!("  hears {life:?} {sequence} {notice:?}"));
                if is_broken(Mutation::DeafWhileReading) && self.reads_under_way > 0 {
                    return;
                }
                self.with(base, now, |channel, cx| channel.heard(life, sequence, notice, cx));
            }
        }
    }

    pub(crate) fn replied(&mut self, base: Instant, now: u64, reply: Reply) {
        self.unanswered.pop_front();
        let time = at(base, now);
        match reply {
            Reply::Renewed { sent_at, lives } => {
                self.renewed_at = self.renewed_at.max(sent_at.min(now));
                for life in lives {
                    // What it held before is replaced channel by channel; only what is left then is taken away.
                    let is_own = self.former.contains(&life) && now < self.reborn_at + 4000;
                    if life == self.life || is_own {
                    } else if self.lives.is_dead(life) {
                        self.asks.push(Ask::Send(Command::Reap { by: self.life, dead: life }));
                    } else {
                        self.lives.find(life, time);
                    }
                }
            }
            Reply::Lease { is_there: true, .. } => {}
            Reply::Lease { life, .. } => {
                let is_dead = match is_broken(Mutation::HastyDeath) {
                    true => self.lives.end(life, time),
                    false => self.lives.miss_lease(life, time),
                };
                if is_dead {
                    self.asks.push(Ask::Send(Command::Reap { by: self.life, dead: life }));
                }
            }
            Reply::Done { sequence } => self.with(base, now, |channel, cx| channel.done(sequence, cx)),
            Reply::Refused { life, sequence, is_over } => {
                self.note(|| format!("  refused {life:?} {sequence} {is_over}"));
                if life == self.life {
                    self.with(base, now, |channel, cx| channel.refused(sequence, is_over, cx));
                }
            }
            Reply::Shares { ticket, shares, over } => {
                self.reads_under_way = self.reads_under_way.saturating_sub(1);
                for (life, ..) in &shares {
                    if *life != self.life {
                        self.lives.find(*life, time);
                    }
                }
                let shares = self.shares(shares, time);
                self.note(|| format!("  reads {ticket} {shares:?}"));
                let answer = Answer { shares, over };
                self.with(base, now, |channel, cx| channel.answered(ticket, answer, cx));
            }
            Reply::Reaped => {}
        }
    }

    fn shares(&self, read: Vec<ReadShare>, now: Instant) -> Vec<Share> {
        let share = |(life, sequence, entries, count, has_lease)| {
            let may_live = life == self.life || self.lives.may_live(life, has_lease, now);
            Share { life, sequence, entries, count, may_live }
        };
        read.into_iter().map(share).collect()
    }

    /// A client asks to be on the channel, or asks again.
    pub(crate) fn join(
        &mut self,
        base: Instant,
        now: u64,
        socket_id: SocketId,
        member: &Arc<Member>,
        is_observer: bool,
    ) {
        if self.channel.is_none() {
            let mut channel = match self.kind {
                Kind::Presence => {
                    ClusterChannel::new(self.life, soundpost_protocol::channel::ChannelKind::Presence)
                }
                Kind::Plain => {
                    ClusterChannel::new(self.life, soundpost_protocol::channel::ChannelKind::Public)
                }
                Kind::User => ClusterChannel::watched_user(self.life),
            };
            if !self.is_connected {
                let (sequence, mut effects) = (AtomicU64::new(0), Vec::new());
                channel.lost(&mut Context { now: at(base, now), sequence: &sequence, effects: &mut effects });
            }
            self.channel = Some(channel);
        }
        let entry = Entry { socket_id, joined_at: now, member: member.clone() };
        let is_again = self.clients.contains_key(&socket_id);
        let fresh = || Client { member: member.clone(), is_observer, asked: 0, entered_at: 0, view: None };
        let client = self.clients.entry(socket_id).or_insert_with(fresh);
        client.asked += 1;
        client.member = member.clone();
        let entry = (self.kind != Kind::Plain).then_some(entry);
        self.with(base, now, |channel, cx| match (is_again, is_observer) {
            (true, _) => channel.again(socket_id, entry, cx),
            (false, true) => channel.observe(socket_id, cx),
            (false, false) => channel.join(socket_id, entry, cx),
        });
    }

    pub(crate) fn leave(&mut self, base: Instant, now: u64, socket_id: SocketId) {
        let Some(client) = self.clients.remove(&socket_id) else { return };
        let user_id = &client.member.user_id;
        let user_id = (self.kind != Kind::Plain).then_some(user_id);
        self.with(base, now, |channel, cx| match client.is_observer {
            true => channel.unobserve(socket_id),
            false => channel.leave(socket_id, user_id, cx),
        });
    }
}
