//! The checked settings of the Redis that makes several nodes one server: `[redis]`.

pub(super) mod laravel;
pub(super) mod layers;
pub(super) mod resolve;
pub(super) mod soketi;
pub(super) mod url;

#[cfg(test)]
mod laravel_tests;
#[cfg(test)]
mod soketi_tests;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use url::{PORT, RedisUrl};

/// Without `redis.prefix`.
const PREFIX: &str = "soundpost";
/// Without `redis.channel`; the same as Reverb's.
const CHANNEL: &str = "reverb";

/// Which Redis, and how nodes use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisSettings {
    /// Where it is.
    pub servers: RedisServers,
    /// The ACL user; `None`: the default one.
    pub username: Option<String>,
    /// Its password, or that of `requirepass`.
    pub password: Option<RedisPassword>,
    /// The database; always 0 on Redis Cluster.
    pub database: u32,
    /// With what TLS is spoken to every server; `None`: plain.
    pub tls: Option<RedisTls>,
    /// In front of every key and topic. Without braces, which would put all keys of a Redis Cluster on one server.
    pub prefix: String,
    /// `REVERB_SCALING_CHANNEL`: deployments with different ones never meet. Without braces.
    pub channel: String,
    /// Events are delivered on the node that took them before Redis has them: sooner, but not in one order for all.
    pub local_first: bool,
    /// What becomes of events while Redis is away.
    pub on_outage: OnOutage,
}

impl RedisSettings {
    /// Of the one server that a URL says. With `rediss` it must be known to those that the system trusts.
    ///
    /// Errors: what is wrong with it, to stand behind the place; never the text, which may hold a password.
    pub fn of_url(text: &str) -> Result<Self, &'static str> {
        let RedisUrl { tls, target, username, password, database, has_options: _ } = RedisUrl::parse(text)?;
        let is_said = |text: &String| !text.is_empty();
        Ok(Self {
            username: username.filter(is_said),
            password: password.filter(is_said).map(RedisPassword::new),
            database: database.unwrap_or(0),
            tls: tls.then(RedisTls::default),
            ..Self::new(RedisServers::Standalone(target.address(PORT)))
        })
    }

    /// Everything else as it is where nothing is written.
    pub fn new(servers: RedisServers) -> Self {
        Self {
            servers,
            username: None,
            password: None,
            database: 0,
            tls: None,
            prefix: PREFIX.to_owned(),
            channel: CHANNEL.to_owned(),
            local_first: false,
            on_outage: OnOutage::default(),
        }
    }
}

/// Where Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisServers {
    /// One server.
    Standalone(RedisAddress),
    /// Whatever server these sentinels say is the master of that name.
    Sentinel {
        /// The name.
        master: String,
        /// Not empty.
        sentinels: Vec<RedisAddress>,
        /// The ACL user at the sentinels.
        username: Option<String>,
        /// The password at the sentinels.
        password: Option<RedisPassword>,
    },
    /// A Redis Cluster that has these among its nodes; not empty.
    Cluster(Vec<RedisAddress>),
}

/// Where one server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisAddress {
    /// A host name or address, and a port.
    Tcp(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

/// With what TLS is spoken to Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// A file of certificates to trust, PEM; `None`: those the system trusts.
    pub ca: Option<PathBuf>,
    /// The client's certificate and its key, PEM.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl RedisTls {
    /// Makes the paths those of the directory `dir`.
    pub(super) fn start_from(&mut self, dir: &Path) {
        self.ca = self.ca.take().map(|ca| dir.join(ca));
        self.client = self.client.take().map(|(certificate, key)| (dir.join(certificate), dir.join(key)));
    }
}

/// What becomes of events while Redis is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOutage {
    /// They are refused, so that the publisher tries again.
    #[default]
    Refuse,
    /// They are delivered on the node that took them, and nowhere else.
    Local,
}

/// A password, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisPassword(Zeroizing<String>);

impl RedisPassword {
    /// From the text of the settings.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// For Redis alone.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RedisPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl fmt::Display for RedisServers {
    /// `127.0.0.1:6379`, `mymaster of the sentinels a:26379, b:26379`, `the cluster of a:7000, b:7000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed =
            |all: &[RedisAddress]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Standalone(address) => write!(f, "{address}"),
            Self::Sentinel { master, sentinels, .. } => {
                write!(f, "{master} of the sentinels {}", listed(sentinels))
            }
            Self::Cluster(nodes) => write!(f, "the cluster of {}", listed(nodes)),
        }
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Display for RedisSettings {
    /// What the log says of it: `127.0.0.1:6379, database 0, names begin with soundpost:0:reverb`. Without who logs in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { servers, database, prefix, channel, tls, .. } = self;
        let tls = if tls.is_some() { " with TLS" } else { "" };
        write!(f, "{servers}{tls}, database {database}, names begin with {prefix}:{database}:{channel}")
    }
}
