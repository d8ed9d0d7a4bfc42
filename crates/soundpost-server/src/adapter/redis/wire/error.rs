//! Why Redis cannot be used: one line each, which says what to change. None holds a secret.

use std::io;

use super::{link::LinkError, resp::RespError};
use crate::{
    config::RedisAddress,
    tls::{TlsClient, TlsError},
};

/// Of what a server says, no more is shown.
const SAID_CHARS_MAX: usize = 200;
/// Where TLS is configured.
pub(crate) const TLS_TABLE: &str = "redis.tls";

/// Keys of the configuration that say who we are.
#[derive(Debug)]
pub struct Keys {
    username: &'static str,
    password: &'static str,
}

static SERVER_KEYS: Keys = Keys { username: "redis.username", password: "redis.password" };
static SENTINEL_KEYS: Keys =
    Keys { username: "redis.sentinel_username", password: "redis.sentinel_password" };

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// One server cannot be used.
    #[error("redis at {address}: {problem}")]
    Server {
        /// Where it is.
        address: String,
        /// What is wrong.
        problem: Problem,
    },
    /// One sentinel cannot be used.
    #[error("sentinel at {address}: {problem}")]
    Sentinel {
        /// Where it is.
        address: String,
        /// What is wrong.
        problem: Problem,
    },
    /// No sentinel led to a master.
    #[error("no sentinel leads to a master {master:?}: {}", lines(tried))]
    NoMaster {
        /// The name, `redis.master`.
        master: String,
        /// What became of each.
        tried: Vec<ConnectError>,
    },
    /// None of the nodes that the configuration names tells what the Redis Cluster is made of.
    #[error("no node of redis.cluster can be asked: {}", lines(tried))]
    NoNode {
        /// What became of each.
        tried: Vec<ConnectError>,
    },
    /// A file of `redis.tls` cannot be used.
    #[error(transparent)]
    Files(#[from] TlsError),
    /// It took too long, all in all.
    #[error("redis was not reached within {seconds} s, all that belongs to it included; is it overloaded?")]
    Late {
        /// The limit.
        seconds: u64,
    },
}

