//! Who the masters are, and two connections to each: one for commands, one for topics.

use std::{collections::BTreeMap, future::Future, ops::RangeInclusive, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    dial::{ANSWER_TIMEOUT, Dialler, within},
    error::{ConnectError, Problem},
    link::Link,
    resp::Reply,
    server::{Server, no_error},
    slots::{Owner, Owners, SLOTS, owners},
};
use crate::config::{RedisAddress, RedisServers, RedisSettings};

/// All of it takes at most so long with one server.
pub const STANDALONE_TIMEOUT: Duration = Duration::from_secs(2);
/// All of it takes at most so long where others are asked first.
pub const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(3);
/// One that is asked, a sentinel or a node of the cluster, has so long to answer; then the next one is.
pub const ASKED_TIMEOUT: Duration = Duration::from_millis(500);

/// How often the sentinels are asked whether the master is still the same. With what the answers may take, a node
/// follows them within a second and a half.
const LOOK: Duration = Duration::from_millis(500);

/// A server to work with.
#[derive(Debug)]
pub struct Master {
    /// Where it is, to be shown.
    pub address: String,
    /// Another one at the same address is another process, which may have other data.
    pub run_id: String,
    /// Which keys are there; all, except on Redis Cluster.
    pub slots: Vec<RangeInclusive<u16>>,
    /// For commands.
    pub commands: Link,
    /// For topics.
    pub topics: Link,
}

/// Finds all masters and connects to them: one, or as many as a Redis Cluster has. Then no slot is without one.
///
/// Cancel safe: what was dialled is closed. Errors: [`ConnectError`].
pub async fn connect(settings: &RedisSettings) -> Result<Vec<Master>, ConnectError> {
    let dialler = Arc::new(Dialler::new(settings.clone()));
    match &settings.servers {
        RedisServers::Standalone(address) => {
            let milliseconds = STANDALONE_TIMEOUT.as_millis();
            let late = || Problem::Silent { milliseconds }.at(address);
            let master = timeout(STANDALONE_TIMEOUT, single(&dialler, address)).await;
            Ok(vec![master.unwrap_or_else(|_| Err(late()))?])
        }
        RedisServers::Sentinel { master, sentinels, .. } => {
            Ok(vec![discovered(by_sentinels(&dialler, master, sentinels)).await?])
        }
        RedisServers::Cluster(nodes) => discovered(by_nodes(&dialler, nodes)).await,
    }
}

/// Comes back once a sentinel names another master than this one, which takes itself for one, too; never where no
/// sentinels are asked. The old one may go on as a master for a quarter of a minute until it is told, and what it is
/// given meanwhile is lost.
///
/// Cancel safe.
pub async fn moved(settings: &RedisSettings, address: &str) {
    let RedisServers::Sentinel { master, sentinels, .. } = &settings.servers else {
        return std::future::pending().await;
    };
    let dialler = Arc::new(Dialler::new(settings.clone()));
    loop {
        sleep(LOOK).await;
        if let Some(named) = named_by_any(&dialler, master, sentinels).await
            && named.to_string() != address
            && single(&dialler, &named).await.is_ok()
        {
            return;
        }
    }
}

/// What the first sentinel that answers takes for the master: whoever connects now would begin there.
async fn named_by_any(
    dialler: &Arc<Dialler>,
    name: &str,
    sentinels: &[RedisAddress],
) -> Option<RedisAddress> {
    let mut asked = Asked::all(dialler, name, sentinels);
    while let Some(answer) = asked.next().await {
        if let Ok(address) = answer {
            return Some(address);
        }
    }
    None
}

/// Sentinels that are asked all at once, so that those that do not answer cost the time of one. Dropping it ends that.
pub(super) struct Asked {
    asking: JoinSet<(usize, Result<RedisAddress, ConnectError>)>,
    /// Of those that come later in the list than one that has not answered yet.
    early: BTreeMap<usize, Result<RedisAddress, ConnectError>>,
    /// Whose answer is the next one.
    next: usize,
}

