//! One connected stretch: from the moment both connections to every server are there to the loss of one of them.
//!
//! One loop: keep time, write what fits the window, then sleep until something comes.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::{Future, poll_fn},
    io,
    ops::RangeInclusive,
    pin::{Pin, pin},
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use foldhash::quality::RandomState;
use soundpost_protocol::{app::AppId, presence::NodeId};
use tokio::time::{Sleep, sleep};

use super::{
    Shared,
    answers::{self, Known},
    commands::{Asked, Expect, Flight},
    keys,
    lives::Node,
    outbox::Publish,
    pipe::Pipe,
    reaping::Reaping,
    scripts::Digests,
    topics::Topics,
    wire::{
        resp::{Reply, RespError},
        slots::slot_of,
    },
};
use crate::adapter::{Ask, Refused, Subject};

/// What channels may have asked for and was not written yet. Beyond it Redis counts as lost: then every channel asks
/// anew, once.
pub const ASKS_MAX: usize = 1 << 20;
/// Commands for channels that are written and not answered.
const ASKS_IN_FLIGHT_MAX: usize = 512;
/// Publishes that are written and not answered, and their bytes: enough to keep Redis busy for a round trip. The rest
/// waits where it can be taken back.
const PUBLISHES_IN_FLIGHT_MAX: usize = 2048;
const PUBLISH_BYTES_IN_FLIGHT_MAX: usize = 4 << 20;
/// Commands of queries that are written and not answered.
const QUERIES_IN_FLIGHT_MAX: usize = 2048;
/// How often channels look at the time.
pub(super) const TICK: Duration = Duration::from_millis(250);
/// How often publishes that wait for something are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How often it is looked whether workers have room again.
const PAUSE: Duration = Duration::from_millis(2);
/// A publish that has no answer after so long gets none.
pub(super) const PUBLISH_TIMEOUT: Duration = Duration::from_millis(900);
/// An answer that takes longer is as good as none.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);
/// What this node has said on a topic must come back within this time.
const ECHO_TIMEOUT: Duration = Duration::from_secs(5);
/// A turn that takes longer means that the process was stopped: nobody else is to blame for that time.
const STOPPED: Duration = Duration::from_millis(700);

/// Why a stretch ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    /// A connection is broken.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What came is not what Redis says.
    #[error("{0}")]
    Resp(#[from] RespError),
    /// An answer that means that this server is not what it was.
    #[error("redis said: {0}")]
    Said(String),
    /// An answer to nothing, or not of the kind that was to come.
    #[error("an answer that was not asked for")]
    Unexpected,
    /// See [`REPLY_TIMEOUT`].
    #[error("no answer for 1 s")]
    Late,
    /// See [`ECHO_TIMEOUT`].
    #[error("nothing came back on the topics for 5 s")]
    Deaf,
    /// See [`ASKS_MAX`].
    #[error("more is asked than redis can take")]
    Overrun,
}

/// One server, and what is on its way.
pub(super) struct Server {
    pub(super) address: String,
    pub(super) slots: Vec<RangeInclusive<u16>>,
    pub(super) commands: Pipe,
    pub(super) topics: Pipe,
    pub(super) flights: VecDeque<Flight>,
    /// When it was asked for a sign of life on its topics that has not come.
    pub(super) pinged_at: Option<Instant>,
}

/// What is written and not answered.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    asks: usize,
    publishes: usize,
    publish_bytes: usize,
    queries: usize,
    bytes: usize,
}

impl InFlight {
    pub(super) fn add(&mut self, expect: &Expect, bytes: usize) {
        self.bytes += bytes;
        match expect {
            Expect::Publish(_) => {
                self.publishes += 1;
                self.publish_bytes += bytes;
            }
            Expect::Query(..) => self.queries += 1,
            Expect::Change(_) | Expect::Replaced(_) | Expect::Read(_) => self.asks += 1,
            Expect::Beat
            | Expect::Lease(_)
            | Expect::Index(_)
            | Expect::Tags(_)
            | Expect::Reaped(_)
            | Expect::Nothing => {}
        }
    }

    pub(super) fn remove(&mut self, flight: &Flight) {
        self.bytes -= flight.bytes;
        match flight.expect {
            Expect::Publish(_) => {
                self.publishes -= 1;
                self.publish_bytes -= flight.bytes;
            }
            Expect::Query(..) => self.queries -= 1,
            Expect::Change(_) | Expect::Replaced(_) | Expect::Read(_) => self.asks -= 1,
            Expect::Beat
            | Expect::Lease(_)
            | Expect::Index(_)
            | Expect::Tags(_)
            | Expect::Reaped(_)
            | Expect::Nothing => {}
        }
    }
}