/// What is wrong with one server.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The host has no address.
    #[error("the name is not known ({0}); is it written correctly?")]
    Name(io::Error),
    /// Nobody answers there.
    #[error("cannot connect ({0}); does it run there, and may this host reach it?")]
    Unreachable(io::Error),
    /// It does not answer in time.
    #[error("no answer within {milliseconds} ms; is it overloaded, stopped, or behind a firewall?")]
    Silent {
        /// The limit.
        milliseconds: u128,
    },
    /// The connection broke.
    #[error("the connection broke ({0}); does it expect TLS (rediss://), or is it going down?")]
    Broken(io::Error),
    /// It ended the connection.
    #[error("it closed the connection; does it expect TLS (rediss://), or is it going down?")]
    Closed,
    /// Something else answers.
    #[error("{0}; is this the port of Redis?")]
    NotRedis(RespError),
    /// It answers with TLS.
    #[error("it speaks TLS; write rediss:// in front of its address")]
    TlsExpected,
    /// There is no agreement about TLS.
    #[error("TLS: {0}")]
    Tls(String),
    /// The password or the user is wrong.
    #[error("it refuses the password or the user; see {} and {}", .0.password, .0.username)]
    WrongPassword(&'static Keys),
    /// It wants a password.
    #[error("it asks for a password; set {}", .0.password)]
    PasswordMissing(&'static Keys),
    /// It wants none.
    #[error("its default user has no password, but one is set; remove {} or set requirepass", .0.password)]
    PasswordUnknown(&'static Keys),
    /// The ACL forbids something that is needed.
    #[error("its ACL forbids what is needed ({said}); see docs/scaling.md for the rules of the user")]
    Forbidden {
        /// What it said.
        said: String,
    },
    /// There is no such database.
    #[error("there is no database {database}; see redis.database, and `databases` of that server")]
    Database {
        /// The one that is set.
        database: u32,
    },
    /// It lets in nobody from elsewhere.
    #[error(
        "it is in protected mode and lets in its own host alone; give it a password, or bind and protected-mode no"
    )]
    Protected,
    /// It has no room.
    #[error("it has as many clients as it allows; see `maxclients` of that server")]
    Full,
    /// It has just started.
    #[error("it is still loading its data")]
    Loading,
    /// It runs a script.
    #[error("it is busy with a script of someone")]
    Busy,
    /// It is a replica.
    #[error("it is a replica of {master}; name the master, or set redis.sentinels")]
    Replica {
        /// Its master, as it says.
        master: String,
    },
    /// It is a sentinel.
    #[error("it is a sentinel; set redis.sentinels and redis.master")]
    IsSentinel,
    /// It belongs to a Redis Cluster.
    #[error("it belongs to a Redis Cluster; set redis.cluster instead of redis.url")]
    IsCluster,
    /// It does not belong to a Redis Cluster.
    #[error("it does not belong to a Redis Cluster; set redis.url instead of redis.cluster")]
    IsNoCluster,
    /// There is something in between that leads to one server now and to another then.
    #[error("two connections lead to two servers; name one of them, or set redis.sentinels or redis.cluster")]
    TwoServers,
    /// It is too old.
    #[error("it is version {found}; {needed} or newer is needed {}", reason(needed))]
    TooOld {
        /// What it is.
        found: String,
        /// What it has to be.
        needed: &'static str,
    },
    /// The sentinel watches no such master.
    #[error("it knows no master {master:?}; see redis.master")]
    UnknownMaster {
        /// The name.
        master: String,
    },
    /// The cluster is not complete.
    #[error("the Redis Cluster is not complete: no master has slot {slot}")]
    Uncovered {
        /// The first one.
        slot: u16,
    },
    /// The cluster has more masters than Redis is made for.
    #[error("the Redis Cluster has {found} masters, where {most} are the most")]
    TooManyMasters {
        /// How many.
        found: usize,
        /// The limit.
        most: usize,
    },
    /// Another error.
    #[error("it says {said:?} to {command}")]
    Refused {
        /// The command, without what was said with it.
        command: &'static str,
        /// What it said.
        said: String,
    },
    /// A reply is not what the command is answered with.
    #[error("its reply to {command} cannot be understood")]
    Strange {
        /// The command.
        command: &'static str,
    },
}

impl Problem {
    /// Why a talk broke off.
    pub(super) fn of_link(error: LinkError) -> Self {
        match error {
            LinkError::Closed => Self::Closed,
            // A record of TLS begins with one of these: an alert, or a handshake.
            LinkError::NotRedis(RespError::Kind { found: 0x15 | 0x16 }) => Self::TlsExpected,
            LinkError::NotRedis(error) => Self::NotRedis(error),
            LinkError::Broken(error) => Self::of_broken(error),
        }
    }

    /// Why a connection broke.
    pub(super) fn of_broken(error: io::Error) -> Self {
        TlsClient::complaint(TLS_TABLE, &error).map_or(Self::Broken(error), Self::Tls)
    }

    /// What an error says that is the reply to `command`.
    pub(super) fn of_reply(command: &'static str, said: &[u8]) -> Self {
        let shown = || shown(said);
        let code = said.split(|byte| *byte == b' ').next().unwrap_or_default();
        match code {
            b"WRONGPASS" => Self::WrongPassword(&SERVER_KEYS),
            b"NOAUTH" => Self::PasswordMissing(&SERVER_KEYS),
            b"NOPERM" => Self::Forbidden { said: shown() },
            b"DENIED" => Self::Protected,
            b"LOADING" => Self::Loading,
            b"BUSY" => Self::Busy,
            b"MOVED" | b"ASK" => Self::IsCluster,
            b"MASTERDOWN" | b"READONLY" => Self::Replica { master: "another server".to_owned() },
            _ if said.starts_with(b"ERR max number of clients") => Self::Full,
            _ if said.starts_with(b"ERR This instance has cluster support disabled") => Self::IsNoCluster,
            // What else is said to these two may repeat the password.
            _ if command == "AUTH" && contains(said, b"without any password") => {
                Self::PasswordUnknown(&SERVER_KEYS)
            }
            _ if command == "AUTH" && contains(said, b"no password is set") => {
                Self::PasswordUnknown(&SERVER_KEYS)
            }
            _ if command == "AUTH" => {
                let is_code = code.len() < 20 && code.iter().all(u8::is_ascii_uppercase);
                let said =
                    if is_code { String::from_utf8_lossy(code).into_owned() } else { "an error".to_owned() };
                Self::Refused { command, said }
            }
            _ => Self::Refused { command, said: shown() },
        }
    }