impl Asked {
    pub(super) fn all(dialler: &Arc<Dialler>, name: &str, sentinels: &[RedisAddress]) -> Self {
        let mut asking = JoinSet::new();
        for (at, sentinel) in sentinels.iter().cloned().enumerate() {
            let (dialler, name) = (Arc::clone(dialler), name.to_owned());
            asking.spawn(async move {
                let late = || Problem::Silent { milliseconds: ASKED_TIMEOUT.as_millis() };
                let asked = timeout(ASKED_TIMEOUT, ask_sentinel(&dialler, &name, &sentinel)).await;
                (at, asked.unwrap_or_else(|_| Err(late().at_sentinel(&sentinel))))
            });
        }
        Self { asking, early: BTreeMap::new(), next: 0 }
    }

    /// The next answer in the order of the list.
    pub(super) async fn next(&mut self) -> Option<Result<RedisAddress, ConnectError>> {
        loop {
            if let Some(answer) = self.early.remove(&self.next) {
                self.next += 1;
                return Some(answer);
            }
            // None panics, and none is aborted while this waits.
            let (at, answer) = self.asking.join_next().await?.ok()?;
            self.early.insert(at, answer);
        }
    }
}

/// Within the time that finding anything may take.
pub(super) async fn discovered<T>(
    found: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    let late = ConnectError::Late { seconds: DISCOVERY_TIMEOUT.as_secs() };
    timeout(DISCOVERY_TIMEOUT, found).await.unwrap_or(Err(late))
}

/// One server with all slots.
async fn single(dialler: &Dialler, address: &RedisAddress) -> Result<Master, ConnectError> {
    connected(dialler, address, vec![0..=SLOTS - 1], false).await
}

/// Both connections to a server, which are sure to lead to the same one: there may be something in between.
async fn connected(
    dialler: &Dialler,
    address: &RedisAddress,
    slots: Vec<RangeInclusive<u16>>,
    is_cluster: bool,
) -> Result<Master, ConnectError> {
    let link = || async {
        let mut link = dialler.dial(address).await?;
        let server = within(ANSWER_TIMEOUT, Server::master(&mut link, is_cluster)).await;
        Ok::<_, ConnectError>((link, server.map_err(|problem| problem.at(address))?.run_id))
    };
    let ((commands, run_id), (topics, other)) = tokio::try_join!(link(), link())?;
    if run_id != other {
        return Err(Problem::TwoServers.at(address));
    }
    Ok(Master { address: address.to_string(), run_id, slots, commands, topics })
}

/// Asks all sentinels, and goes by the first in the list that knows a master that is there and takes itself for one.
async fn by_sentinels(
    dialler: &Arc<Dialler>,
    name: &str,
    sentinels: &[RedisAddress],
) -> Result<Master, ConnectError> {
    let (mut tried, mut failed) = (Vec::new(), Vec::new());
    let mut asked = Asked::all(dialler, name, sentinels);
    while let Some(answer) = asked.next().await {
        let address = match answer {
            Ok(address) if failed.contains(&address) => continue,
            Ok(address) => address,
            Err(error) => {
                tried.push(error);
                continue;
            }
        };
        match single(dialler, &address).await {
            Ok(master) => return Ok(master),
            Err(error) => tried.push(error),
        }
        failed.push(address);
    }
    Err(ConnectError::NoMaster { master: name.to_owned(), tried })
}

async fn ask_sentinel(
    dialler: &Dialler,
    name: &str,
    sentinel: &RedisAddress,
) -> Result<RedisAddress, ConnectError> {
    let mut link = dialler.dial_sentinel(sentinel).await?;
    let words: [&[u8]; 3] = [b"SENTINEL", b"get-master-addr-by-name", name.as_bytes()];
    let answer = link.ask(&words).await.map_err(Problem::of_link);
    let read = answer.and_then(|reply| named(name, no_error("SENTINEL", Some(reply))?));
    read.map_err(|problem| problem.at_sentinel(sentinel))
}

