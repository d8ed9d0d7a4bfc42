//! From an address to a connection that is ready for use: TCP or a Unix socket, TLS, who we are, which database.

use std::{future::Future, io, net::SocketAddr, path::Path, time::Duration};

use super::{
    error::{ConnectError, Problem, TLS_TABLE},
    link::Link,
    resp::Reply,
};
use crate::{
    config::{RedisAddress, RedisPassword, RedisServers, RedisSettings},
    tls::TlsClient,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpStream, UnixStream, lookup_host},
    sync::OnceCell,
    task::spawn_blocking,
    time::timeout,
};

/// Finding the address of a host and reaching it takes at most so long, whatever number of addresses it has.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// TLS and the first talk take at most so long.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// The name of our connections in `CLIENT LIST`.
const CLIENT_NAME: &[u8] = b"soundpost";
/// The kernel finds out after half a minute that the other host is gone, where nothing else does.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(15))
    .with_interval(Duration::from_secs(5))
    .with_retries(3);

/// Dials. Holds what all connections of one attempt have in common.
#[derive(Debug)]
pub(super) struct Dialler {
    pub(super) settings: RedisSettings,
    /// Read when the first server is there, for the system's roots are some hundreds.
    tls: OnceCell<TlsClient>,
}

/// As whom we come.
struct Login<'a> {
    username: Option<&'a str>,
    password: Option<&'a RedisPassword>,
    database: u32,
}

/// A connection to one server with these settings: its address may be another than theirs.
///
/// Errors: [`ConnectError::Server`] and [`ConnectError::Files`].
pub async fn dial(address: &RedisAddress, settings: &RedisSettings) -> Result<Link, ConnectError> {
    Dialler::new(settings.clone()).dial(address).await
}

impl Dialler {
    pub(super) fn new(settings: RedisSettings) -> Self {
        Self { settings, tls: OnceCell::new() }
    }

    /// A connection to a server that holds data.
    pub(super) async fn dial(&self, address: &RedisAddress) -> Result<Link, ConnectError> {
        let settings = &self.settings;
        let database =
            if matches!(settings.servers, RedisServers::Cluster(_)) { 0 } else { settings.database };
        let login =
            Login { username: settings.username.as_deref(), password: settings.password.as_ref(), database };
        self.open(address, &login).await.map_err(|failed| failed.with(|problem| problem.at(address)))
    }

    /// A connection to a sentinel.
    pub(super) async fn dial_sentinel(&self, address: &RedisAddress) -> Result<Link, ConnectError> {
        let (username, password) = match &self.settings.servers {
            RedisServers::Sentinel { username, password, .. } => (username.as_deref(), password.as_ref()),
            RedisServers::Standalone(_) | RedisServers::Cluster(_) => (None, None),
        };
        let login = Login { username, password, database: 0 };
        self.open(address, &login).await.map_err(|failed| failed.with(|problem| problem.at_sentinel(address)))
    }

    async fn open(&self, address: &RedisAddress, login: &Login<'_>) -> Result<Link, Failed> {
        let mut link = match address {
            // Redis speaks no TLS there.
            RedisAddress::Unix(path) => Link::new(reach_unix(path).await?),
            RedisAddress::Tcp(host, port) => {
                let stream = reach(host, *port).await?;
                match self.tls().await? {
                    Some(tls) => secure(stream, host, tls).await?,
                    None => Link::new(stream),
                }
            }
        };
        within(ANSWER_TIMEOUT, login.say(&mut link)).await?;
        Ok(link)
    }

    async fn tls(&self) -> Result<Option<&TlsClient>, Failed> {
        let Some(tls) = self.settings.tls.clone() else { return Ok(None) };
        // A slow disk must not hold up the thread, which has a lease to renew.
        let load = || async {
            let load = move || TlsClient::load(TLS_TABLE, tls.ca.as_deref(), tls.client.as_ref());
            match spawn_blocking(load).await {
                Ok(loaded) => loaded.map_err(|error| Failed::Files(error.into())),
                Err(_) => Err(Failed::At(Problem::Tls("its files could not be read".into()))),
            }
        };
        self.tls.get_or_try_init(load).await.map(Some)
    }
}

