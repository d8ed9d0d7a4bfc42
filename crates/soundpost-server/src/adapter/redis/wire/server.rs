//! What a server says about itself, and whether it is one to work with.

use super::{error::Problem, link::Link, resp::Reply};

/// The oldest version. Its ACL is the first to have rules for topics; scripts need no more than version 5.
pub const VERSION_MIN: &str = "6.2";
/// The oldest version of a Redis Cluster: before, every topic goes to every node, and none is bound to its slot.
pub const CLUSTER_VERSION_MIN: &str = "7.0";

/// What an ACL user needs with the default prefix, beside a password: a line for `ACL SETUSER` or an ACL file. The names
/// after `~` and `&` are `prefix:database:channel:` of the configuration.
pub const ACL_RULES: &str = "resetkeys ~soundpost:0:reverb:* resetchannels &soundpost:0:reverb:* -@all \
    +ping +info +role +select +client|setname +script|load +evalsha +publish +subscribe +unsubscribe \
    +exists +del +get +set +pttl +pexpire +persist +hget +hset +hdel +hlen +hkeys +hgetall \
    +zadd +zrem +zrange +sadd +srem +smembers +srandmember +sscan \
    +time +hvals +hexists +hincrby +zrangebyscore +rpush +lrange +ltrim +xlen +xadd +xdel +xgroup|create \
    +xreadgroup +xack";
/// What the user needs on a Redis Cluster besides.
pub const ACL_RULES_CLUSTER: &str = "+cluster|slots +spublish +ssubscribe +sunsubscribe";

/// What `INFO server` says, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// Another one is another process, which may have other data.
    pub(super) run_id: String,
    version: String,
    mode: String,
}

impl Server {
    /// Asks a server that is to be used: it must be a master, have its data, and be of the kind that is expected.
    pub(super) async fn master(link: &mut Link, is_cluster: bool) -> Result<Self, Problem> {
        // While it is loading, only PING says so.
        let commands: [&[&[u8]]; 3] = [&[b"INFO", b"server"], &[b"ROLE"], &[b"PING"]];
        let replies = link.ask_all(&commands).await.map_err(Problem::of_link)?;
        let mut replies = replies.into_iter();
        let server = Self::read(replies.next())?;
        server.check(is_cluster)?;
        is_master(replies.next())?;
        no_error("PING", replies.next())?;
        Ok(server)
    }

    /// Out of the reply to `INFO server`.
    pub(super) fn read(reply: Option<Reply>) -> Result<Self, Problem> {
        let strange = Problem::Strange { command: "INFO" };
        let Reply::Bulk(text) = no_error("INFO", reply)? else { return Err(strange) };
        let text = String::from_utf8_lossy(&text);
        let value = |key: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(found, _)| *found == key).map(|(_, value)| value.trim().to_owned())
        };
        match (value("run_id"), value("redis_version")) {
            (Some(run_id), Some(version)) if !run_id.is_empty() => {
                Ok(Self { run_id, version, mode: value("redis_mode").unwrap_or_default() })
            }
            _ => Err(strange),
        }
    }

    /// Whether it is of the kind that is expected, and new enough.
    pub(super) fn check(&self, is_cluster: bool) -> Result<(), Problem> {
        match (self.mode.as_str(), is_cluster) {
            ("sentinel", _) => return Err(Problem::IsSentinel),
            ("cluster", false) => return Err(Problem::IsCluster),
            ("standalone", true) => return Err(Problem::IsNoCluster),
            _ => {}
        }
        let needed = if is_cluster { CLUSTER_VERSION_MIN } else { VERSION_MIN };
        if number(&self.version) < number(needed) {
            return Err(Problem::TooOld { found: self.version.clone(), needed });
        }
        Ok(())
    }
}

/// `7.0.15` is (7, 0).
fn number(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Reads the reply to `ROLE`: `master` and more, or `slave` with its master's host and port.
fn is_master(reply: Option<Reply>) -> Result<(), Problem> {
    let strange = || Problem::Strange { command: "ROLE" };
    let Reply::Array(items) = no_error("ROLE", reply)? else { return Err(strange()) };
    let text = |reply: Option<&Reply>| match reply {
        Some(Reply::Bulk(text) | Reply::Simple(text)) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    };
    match (text(items.first()).as_deref(), items.get(1), items.get(2)) {
        (Some("master"), ..) => Ok(()),
        (Some("slave"), host, Some(Reply::Integer(port))) => {
            Err(Problem::Replica { master: format!("{}:{port}", text(host).unwrap_or_default()) })
        }
        (Some("sentinel"), ..) => Err(Problem::IsSentinel),
        _ => Err(strange()),
    }
}

/// A reply that is there and no error.
pub(super) fn no_error(command: &'static str, reply: Option<Reply>) -> Result<Reply, Problem> {
    match reply {
        None => Err(Problem::Closed),
        Some(Reply::Error(said)) => Err(Problem::of_reply(command, &said)),
        Some(reply) => Ok(reply),
    }
}