    /// At a server.
    pub(super) fn at(self, address: &RedisAddress) -> ConnectError {
        ConnectError::Server { address: address.to_string(), problem: self }
    }

    /// At a sentinel.
    pub(super) fn at_sentinel(self, address: &RedisAddress) -> ConnectError {
        let problem = if matches!(self, Self::WrongPassword(_)) {
            Self::WrongPassword(&SENTINEL_KEYS)
        } else if matches!(self, Self::PasswordMissing(_)) {
            Self::PasswordMissing(&SENTINEL_KEYS)
        } else if matches!(self, Self::PasswordUnknown(_)) {
            Self::PasswordUnknown(&SENTINEL_KEYS)
        } else {
            self
        };
        ConnectError::Sentinel { address: address.to_string(), problem }
    }
}

/// What a server said, fit for one line.
fn shown(said: &[u8]) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    String::from_utf8_lossy(said).chars().take(SAID_CHARS_MAX).map(plain).collect()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn lines(errors: &[ConnectError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What the version is needed for.
fn reason(needed: &str) -> &'static str {
    if needed.starts_with('7') {
        "on Redis Cluster, for its sharded topics"
    } else {
        "for its scripts and ACL rules of topics"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_told_in_words_that_help() {
        for (command, said, expected) in [
            (
                "AUTH",
                "WRONGPASS invalid username-password pair or user is disabled.",
                "it refuses the password",
            ),
            (
                "AUTH",
                "ERR AUTH <password> called without any password configured for the default user. Are",
                "its default user has no",
            ),
            ("AUTH", "ERR Client sent AUTH, but no password is set", "its default user has no"),
            ("INFO", "NOAUTH Authentication required.", "it asks for a password"),
            (
                "ROLE",
                "NOPERM User u has no permissions to run the 'role' command",
                "its ACL forbids what is needed (NOPERM User u has no permissions to run the 'role' command)",
            ),
            ("AUTH", "DENIED Redis is running in protected mode", "it is in protected mode"),
            ("AUTH", "ERR max number of clients reached", "it has as many clients"),
            ("PING", "LOADING Redis is loading the dataset in memory", "it is still loading"),
            ("PING", "MASTERDOWN Link with MASTER is down", "it is a replica of another server"),
            (
                "SET",
                "READONLY You can't write against a read only replica.",
                "it is a replica of another server",
            ),
            ("PING", "BUSY Redis is busy running a script.", "it is busy"),
            ("GET", "MOVED 1 127.0.0.1:7000", "it belongs to a Redis Cluster"),
            ("CLUSTER SLOTS", "ERR This instance has cluster support disabled", "it does not belong"),
            ("INFO", "ERR two\rlines", r#"it says "ERR two lines" to INFO"#),
        ] {
            let shown = Problem::of_reply(command, said.as_bytes()).to_string();
            assert!(shown.starts_with(expected), "{said}: {shown}");
        }
        let long = Problem::of_reply("INFO", "\u{e9}".repeat(5000).as_bytes()).to_string();
        assert!(long.chars().count() < 250, "{long}");
    }

    #[test]
    fn what_may_repeat_a_password_is_not_shown() {
        for said in [
            "ERR unknown command `AUTH`, with args beginning with: `soundpost`, `secret`, ",
            "ERR unknown command 'AUTH', with args beginning with: 'secret' ",
            "secret",
        ] {
            let shown = Problem::of_reply("AUTH", said.as_bytes()).to_string();
            assert!(!shown.contains("secret") && !shown.contains("soundpost"), "{shown}");
        }
    }
}
