//! The checked settings of the Redis that makes several nodes one server: `[redis]`.

use std::{fmt, path::PathBuf};

use zeroize::Zeroizing;

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

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}
