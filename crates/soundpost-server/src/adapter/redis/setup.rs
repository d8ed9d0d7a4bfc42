//! From nothing to a connected stretch: dial, load the scripts, hear the control topic, renew the lease.

use std::{collections::VecDeque, future::poll_fn, task::Poll, time::Instant};

use super::{
    Shared,
    commands::Expect,
    index::Index,
    keys,
    lanes::{CATCHING_UP_MAX, InFlight},
    lives::Node,
    pipe::Pipe,
    reaping::Reaping,
    scripts::{Digests, Script},
    session::{Lost, Server, Session, TICK, alarm},
    topics::Topics,
    wire::{
        error::ConnectError,
        resp::Reply,
        topology::{Master, connect},
    },
};

/// Why there is no connected stretch.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetupError {
    /// Redis is not reached.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// It is, but what follows is not answered as it should be.
    #[error("{0}")]
    Lost(#[from] Lost),
}

impl From<std::io::Error> for SetupError {
    fn from(error: std::io::Error) -> Self {
        Self::Lost(error.into())
    }
}

/// The next reply of a connection on which nothing else is going on.
async fn reply(pipe: &mut Pipe) -> Result<Reply, Lost> {
    poll_fn(|cx| {
        loop {
            if let Some(reply) = pipe.reply()? {
                if let Reply::Error(line) = reply {
                    return Poll::Ready(Err(Lost::said(&line)));
                }
                return Poll::Ready(Ok(reply));
            }
            pipe.poll_write(cx)?;
            if !pipe.poll_read(cx)? {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// Loads the scripts.
async fn load(commands: &mut Pipe, is_sharded: bool) -> Result<Digests, Lost> {
    for script in Script::ALL {
        commands.command(&[b"SCRIPT", b"LOAD", script.text(is_sharded).as_bytes()]);
    }
    let mut digests = Digests::default();
    for digest in &mut digests.0 {
        let Reply::Bulk(text) = reply(commands).await? else { return Err(Lost::Unexpected) };
        *digest = text;
    }
    Ok(digests)
}

/// Everything up to the point where channels can be told. The caller bounds the time it takes.
pub(super) async fn begin<'a>(shared: &'a Shared, node: &'a mut Node) -> Result<Session<'a>, SetupError> {
    let is_sharded = shared.is_sharded();
    let masters = connect(&shared.settings).await?;
    let runs = masters.iter().map(|master| master.run_id.clone()).collect();
    let (mut servers, mut digests) = (Vec::new(), Digests::default());
    for Master { address, slots, commands, topics, .. } in masters {
        let (mut commands, topics) = (Pipe::new(commands), Pipe::new(topics));
        digests = load(&mut commands, is_sharded).await?;
        servers.push(Server { address, slots, commands, topics, flights: VecDeque::new(), pinged_at: None });
    }
    if servers.is_empty() {
        return Err(Lost::Unexpected.into());
    }
    shared.digests.get_or_init(|| digests.clone());
    let now = Instant::now();
    let mut session = Session {
        shared,
        node,
        digests,
        servers,
        is_sharded,
        now,
        topics: Topics::default(),
        control: shared.names.control(),
        in_flight: InFlight::default(),
        asks: VecDeque::new(),
        index: Index::default(),
        reaping: Reaping::default(),
        is_paused: false,
        beat_heard_at: now,
        next_beat: now,
        next_tick: now + TICK,
        catching_up: None,
        leaving_since: None,
        has_said_farewell: false,
        alarm: alarm(),
        publishes: Vec::new(),
    };
    session.join(runs).await?;
    Ok(session)
}

impl Session<'_> {
    /// Hears the control topic, renews the lease, and tells the channels.
    async fn join(&mut self, runs: std::collections::BTreeSet<String>) -> Result<(), Lost> {
        let control = self.control.clone();
        let verb: &[u8] = if self.is_sharded { b"SSUBSCRIBE" } else { b"SUBSCRIBE" };
        let server = self.master(keys::NODES);
        server.topics.command(&[verb, &control]);
        reply(&mut server.topics).await?;
        self.now = Instant::now();
        let is_new = self.begin_life(runs);
        self.beat();
        self.first_beat().await?;
        self.now = Instant::now();
        self.beat_heard_at = self.now;
        self.node.lives.connect(self.now);
        self.shared.metrics.connects.add(1);
        self.shared.cluster.enter();
        self.catching_up = Some(self.now + CATCHING_UP_MAX);
        self.shared.outbox.open();
        self.node.holding.reconnect(self.now);
        self.name_all_held();
        if !is_new {
            self.check_index();
        }
        self.shared.hearing.back();
        Ok(())
    }

    /// Before any share is read, it is known who has a lease.
    async fn first_beat(&mut self) -> Result<(), Lost> {
        let server = self.master(keys::NODES);
        let answer = reply(&mut server.commands).await?;
        let flight = server.flights.pop_front().ok_or(Lost::Unexpected)?;
        self.in_flight.remove(&flight);
        let Expect::Beat(life, asked_at) = flight.expect else { return Err(Lost::Unexpected) };
        self.beaten(life, asked_at, &answer)
    }
}
