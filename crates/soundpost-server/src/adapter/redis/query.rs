//! What the HTTP API asks of the whole cluster: reads that one pipelined round trip answers. No other node is asked.
//!
//! The thread only carries commands and answers; whoever asks makes sense of them on its own thread.

use std::{
    cell::RefCell,
    collections::{BTreeSet, VecDeque},
    mem,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use soundpost_protocol::{
    app::AppId,
    channel::{ChannelKind, ChannelName},
    presence::{NodeId, UserId},
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    Redis, Shared, answers, commands::Expect, keys, session::Session, streams::Call, wire::resp::Reply,
};
use crate::{
    adapter::{ChannelCounts, KeptFrame, Refused},
    apps::ChannelKey,
};

/// Queries that wait.
const QUERIES_MAX: usize = 1024;
/// A query is answered within this time or not at all.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Channels, or names in an index, that are read with one round trip.
const CHUNK: usize = 1000;

/// The lives whose shares count.
#[derive(Clone, Debug, Default)]
pub(super) struct Living {
    own: Option<NodeId>,
    lives: BTreeSet<NodeId>,
}

impl Living {
    pub(super) fn new(own: NodeId, lives: BTreeSet<NodeId>) -> Self {
        Self { own: Some(own), lives }
    }

    pub(super) fn has(&self, life: NodeId) -> bool {
        self.own == Some(life) || self.lives.contains(&life)
    }

    pub(super) fn add(&mut self, life: NodeId) {
        self.lives.insert(life);
    }

    pub(super) fn remove(&mut self, life: NodeId) {
        self.lives.remove(&life);
    }

    fn all(&self) -> BTreeSet<NodeId> {
        self.lives.iter().copied().chain(self.own).collect()
    }
}

/// One command: what it is about, and its words.
type Command = (Bytes, Vec<Bytes>);
type Answer = Result<(Vec<Reply>, Arc<Living>), Refused>;

/// Some commands, and who waits for their answers.
#[derive(Debug)]
pub(super) struct Query {
    commands: Vec<Command>,
    sender: oneshot::Sender<Answer>,
}

/// The answers to one query, as they come.
#[derive(Debug)]
pub(super) struct Gathering {
    replies: Vec<Reply>,
    missing: usize,
    sender: Option<oneshot::Sender<Answer>>,
}

impl Gathering {
    /// The how-maniest answer is there.
    pub(super) fn put(&mut self, at: usize, reply: Reply, living: &Arc<Living>) {
        if let Some(place) = self.replies.get_mut(at) {
            *place = reply;
        }
        self.missing = self.missing.saturating_sub(1);
        if self.missing == 0
            && let Some(sender) = self.sender.take()
        {
            // Who does not wait any more does not need to know.
            drop(sender.send(Ok((mem::take(&mut self.replies), Arc::clone(living)))));
        }
    }
}

/// What was asked and not written yet.
#[derive(Debug, Default)]
pub(super) struct Queries(Mutex<VecDeque<Query>>);

impl Queries {
    fn put(&self, query: Query) -> Result<(), Refused> {
        let queries = &mut *self.0.lock();
        if queries.len() >= QUERIES_MAX {
            return Err(Refused::Full);
        }
        queries.push_back(query);
        Ok(())
    }

    /// The next one that anybody still waits for.
    pub(super) fn take(&self) -> Option<Query> {
        let queries = &mut *self.0.lock();
        loop {
            let query = queries.pop_front()?;
            if !query.sender.is_closed() {
                return Some(query);
            }
        }
    }

    /// Redis is away.
    pub(super) fn close(&self) {
        for query in mem::take(&mut *self.0.lock()) {
            drop(query.sender.send(Err(Refused::Away)));
        }
    }
}

impl Session<'_> {
    /// Writes the commands of a query.
    pub(super) fn query(&mut self, query: Query) {
        let Query { commands, sender } = query;
        let (replies, missing) = (vec![Reply::Nil; commands.len()], commands.len());
        let gathering = Rc::new(RefCell::new(Gathering { replies, missing, sender: Some(sender) }));
        for (at, (tag, words)) in commands.iter().enumerate() {
            let words: Vec<&[u8]> = words.iter().map(|word| &word[..]).collect();
            self.send(tag, &words, Expect::Query(Rc::clone(&gathering), at));
        }
    }
}

impl Shared {
    async fn ask(&self, commands: Vec<Command>, until: Instant) -> Answer {
        if commands.is_empty() {
            return Ok((Vec::new(), Arc::default()));
        }
        if self.cluster.is_away() {
            return Err(Refused::Away);
        }
        let (sender, receiver) = oneshot::channel();
        self.queries.put(Query { commands, sender })?;
        self.outbox.wake();
        match timeout_at(until, receiver).await {
            Ok(Ok(answer)) => answer,
            // The stretch has ended with the query on its way.
            Ok(Err(_)) => Err(Refused::Away),
            Err(_) => Err(Refused::Unconfirmed),
        }
    }

