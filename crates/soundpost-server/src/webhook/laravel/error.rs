//! Why a job was not pushed: a line that says what to change, and holds no secret.

use std::fmt;

use crate::adapter::redis::wire::error::{ConnectError, Problem};
use soundpost_protocol::webhook::queue::ATTEMPT_TIMEOUT;

const IS_CLUSTER: &str = "it belongs to a Redis Cluster; leave laravel_queue.redis out and set redis.cluster";

/// Where it is written which Redis it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// In `laravel_queue.redis`.
    Apps,
    /// In `[redis]`.
    Nodes,
}

/// Why a job was not pushed, or not as far as anybody knows.
#[derive(Debug)]
pub enum PushError {
    /// The Redis cannot be reached or used, or the connection broke.
    Unusable {
        /// Which keys are meant.
        whose: Whose,
        /// What is wrong.
        error: ConnectError,
    },
    /// It does not take the job.
    Refused {
        /// Where it is.
        address: String,
        /// Why.
        refusal: Refusal,
        /// The list.
        jobs: String,
    },
    /// A reply that no Redis gives.
    Strange {
        /// Where it is.
        address: String,
    },
    /// It took too long, all in all.
    Late,
}

/// Why a Redis that can be used does not take a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// What has the name of the list is none.
    WrongType,
    /// The user has not the right.
    Forbidden,
    /// Its memory is used up.
    Full,
    /// It cannot write to its disk.
    Disk,
    /// It has fewer replicas than it wants.
    Replicas,
    /// A part of the Redis Cluster is down.
    ClusterDown,
    /// Another server has the list now.
    Elsewhere,
    /// It belongs to a Redis Cluster, on which the names of lists need braces.
    IsCluster,
}

impl Refusal {
    /// Out of an error that the script was answered with. `is_fixed`: there is but one server that could have the list.
    pub(super) fn of(said: &[u8], is_fixed: bool) -> Option<Self> {
        Some(match said.split(|byte| *byte == b' ').next().unwrap_or_default() {
            b"WRONGTYPE" => Self::WrongType,
            b"NOPERM" => Self::Forbidden,
            b"OOM" => Self::Full,
            b"MISCONF" => Self::Disk,
            b"NOREPLICAS" => Self::Replicas,
            b"CLUSTERDOWN" => Self::ClusterDown,
            b"MOVED" | b"ASK" | b"TRYAGAIN" | b"READONLY" if !is_fixed => Self::Elsewhere,
            b"CROSSSLOT" => Self::IsCluster,
            // Redis 6 says it so of a command in a script.
            _ if said.starts_with(b"ERR The user executing the script") => Self::Forbidden,
            _ => return None,
        })
    }
}

impl std::error::Error for PushError {}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable { whose: Whose::Apps, error: ConnectError::Server { address, problem } } => {
                write!(f, "redis at {address}: {}", of_apps(problem))
            }
            Self::Unusable { error, .. } => write!(f, "{error}"),
            Self::Refused { address, refusal, jobs } => {
                write!(f, "redis at {address}: {}", of_refusal(*refusal, jobs))
            }
            Self::Strange { address } => {
                write!(f, "redis at {address}: its reply to EVAL cannot be understood")
            }
            Self::Late => {
                write!(f, "redis has not answered within {} s; is it overloaded?", ATTEMPT_TIMEOUT.as_secs())
            }
        }
    }
}

fn of_refusal(refusal: Refusal, jobs: &str) -> String {
    match refusal {
        Refusal::WrongType => format!(
            "its key {jobs:?} is no list; do laravel_queue.prefix and laravel_queue.queue name the queue of your app?"
        ),
        Refusal::Forbidden => format!(
            "its ACL forbids to push a job; give the user +eval +rpush and the keys ~{jobs} ~{jobs}:notify"
        ),
        Refusal::Full => {
            "its memory is used up; raise its maxmemory, or see why workers do not take the jobs".to_owned()
        }
        Refusal::Disk => "it takes no writes because it cannot save its data; see its log".to_owned(),
        Refusal::Replicas => {
            "it takes no writes because too few replicas follow it; see its min-replicas-to-write".to_owned()
        }
        Refusal::ClusterDown => "a part of the Redis Cluster is down".to_owned(),
        Refusal::IsCluster => IS_CLUSTER.to_owned(),
        Refusal::Elsewhere => format!("another server is about to have {jobs:?}"),
    }
}

/// What the problems of all are called where the URL of the webhook says everything.
#[expect(clippy::wildcard_enum_match_arm, reason = "all others say what is wrong without naming a key")]
fn of_apps(problem: &Problem) -> String {
    match problem {
        Problem::WrongPassword(_) => {
            "it refuses the password or the user; see laravel_queue.redis".to_owned()
        }
        Problem::PasswordMissing(_) => {
            "it asks for a password; write laravel_queue.redis as redis://:PASSWORD@host:port".to_owned()
        }
        Problem::PasswordUnknown(_) => {
            "its default user has no password, but one is set; remove it from laravel_queue.redis".to_owned()
        }
        Problem::Database { database } => format!(
            "there is no database {database}; see the end of laravel_queue.redis, and `databases` of that server"
        ),
        Problem::Replica { master } => {
            format!("it is a replica of {master}; name the master in laravel_queue.redis")
        }
        Problem::Tls(said) if said.ends_with(".ca") => {
            format!("TLS: {said} of the Redis that the nodes meet at, or the authorities that this system trusts")
        }
        Problem::IsSentinel => {
            "it is a sentinel; name the master in laravel_queue.redis, or leave that out and set redis.sentinels"
                .to_owned()
        }
        Problem::IsCluster => IS_CLUSTER.to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_to_a_job_is_told_in_words_that_help() {
        for (said, refusal) in [
            ("WRONGTYPE Operation against a key holding the wrong kind of value", Some(Refusal::WrongType)),
            ("NOPERM No permissions to access a key", Some(Refusal::Forbidden)),
            (
                "ERR The user executing the script can't run this command or subcommand",
                Some(Refusal::Forbidden),
            ),
            ("OOM command not allowed when used memory > 'maxmemory'.", Some(Refusal::Full)),
            ("MISCONF Redis is configured to save RDB snapshots", Some(Refusal::Disk)),
            ("NOREPLICAS Not enough good replicas to write.", Some(Refusal::Replicas)),
            ("CLUSTERDOWN The cluster is down", Some(Refusal::ClusterDown)),
            ("CROSSSLOT Keys in request don't hash to the same slot", Some(Refusal::IsCluster)),
            ("MOVED 1 127.0.0.1:7000", None),
            ("", None),
        ] {
            assert_eq!(Refusal::of(said.as_bytes(), true), refusal, "{said}");
        }
        for said in ["MOVED 1 127.0.0.1:7000", "READONLY You can't write against a read only replica."] {
            assert_eq!(Refusal::of(said.as_bytes(), false), Some(Refusal::Elsewhere), "{said}");
        }
    }
}
