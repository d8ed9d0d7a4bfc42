//! Where one key is: a connection to the master that has it, for those who use a Redis beside what the nodes do there.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    dial::{ANSWER_TIMEOUT, Dialler, within},
    error::{ConnectError, Problem},
    link::Link,
    resp::Reply,
    server::Server,
    slots::slot_of,
    topology::{Asked, address_of, ask_node, discovered},
};
use crate::config::{RedisAddress, RedisServers, RedisSettings};

/// How long a master that sentinels have named is taken for one without asking them again. A former master may go on for
/// a quarter of a minute until it is told, and what it is given meanwhile is lost.
const NAMED_FOR: Duration = Duration::from_secs(1);

/// One key, wherever it is now.
#[derive(Debug)]
pub struct KeyPlace {
    slot: u16,
    settings: RedisSettings,
    /// Its files are read once, and again after a failure: they may have been replaced.
    dialler: Mutex<Arc<Dialler>>,
}

/// A connection to the master that has the key.
#[derive(Debug)]
pub struct KeyLink {
    link: Link,
    address: RedisAddress,
    dialled_at: Instant,
}

impl KeyPlace {
    /// Of a key in the Redis of these settings, of which the names count for nothing.
    pub fn new(settings: RedisSettings, key: &[u8]) -> Self {
        let dialler = Mutex::new(Arc::new(Dialler::new(settings.clone())));
        Self { slot: slot_of(key), settings, dialler }
    }

    /// Whether it is at the same server for ever.
    pub const fn is_fixed(&self) -> bool {
        matches!(self.settings.servers, RedisServers::Standalone(_))
    }

    /// Finds the master and connects to it, within about 3 s.
    ///
    /// Cancel safe: what was dialled is closed. Errors: [`ConnectError`].
    pub async fn dial(&self) -> Result<KeyLink, ConnectError> {
        let dialler = Arc::clone(&self.dialler.lock());
        let dialled = match &self.settings.servers {
            RedisServers::Standalone(address) => {
                dialler.dial(address).await.map(|link| KeyLink::new(link, address.clone()))
            }
            RedisServers::Sentinel { master, sentinels, .. } => {
                discovered(by_sentinels(&dialler, master, sentinels)).await
            }
            RedisServers::Cluster(nodes) => discovered(by_nodes(&dialler, nodes, self.slot)).await,
        };
        if dialled.is_err() {
            *self.dialler.lock() = Arc::new(Dialler::new(self.settings.clone()));
        }
        dialled
    }

    /// Whether a connection that nothing was asked on for a while can be expected to lead there.
    pub async fn is_good(&self, link: &mut KeyLink) -> bool {
        let is_named = match &self.settings.servers {
            RedisServers::Sentinel { .. } => link.dialled_at.elapsed() < NAMED_FOR,
            RedisServers::Standalone(_) | RedisServers::Cluster(_) => true,
        };
        is_named && link.link.is_quiet().await
    }
}

impl KeyLink {
    fn new(link: Link, address: RedisAddress) -> Self {
        Self { link, address, dialled_at: Instant::now() }
    }

    /// Where it leads, to be shown.
    pub const fn address(&self) -> &RedisAddress {
        &self.address
    }

    /// Says one command and waits for its reply; an error that the server replies is a reply.
    ///
    /// Not cancel safe: a connection on which that happened is of no further use. Errors: [`ConnectError::Server`], with the
    /// same result.
    pub async fn ask(&mut self, words: &[&[u8]]) -> Result<Reply, ConnectError> {
        self.link.ask(words).await.map_err(|error| Problem::of_link(error).at(&self.address))
    }

    /// What an error means that is the reply to `command`.
    pub fn refusal(&self, command: &'static str, said: &[u8]) -> ConnectError {
        Problem::of_reply(command, said).at(&self.address)
    }
}

/// By the first sentinel in the list that knows a master that is there and takes itself for one.
async fn by_sentinels(
    dialler: &Arc<Dialler>,
    name: &str,
    sentinels: &[RedisAddress],
) -> Result<KeyLink, ConnectError> {
    let (mut tried, mut dialled_before) = (Vec::new(), Vec::new());
    let mut asked = Asked::all(dialler, name, sentinels);
    while let Some(answer) = asked.next().await {
        let dialled = match answer {
            Ok(address) if dialled_before.contains(&address) => continue,
            Ok(address) => {
                dialled_before.push(address.clone());
                master(dialler, address).await
            }
            Err(error) => Err(error),
        };
        match dialled {
            Ok(link) => return Ok(link),
            Err(error) => tried.push(error),
        }
    }
    Err(ConnectError::NoMaster { master: name.to_owned(), tried })
}

async fn master(dialler: &Dialler, address: RedisAddress) -> Result<KeyLink, ConnectError> {
    let mut link = dialler.dial(&address).await?;
    match within(ANSWER_TIMEOUT, Server::master(&mut link, false)).await {
        Ok(_) => Ok(KeyLink::new(link, address)),
        Err(problem) => Err(problem.at(&address)),
    }
}

/// By the first node in the list that tells of the whole cluster.
async fn by_nodes(dialler: &Dialler, nodes: &[RedisAddress], slot: u16) -> Result<KeyLink, ConnectError> {
    let mut tried = Vec::new();
    for node in nodes {
        let dialled = match ask_node(dialler, node).await {
            Ok(owners) => {
                let mut owners = owners.into_iter();
                match owners.find(|(_, ranges)| ranges.iter().any(|range| range.contains(&slot))) {
                    Some((owner, _)) => at(dialler, address_of(owner, node)?).await,
                    None => Err(Problem::Uncovered { slot }.at(node)),
                }
            }
            Err(error) => Err(error),
        };
        match dialled {
            Ok(link) => return Ok(link),
            Err(error) => tried.push(error),
        }
    }
    Err(ConnectError::NoNode { tried })
}

async fn at(dialler: &Dialler, address: RedisAddress) -> Result<KeyLink, ConnectError> {
    Ok(KeyLink::new(dialler.dial(&address).await?, address))
}