/// One connected stretch.
pub(super) struct Session<'a> {
    pub(super) shared: &'a Shared,
    pub(super) node: &'a mut Node,
    pub(super) digests: Digests,
    pub(super) servers: Vec<Server>,
    pub(super) is_sharded: bool,
    /// The time of this turn.
    pub(super) now: Instant,
    pub(super) topics: Topics,
    pub(super) control: Bytes,
    pub(super) in_flight: InFlight,
    pub(super) asks: VecDeque<Ask>,
    /// The tags in the own index, with the last change of each share.
    pub(super) indexed: HashMap<Bytes, u64, RandomState>,
    pub(super) reaping: Reaping,
    /// The workers have no room: nothing is read.
    pub(super) is_paused: bool,
    pub(super) beat_heard_at: Instant,
    pub(super) next_beat: Instant,
    pub(super) next_tick: Instant,
    pub(super) leaving_since: Option<Instant>,
    pub(super) has_said_farewell: bool,
    pub(super) alarm: Pin<Box<Sleep>>,
    pub(super) publishes: Vec<Publish>,
}

impl fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session<'_> {
    /// Runs until a connection is lost, or, without an error, until the node has left.
    pub(super) async fn run(&mut self) -> Result<(), Lost> {
        loop {
            self.begin_turn();
            self.keep_time()?;
            self.fill()?;
            if self.has_left() {
                return Ok(());
            }
            self.sleep().await?;
            self.now = Instant::now();
            self.take_answers()?;
            self.hear()?;
        }
    }

    fn begin_turn(&mut self) {
        let before = std::mem::replace(&mut self.now, Instant::now());
        let slept = self.now.saturating_duration_since(before);
        // Asleep for as long as it should be, it is woken by a tick.
        if slept < TICK + STOPPED {
            return;
        }
        self.beat_heard_at += slept;
        for server in &mut self.servers {
            server.flights.iter_mut().for_each(|flight| flight.sent_at += slept);
            server.pinged_at = server.pinged_at.map(|at| at + slept);
        }
    }

    fn keep_time(&mut self) -> Result<(), Lost> {
        let renounced = self.shared.cluster.take_renounced() == Some(self.node.life);
        if renounced || self.node.is_lease_over(self.now) {
            self.renew();
        }
        if self.now >= self.next_beat {
            self.beat();
        }
        self.expire()?;
        if self.now >= self.next_tick {
            self.next_tick = self.now + TICK;
            self.tick()?;
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Lost> {
        let now = self.now;
        let is_over = |at: Instant, bound| now.saturating_duration_since(at) >= bound;
        for server in &self.servers {
            if server.flights.front().is_some_and(|flight| is_over(flight.sent_at, REPLY_TIMEOUT)) {
                return Err(Lost::Late);
            }
        }
        if self.is_paused {
            self.beat_heard_at = now;
            self.servers.iter_mut().for_each(|server| server.pinged_at = server.pinged_at.map(|_| now));
        }
        let is_silent = |server: &Server| server.pinged_at.is_some_and(|at| is_over(at, ECHO_TIMEOUT));
        if is_over(self.beat_heard_at, ECHO_TIMEOUT) || self.servers.iter().any(is_silent) {
            return Err(Lost::Deaf);
        }
        self.look_after_lives();
        self.shared.hearing.tick();
        self.measure();
        Ok(())
    }

    fn measure(&self) {
        let metrics = &self.shared.metrics;
        let (items, bytes) = self.shared.outbox.fill();
        metrics.publishes.items.set(items);
        metrics.publishes.bytes.set(bytes);
        metrics.asks.set(self.asks.len());
        metrics.in_flight.items.set(self.servers.iter().map(|server| server.flights.len()).sum());
        metrics.in_flight.bytes.set(self.in_flight.bytes);
    }

    /// Who has waited for too long hears so.
    fn expire(&mut self) -> Result<(), Lost> {
        let Some(before) = self.now.checked_sub(PUBLISH_TIMEOUT) else { return Ok(()) };
        let is_local = self.shared.settings.on_outage == crate::config::OnOutage::Local;
        for server in &mut self.servers {
            for flight in &mut server.flights {
                let Expect::Publish(publish) = &mut flight.expect else { continue };
                if publish.taken_at > before {
                    break;
                }
                // It is delivered here, and so is all that follows it: Redis is as good as away.
                if is_local {
                    return Err(Lost::Late);
                }
                let done = std::mem::replace(&mut publish.done, super::outbox::Done::Nobody);
                if !matches!(done, super::outbox::Done::Nobody) {
                    self.shared.metrics.unconfirmed.add(1);
                    self.shared.complete(done, Err(Refused::Unconfirmed));
                }
            }
        }
        if is_local {
            return Ok(());
        }
        for publish in self.shared.outbox.withdraw(before) {
            self.shared.metrics.withdrawn.add(1);
            self.shared.complete(publish.done, Err(Refused::Away));
        }
        Ok(())
    }

    /// Writes what fits the windows.
    fn fill(&mut self) -> Result<(), Lost> {
        while self.in_flight.asks < ASKS_IN_FLIGHT_MAX && self.has_room() {
            if self.asks.is_empty() {
                self.shared.cluster.take(&mut self.asks);
            }
            let Some(ask) = self.asks.pop_front() else { break };
            self.ask(ask);
        }
        if self.asks.len() > ASKS_MAX {
            return Err(Lost::Overrun);
        }
        while self.in_flight.queries < QUERIES_IN_FLIGHT_MAX && self.has_room() {
            let Some(query) = self.shared.queries.take() else { break };
            self.query(query);
        }
        self.publish();
        Ok(())
    }

    fn publish(&mut self) {
        let commands = PUBLISHES_IN_FLIGHT_MAX.saturating_sub(self.in_flight.publishes);
        let bytes = PUBLISH_BYTES_IN_FLIGHT_MAX.saturating_sub(self.in_flight.publish_bytes);
        if commands == 0 || (bytes == 0 && self.in_flight.publishes > 0) {
            return;
        }
        let mut publishes = std::mem::take(&mut self.publishes);
        self.shared.outbox.take(commands, bytes, &mut publishes);
        let sent_at = self.now;
        for mut publish in publishes.drain(..) {
            let command = std::mem::take(&mut publish.command);
            let (slot, bytes) = (publish.slot, command.len());
            let expect = Expect::Publish(Box::new(publish));
            self.in_flight.add(&expect, bytes);
            let server = self.server(slot);
            server.commands.packed(&command);
            server.flights.push_back(Flight { sent_at, bytes, expect });
        }
        self.publishes = publishes;
    }

    fn has_room(&self) -> bool {
        self.servers.iter().all(|server| server.commands.has_room() && server.topics.has_room())
    }

    /// Sleeps until something has come, is to be done, or can be written on.
    async fn sleep(&mut self) -> Result<(), Lost> {
        let shared = self.shared;
        let mut until = self.next_tick.min(self.next_beat);
        if self.in_flight.publishes > 0 {
            until = until.min(self.now + LOOK);
        }
        if self.is_paused {
            until = until.min(self.now + PAUSE);
        }
        if self.leaving_since.is_some() {
            until = until.min(self.now + LOOK);
        }
        self.alarm.as_mut().reset(until.into());
        let (mut asked, mut filled) = (pin!(shared.cluster.asked()), pin!(shared.outbox.filled()));
        let (servers, alarm, is_paused) = (&mut self.servers, &mut self.alarm, self.is_paused);
        poll_fn(|cx| {
            let mut is_woken = false;
            for server in servers.iter_mut() {
                is_woken |= server.commands.poll_write(cx)?;
                is_woken |= server.topics.poll_write(cx)?;
                is_woken |= server.commands.poll_read(cx)?;
                if !is_paused {
                    is_woken |= server.topics.poll_read(cx)?;
                }
            }
            is_woken |= asked.as_mut().poll(cx).is_ready();
            is_woken |= filled.as_mut().poll(cx).is_ready();
            is_woken |= alarm.as_mut().poll(cx).is_ready();
            if is_woken { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    fn take_answers(&mut self) -> Result<(), Lost> {
        for at in 0..self.servers.len() {
            while let Some(server) = self.servers.get_mut(at)
                && let Some(reply) = server.commands.reply()?
            {
                let flight = server.flights.pop_front().ok_or(Lost::Unexpected)?;
                self.in_flight.remove(&flight);
                self.answered(flight.expect, &reply)?;
            }
        }
        Ok(())
    }

    fn answered(&mut self, expect: Expect, reply: &Reply) -> Result<(), Lost> {
        if let Reply::Error(line) = reply {
            self.said(line)?;
        }
        match expect {
            Expect::Publish(publish) => self.published(*publish, reply),
            Expect::Change(asked) => self.changed(&asked, reply),
            Expect::Replaced(asked) => self.shares(&asked, reply, true),
            Expect::Read(asked) => self.shares(&asked, reply, false),
            Expect::Beat => self.beaten(reply),
            Expect::Lease(life) => self.lease_is(life, reply),
            Expect::Query(gathering, at) => gathering.borrow_mut().put(at, reply, &self.node.living),
            Expect::Index(wanted) => self.clean_index(&wanted, reply),
            Expect::Tags(life) => self.reap(life, reply),
            Expect::Reaped(life) => self.reaped(life),
            Expect::Nothing => {}
        }
        Ok(())
    }

    /// What an error says of the server. One that concerns the command alone is counted, and seldom logged.
    fn said(&self, line: &[u8]) -> Result<(), Lost> {
        const OVER: [&[u8]; 11] = [
            b"NOSCRIPT",
            b"MOVED",
            b"ASK",
            b"CLUSTERDOWN",
            b"TRYAGAIN",
            b"CROSSSLOT",
            b"READONLY",
            b"LOADING",
            b"MASTERDOWN",
            b"NOAUTH",
            b"UNKILLABLE",
        ];
        let text = String::from_utf8_lossy(line.get(..200).unwrap_or(line)).into_owned();
        if OVER.iter().any(|word| line.starts_with(word)) {
            return Err(Lost::Said(text));
        }
        self.shared.metrics.errors.add(1);
        if self.shared.error_line.is_due() {
            tracing::warn!(answer = text, "redis refuses a command");
        }
        Ok(())
    }

    fn published(&self, publish: Publish, reply: &Reply) {
        let metrics = &self.shared.metrics;
        if matches!(publish.done, super::outbox::Done::Nobody) {
            return;
        }
        let outcome = if matches!(reply, Reply::Error(_)) { Err(Refused::Away) } else { Ok(()) };
        let total = if outcome.is_ok() { &metrics.accepted } else { &metrics.refused };
        total.add(1);
        metrics.publish_seconds.observe(self.now.saturating_duration_since(publish.taken_at).as_secs_f64());
        self.shared.complete(publish.done, outcome);
    }

    fn changed(&mut self, asked: &Asked, reply: &Reply) {
        let Asked { subject, tag, life, sequence } = asked;
        let hearing = &self.shared.hearing;
        match answers::word(reply) {
            b"done" => {
                hearing.done(subject, *sequence);
                let is_empty = answers::items(reply).get(3).and_then(answers::number) == Some(1);
                if is_empty && *life == self.node.life {
                    self.unindex(tag, *sequence);
                }
            }
            b"over" => hearing.refused(subject, *life, *sequence, true),
            _ => hearing.refused(subject, *life, *sequence, false),
        }
    }

    fn shares(&mut self, asked: &Asked, reply: &Reply, is_replacement: bool) {
        let Asked { subject, tag, life, sequence } = asked;
        let hearing = &self.shared.hearing;
        match answers::word(reply) {
            b"over" => return hearing.refused(subject, *life, *sequence, true),
            b"stale" => return hearing.refused(subject, *life, *sequence, false),
            _ => {}
        }
        let mut malformed = 0;
        let Node { lives, leased, life: own, .. } = &mut *self.node;
        let has_lease = |life: NodeId| leased.contains(&life);
        let mut known = Known { own: *own, lives, has_lease: &has_lease, now: self.now };
        let answer = match is_replacement {
            true => known.replaced(reply, &mut malformed),
            false => known.read(reply, &mut malformed),
        };
        if malformed > 0 {
            self.shared.malformed("an entry of a share is malformed", tag);
        }
        let Some((answer, kept)) = answer else {
            // It was refused with an error: who waits for it hears that nothing came in time.
            return hearing.refused(subject, *life, *sequence, false);
        };
        let is_empty = !answer.shares.iter().any(|share| share.life == *own && share.count > 0);
        hearing.answered(subject, *sequence, answer, kept);
        if is_replacement && is_empty && *life == self.node.life {
            self.unindex(tag, *sequence);
        }
    }

    /// Where the servers are.
    pub(super) fn addresses(&self) -> String {
        let addresses: Vec<_> = self.servers.iter().map(|server| server.address.as_str()).collect();
        addresses.join(", ")
    }

    /// The server that has what belongs to this tag.
    pub(super) fn master(&mut self, tag: &[u8]) -> &mut Server {
        let slot = if self.is_sharded { slot_of(tag) } else { 0 };
        self.server(slot)
    }

    #[expect(clippy::indexing_slicing, reason = "a stretch begins with at least one server")]
    fn server(&mut self, slot: u16) -> &mut Server {
        let owns = |server: &Server| server.slots.iter().any(|slots| slots.contains(&slot));
        let at = if self.is_sharded { self.servers.iter().position(owns).unwrap_or(0) } else { 0 };
        &mut self.servers[at]
    }

    /// The tag of a subject; `None` if its app was removed before it was ever named.
    pub(super) fn tag(&mut self, subject: &Subject) -> Option<Bytes> {
        self.app_of(subject).map(|app| keys::tag(&app, subject))
    }

    /// The app of a subject. That of one that was removed is remembered: its channels still have to leave.
    pub(super) fn app_of(&mut self, subject: &Subject) -> Option<AppId> {
        let index = match subject {
            Subject::Channel(key) => key.app,
            Subject::User(user) => user.app,
        };
        if let Some(app) = self.node.apps.get(&index) {
            return Some(app.clone());
        }
        let app = self.shared.app(index)?;
        self.node.apps.insert(index, app.clone());
        Some(app)
    }
}

pub(super) fn alarm() -> Pin<Box<Sleep>> {
    Box::pin(sleep(TICK))
}