/// A sentinel's answer: host and port as texts, or nothing.
fn named(master: &str, answer: Reply) -> Result<RedisAddress, Problem> {
    let strange = || Problem::Strange { command: "SENTINEL" };
    let Reply::Array(items) = answer else {
        let unknown = Problem::UnknownMaster { master: master.to_owned() };
        return Err(if answer == Reply::Nil { unknown } else { strange() });
    };
    let [Reply::Bulk(host), Reply::Bulk(port)] = items.as_slice() else { return Err(strange()) };
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| strange());
    Ok(RedisAddress::Tcp(text(host)?.to_owned(), text(port)?.parse().map_err(|_| strange())?))
}

/// Asks one node after the other, until one tells of masters that are all there.
async fn by_nodes(dialler: &Arc<Dialler>, nodes: &[RedisAddress]) -> Result<Vec<Master>, ConnectError> {
    let mut tried = Vec::new();
    for node in nodes {
        let masters = match ask_node(dialler, node).await {
            Ok(owners) => all(dialler, node, owners).await,
            Err(error) => Err(error),
        };
        match masters {
            Ok(masters) => return Ok(masters),
            Err(error) => tried.push(error),
        }
    }
    Err(ConnectError::NoNode { tried })
}

/// What a node says the cluster is made of, if it says so in time.
pub(super) async fn ask_node(dialler: &Dialler, node: &RedisAddress) -> Result<Owners, ConnectError> {
    let late = || Problem::Silent { milliseconds: ASKED_TIMEOUT.as_millis() }.at(node);
    timeout(ASKED_TIMEOUT, owners_of(dialler, node)).await.unwrap_or_else(|_| Err(late()))
}

async fn owners_of(dialler: &Dialler, node: &RedisAddress) -> Result<Owners, ConnectError> {
    let mut link = dialler.dial(node).await?;
    let commands: [&[&[u8]]; 2] = [&[b"INFO", b"server"], &[b"CLUSTER", b"SLOTS"]];
    let replies = link.ask_all(&commands).await.map_err(Problem::of_link);
    let read = replies.and_then(|replies| {
        let mut replies = replies.into_iter();
        Server::read(replies.next())?.check(true)?;
        owners(&no_error("CLUSTER SLOTS", replies.next())?)
    });
    read.map_err(|problem| problem.at(node))
}

/// Connects to all masters at once.
async fn all(
    dialler: &Arc<Dialler>,
    asked: &RedisAddress,
    owners: Owners,
) -> Result<Vec<Master>, ConnectError> {
    let mut dialling = JoinSet::new();
    for (owner, slots) in owners {
        let address = address_of(owner, asked)?;
        let dialler = Arc::clone(dialler);
        dialling.spawn(async move { connected(&dialler, &address, slots, true).await });
    }
    let mut masters = Vec::new();
    while let Some(dialled) = dialling.join_next().await {
        // None is aborted, so what did not end was broken off by the end of the program.
        masters.push(dialled.map_err(|_| Problem::Closed.at(asked))??);
    }
    masters.sort_unstable_by_key(|master| master.slots.first().map(|range| *range.start()));
    Ok(masters)
}

/// Where a master is; one that does not know its own host is where we asked.
pub(super) fn address_of(owner: Owner, asked: &RedisAddress) -> Result<RedisAddress, ConnectError> {
    match (owner, asked) {
        ((Some(host), port), _) => Ok(RedisAddress::Tcp(host, port)),
        ((None, port), RedisAddress::Tcp(host, _)) => Ok(RedisAddress::Tcp(host.clone(), port)),
        ((None, _), RedisAddress::Unix(_)) => Err(Problem::Strange { command: "CLUSTER SLOTS" }.at(asked)),
    }
}