/// Why there is no connection, before it is said to whom.
enum Failed {
    At(Problem),
    Files(ConnectError),
}

impl Failed {
    fn with(self, at: impl FnOnce(Problem) -> ConnectError) -> ConnectError {
        match self {
            Self::At(problem) => at(problem),
            Self::Files(error) => error,
        }
    }
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self::At(problem)
    }
}

/// Waits so long and no longer.
pub(super) async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    timeout(limit, answer).await.unwrap_or(Err(Problem::Silent { milliseconds: limit.as_millis() }))
}

/// The first address of the host at which somebody answers.
async fn reach(host: &str, port: u16) -> Result<TcpStream, Problem> {
    within(CONNECT_TIMEOUT, async {
        let addresses: Vec<SocketAddr> = lookup_host((host, port)).await.map_err(Problem::Name)?.collect();
        // So that one that swallows everything leaves time for the others.
        let share = CONNECT_TIMEOUT / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let mut last = Problem::Name(io::Error::from(io::ErrorKind::NotFound));
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return prepared(stream),
                Ok(Err(error)) => last = Problem::Unreachable(error),
                Err(_) => last = Problem::Silent { milliseconds: share.as_millis() },
            }
        }
        Err(last)
    })
    .await
}

fn prepared(stream: TcpStream) -> Result<TcpStream, Problem> {
    stream.set_nodelay(true).map_err(Problem::Broken)?;
    SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE).map_err(Problem::Broken)?;
    Ok(stream)
}

async fn reach_unix(path: &Path) -> Result<UnixStream, Problem> {
    within(CONNECT_TIMEOUT, async { UnixStream::connect(path).await.map_err(Problem::Unreachable) }).await
}

async fn secure(stream: TcpStream, host: &str, tls: &TlsClient) -> Result<Link, Problem> {
    match timeout(ANSWER_TIMEOUT, tls.shake(host, stream)).await {
        Ok(shaken) => shaken.map(Link::new).map_err(Problem::of_broken),
        // A Redis without TLS takes our greeting for the beginning of a line.
        Err(_) => Err(Problem::Tls("it does not answer to it in time; is that its port for TLS?".to_owned())),
    }
}

impl Login<'_> {
    /// Says who we are and what we want, all at once.
    async fn say(&self, link: &mut Link) -> Result<(), Problem> {
        let database = self.database.to_string();
        let user = self.username.map(str::as_bytes);
        let password = self.password.map(|password| password.reveal().as_bytes());
        let auth: Option<Vec<&[u8]>> = password
            .map(|password| [Some(b"AUTH".as_slice()), user, Some(password)].into_iter().flatten().collect());
        let select: [&[u8]; 2] = [b"SELECT", database.as_bytes()];
        let mut commands: Vec<(&'static str, &[&[u8]])> = Vec::new();
        commands.extend(auth.as_deref().map(|auth| ("AUTH", auth)));
        // A user may be without the right to say it, where it changes nothing.
        commands.extend((self.database != 0).then_some(("SELECT", select.as_slice())));
        commands.push(("CLIENT SETNAME", &[b"CLIENT", b"SETNAME", CLIENT_NAME]));
        let words: Vec<_> = commands.iter().map(|(_, words)| *words).collect();
        let replies = link.ask_all(&words).await.map_err(Problem::of_link)?;
        let errors = commands.iter().zip(&replies).filter_map(|((command, _), reply)| match reply {
            Reply::Error(said) => Some((*command, said)),
            Reply::Simple(_) | Reply::Integer(_) | Reply::Bulk(_) | Reply::Nil | Reply::Array(_) => None,
        });
        for (command, said) in errors {
            match (command, Problem::of_reply(command, said)) {
                // The name is a courtesy to whoever looks at the clients. Not so what is said to everybody.
                ("CLIENT SETNAME", Problem::Forbidden { .. } | Problem::Refused { .. }) => {}
                ("SELECT", Problem::Refused { .. }) => {
                    return Err(Problem::Database { database: self.database });
                }
                (_, problem) => return Err(problem),
            }
        }
        Ok(())
    }
}