    /// What says how many are on a channel.
    fn count_command(&self, tag: Bytes, is_presence: bool) -> Command {
        if is_presence {
            return self.shares_command(tag);
        }
        let sharers = self.names.sharers(&tag);
        (tag, vec![Bytes::from_static(b"HGETALL"), sharers])
    }

    /// What goes on reading an index.
    fn scan_command(&self, life: NodeId, cursor: &Bytes) -> Command {
        let [verb, count, chunk] = ["SSCAN", "COUNT", "1000"].map(Bytes::from);
        let words = vec![verb, self.names.index(life), cursor.clone(), count, chunk];
        (keys::index_tag(life).into(), words)
    }

    /// What reads all shares of a channel.
    fn shares_command(&self, tag: Bytes) -> Command {
        let digest = self.digests.get().map(|digests| digests.of(super::scripts::Script::Read).to_vec());
        let life = self.cluster.life();
        let words = vec![
            Bytes::from_static(b"EVALSHA"),
            digest.unwrap_or_default().into(),
            Bytes::from_static(b"2"),
            self.names.sharers(&tag),
            self.names.share(&tag, life),
            keys::hex(life).into(),
            self.names.shares(&tag),
        ];
        (tag, words)
    }
}

/// The users of the shares that count.
fn users_of(reply: &Reply, living: &Living) -> (u32, Vec<UserId>) {
    let (mut connections, mut users, mut malformed) = (0_u32, Vec::new(), 0);
    let Some(shares) = answers::items(reply).first() else { return (0, users) };
    for (life, stored) in answers::by_life(shares) {
        if living.has(life) {
            let share = answers::share(stored, &mut malformed);
            connections = connections.saturating_add(share.count);
            users.extend(share.entries.into_iter().map(|entry| entry.member.user_id.clone()));
        }
    }
    users.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    users.dedup();
    (connections, users)
}

fn counts_of(reply: &Reply, living: &Living, is_presence: bool) -> Option<ChannelCounts> {
    let counts = if is_presence {
        let (subscriptions, users) = users_of(reply, living);
        ChannelCounts { subscriptions, users: u32::try_from(users.len()).ok() }
    } else {
        let counted = answers::by_life(reply).filter(|(life, _)| living.has(*life));
        let counts = counted.filter_map(|(_, count)| u32::try_from(answers::number(count)?).ok());
        ChannelCounts { subscriptions: counts.fold(0, u32::saturating_add), users: None }
    };
    (counts.subscriptions > 0).then_some(counts)
}

fn refused(replies: &[Reply]) -> Result<(), Refused> {
    let is_refused = replies.iter().any(|reply| matches!(reply, Reply::Error(_)));
    if is_refused { Err(Refused::Away) } else { Ok(()) }
}

impl Redis {
    /// Says some commands at once and gives their replies in the same order; an error that Redis replies is a reply. Never
    /// takes more than a second.
    ///
    /// Errors: [`Refused`]; after [`Refused::Away`] and [`Refused::Unconfirmed`] they may have been carried out.
    pub async fn call(&self, calls: Vec<Call>) -> Result<Vec<Reply>, Refused> {
        let commands = calls.into_iter().map(|Call { tag, words }| (tag, words));
        let (replies, _) = self.0.ask(commands.collect(), Instant::now() + TIMEOUT).await?;
        Ok(replies)
    }

    /// How many are on each of these channels, over all nodes; `None`: nobody. Errors: [`Refused`].
    pub async fn counts(&self, channels: &[Arc<ChannelKey>]) -> Result<Vec<Option<ChannelCounts>>, Refused> {
        let until = Instant::now() + TIMEOUT;
        let mut all = Vec::with_capacity(channels.len());
        for chunk in channels.chunks(CHUNK) {
            let tags = chunk.iter().map(|key| {
                let app = self.0.app(key.app)?;
                Some((keys::channel_tag(&app, key.name.as_str()), key.name.kind().is_presence()))
            });
            // An app that is gone has nobody.
            let tags: Vec<_> = tags.map(Option::unwrap_or_default).collect();
            all.extend(self.counts_of_tags(&tags, until).await?);
        }
        Ok(all)
    }

