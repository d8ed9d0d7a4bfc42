//! One connected stretch: from the moment both connections to every server are there to the loss of one of them.
//!
//! One loop: keep time, write what fits the window, then sleep until something comes.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    io,
    ops::RangeInclusive,
    pin::{Pin, pin},
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use soundpost_protocol::app::AppId;
use tokio::time::{Sleep, sleep};

use super::{
    Shared,
    commands::Flight,
    index::Index,
    keys,
    lanes::InFlight,
    lives::Node,
    outbox::Publish,
    pipe::Pipe,
    reaping::Reaping,
    scripts::Digests,
    topics::Topics,
    wire::{resp::RespError, slots::slot_of},
};
use crate::adapter::{Ask, Subject};

/// What channels may have asked for and was not written yet. Beyond it Redis counts as lost: then every channel asks
/// anew, once.
pub const ASKS_MAX: usize = 1 << 20;
/// How often channels look at the time.
pub(super) const TICK: Duration = Duration::from_millis(250);
/// How often publishes that wait for something are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How often it is looked whether workers have room again.
const PAUSE: Duration = Duration::from_millis(2);
/// An answer that takes longer is as good as none.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);
/// What this node has said on a topic must come back within this time.
const ECHO_TIMEOUT: Duration = Duration::from_secs(5);
/// What takes longer than it should by so much was not Redis' doing.
const STOPPED: Duration = Duration::from_millis(500);

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
    #[error("redis said: {said}{advice}", said = .0, advice = advice(.0))]
    Said(String),
    /// An answer to nothing, or not of the kind that was to come.
    #[error("an answer that was not asked for")]
    Unexpected,
    /// Another server is the master now.
    #[error("the sentinels name another master")]
    Moved,
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

impl Lost {
    /// An error of Redis, of which no more is shown than fits a line.
    pub(super) fn said(line: &[u8]) -> Self {
        Self::Said(String::from_utf8_lossy(line.get(..200).unwrap_or(line)).into_owned())
    }
}

/// What to look at when Redis says that, for those who do not know its words.
fn advice(said: &str) -> &'static str {
    const KNOWN: [(&str, &str); 6] = [
        ("NOPERM", "; its user lacks rights, docs/scaling.md has the line that gives them"),
        ("can't run this command", "; its user lacks rights, docs/scaling.md has the line that gives them"),
        ("unknown command", "; the command is renamed or disabled there, and needed"),
        ("OOM", "; it is full, see its maxmemory"),
        ("READONLY", "; it has become a replica"),
        ("NOSCRIPT", "; its scripts were flushed, and are loaded again"),
    ];
    KNOWN.iter().find(|(words, _)| said.contains(words)).map_or("", |(_, advice)| advice)
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
    pub(super) index: Index,
    pub(super) reaping: Reaping,
    /// The workers have no room: nothing is read.
    pub(super) is_paused: bool,
    pub(super) beat_heard_at: Instant,
    pub(super) next_beat: Instant,
    pub(super) next_tick: Instant,
    /// Until then, what tells webhooks waits for what the node has noted before.
    pub(super) catching_up: Option<Instant>,
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
            self.advance(Duration::ZERO);
            self.keep_time()?;
            self.fill()?;
            if self.has_left() {
                return Ok(());
            }
            let until = self.alarm_at();
            self.sleep(until).await?;
            self.advance(until.saturating_duration_since(self.now));
            self.take_answers()?;
            self.hear()?;
        }
    }

    /// It is later. What goes beyond `expected` is nobody else's fault: the process was stopped, or channels took long.
    fn advance(&mut self, expected: Duration) {
        let before = std::mem::replace(&mut self.now, Instant::now());
        let passed = self.now.saturating_duration_since(before);
        let stopped = passed.saturating_sub(expected);
        if stopped < STOPPED {
            return;
        }
        self.beat_heard_at += stopped;
        for server in &mut self.servers {
            server.flights.iter_mut().for_each(|flight| flight.sent_at += stopped);
            server.pinged_at = server.pinged_at.map(|at| at + stopped);
        }
    }

    fn keep_time(&mut self) -> Result<(), Lost> {
        let renounced = self.shared.cluster.take_renounced() == Some(self.node.life);
        // Whoever takes over what it has held may find it gone before it has ended.
        if (renounced || self.node.is_lease_over(self.now)) && !self.has_said_farewell {
            self.renew();
        }
        if self.now >= self.next_beat {
            self.beat();
        }
        self.expire()?;
        self.see_to_held();
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
        metrics.asks.set(self.asks_waiting());
        metrics.in_flight.items.set(self.servers.iter().map(|server| server.flights.len()).sum());
        metrics.in_flight.bytes.set(self.in_flight.bytes);
    }

    pub(super) fn has_room(&self) -> bool {
        self.servers.iter().all(|server| server.commands.has_room() && server.topics.has_room())
    }

    /// Sleeps until something has come, is to be done, or can be written on.
    async fn sleep(&mut self, until: Instant) -> Result<(), Lost> {
        let shared = self.shared;
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

    /// When there is something to be done even if nothing comes.
    fn alarm_at(&self) -> Instant {
        let mut until = self.next_tick.min(self.next_beat);
        if self.has_room()
            && let Some(due) = self.node.holding.next()
        {
            until = until.min(due);
        }
        if self.in_flight.publishes > 0 {
            until = until.min(self.now + LOOK);
        }
        if self.is_paused || self.catching_up.is_some() {
            until = until.min(self.now + PAUSE);
        }
        if self.leaving_since.is_some() {
            until = until.min(self.now + LOOK);
        }
        until
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
    pub(super) fn server(&mut self, slot: u16) -> &mut Server {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_says_comes_with_what_to_look_at() {
        for (said, advised) in [
            ("NOPERM this user has no permissions to run the 'evalsha' command", "lacks rights"),
            ("ERR The user executing the script can't run this command or subcommand", "lacks rights"),
            ("ERR unknown command 'EVALSHA', with args beginning with:", "renamed or disabled"),
            ("OOM command not allowed when used memory > 'maxmemory'.", "maxmemory"),
        ] {
            let shown = Lost::Said(said.to_owned()).to_string();
            assert!(
                shown.starts_with(&format!("redis said: {said}; ")) && shown.contains(advised),
                "{shown}"
            );
        }
        assert_eq!(Lost::Said("ERR syntax error".to_owned()).to_string(), "redis said: ERR syntax error");
    }
}