    async fn counts_of_tags(
        &self,
        tags: &[(Bytes, bool)],
        until: Instant,
    ) -> Result<Vec<Option<ChannelCounts>>, Refused> {
        let commands = tags.iter().map(|(tag, is_presence)| self.0.count_command(tag.clone(), *is_presence));
        let (replies, living) = self.0.ask(commands.collect(), until).await?;
        refused(&replies)?;
        let counts = replies.iter().zip(tags);
        Ok(counts.map(|(reply, (_, is_presence))| counts_of(reply, &living, *is_presence)).collect())
    }

    /// The channels of an app that anybody is on and whose names begin so, over all nodes, in order; those of
    /// signed-in users left out. Errors: [`Refused`].
    pub async fn channels(
        &self,
        app: &AppId,
        prefix: &str,
    ) -> Result<Vec<(ChannelName, ChannelCounts)>, Refused> {
        let until = Instant::now() + TIMEOUT;
        let names = self.names(app, prefix, until).await?;
        let mut channels = Vec::new();
        for chunk in names.chunks(CHUNK) {
            let tag = |name: &ChannelName| (keys::channel_tag(app, name.as_str()), name.kind().is_presence());
            let counts = self.counts_of_tags(&chunk.iter().map(tag).collect::<Vec<_>>(), until).await?;
            channels
                .extend(chunk.iter().cloned().zip(counts).filter_map(|(name, counts)| Some((name, counts?))));
        }
        Ok(channels)
    }

    /// The names in the indexes of all lives, in order.
    async fn names(&self, app: &AppId, prefix: &str, until: Instant) -> Result<Vec<ChannelName>, Refused> {
        let limits = self.0.apps.by_id(app.as_str()).map(|app| app.app.limits.clone());
        let Some(mut limits) = limits else { return Ok(Vec::new()) };
        // A name that one node has let in is a name.
        limits.channel_name_chars_max = usize::MAX;
        let begin = keys::channel_tag(app, prefix);
        let begin = begin.get(..begin.len() - 1).unwrap_or_default().to_vec();
        let from = keys::channel_tag(app, "").len() - 1;
        let mut names = BTreeSet::new();
        let (_, living) = self.0.ask(vec![(Bytes::new(), vec![Bytes::from_static(b"PING")])], until).await?;
        let mut cursors: Vec<_> =
            living.all().into_iter().map(|life| (life, Bytes::from_static(b"0"))).collect();
        // All indexes go on side by side, so that many nodes take no more round trips than one.
        while !cursors.is_empty() {
            let scans = cursors.iter().map(|(life, cursor)| self.0.scan_command(*life, cursor));
            let (replies, _) = self.0.ask(scans.collect(), until).await?;
            refused(&replies)?;
            for ((_, cursor), reply) in cursors.iter_mut().zip(&replies) {
                let [next, tags] = answers::items(reply) else { return Err(Refused::Away) };
                let tags = answers::items(tags).iter().map(answers::text);
                for tag in tags.filter(|tag| tag.starts_with(&begin)) {
                    let name = tag.get(from..tag.len() - 1).and_then(|name| str::from_utf8(name).ok());
                    // What is in an index of a user who signs in is no name of a channel.
                    names.extend(name.and_then(|name| ChannelName::parse(name, &limits).ok()));
                }
                *cursor = Bytes::copy_from_slice(answers::text(next));
            }
            cursors.retain(|(_, cursor)| !cursor.is_empty() && **cursor != *b"0");
        }
        names.retain(|name| name.kind() != ChannelKind::ServerToUser);
        Ok(names.into_iter().collect())
    }

    /// The users on a presence channel, over all nodes, in order. Errors: [`Refused`].
    pub async fn users(&self, channel: &ChannelKey) -> Result<Vec<UserId>, Refused> {
        let Some(app) = self.0.app(channel.app) else { return Ok(Vec::new()) };
        let command = self.0.shares_command(keys::channel_tag(&app, channel.name.as_str()));
        let (replies, living) = self.0.ask(vec![command], Instant::now() + TIMEOUT).await?;
        refused(&replies)?;
        Ok(replies.first().map(|reply| users_of(reply, &living).1).unwrap_or_default())
    }

    /// The event that a cache channel keeps. Errors: [`Refused`].
    pub async fn kept(&self, channel: &ChannelKey) -> Result<Option<KeptFrame>, Refused> {
        let Some(app) = self.0.app(channel.app) else { return Ok(None) };
        let tag = keys::channel_tag(&app, channel.name.as_str());
        let kept = self.0.names.kept(&tag);
        let command = |verb: &'static [u8]| (tag.clone(), vec![Bytes::from_static(verb), kept.clone()]);
        let commands = vec![command(b"GET"), command(b"PTTL")];
        let (replies, _) = self.0.ask(commands, Instant::now() + TIMEOUT).await?;
        refused(&replies)?;
        Ok(answers::kept_frame(&replies))
    }
}
