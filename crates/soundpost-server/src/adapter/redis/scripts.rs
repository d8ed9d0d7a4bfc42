//! The scripts. Each is one act: nobody sees what is between its steps, and it happens whole or not at all.
//!
//! They are loaded on every new connection and named by their digests after that. A server that does not know one of
//! them any more has lost more than that, so the answer `NOSCRIPT` is the end of the connection.

mod append;
mod shares;
mod stream;
mod told;

use bytes::Bytes;

use self::{
    append::APPEND,
    shares::{CHANGE, READ, REAP, REPLACE},
    told::{CARRIED, DIRECT, FINISH, HOOKS},
};

/// Names a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Change the own share of a subject and say so on its topic.
    Change,
    /// Read all shares of a subject, and what is kept.
    Read,
    /// Replace the own share, say so, and read all shares and what is kept.
    Replace,
    /// Take the share of a life that is over away, and say so.
    Reap,
    /// Publish an event and keep it.
    Publish,
    /// Publish an event and put it into the streams of webhooks.
    Tell,
    /// Renew the lease, say so, and list all lives.
    Beat,
    /// Put events into the stream of a webhook.
    Add,
    /// Take the lease of such a stream, or renew it.
    Hold,
    /// Give that lease up.
    LetGo,
    /// Read on in the stream.
    ReadStream,
    /// Take events out of it.
    Settle,
    /// Tell webhooks of what was held for long enough.
    Finish,
}

/// How often a share that is empty is found, milliseconds: its number must outlive what is still on its way.
pub(super) const MARKER_MILLISECONDS: &str = "60000";
/// How long a life that is over cannot change its share, milliseconds.
pub(super) const TOMBSTONE_MILLISECONDS: &str = "600000";

/// `KEYS`: what is kept, topic. `ARGV`: message, milliseconds it is kept. Answers how many have heard it.
const PUBLISH: &str = "
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return redis.call('PUBLISH', KEYS[2], ARGV[1])
";

/// Behind [`APPEND`]. `KEYS`: topic. `ARGV`: message, kind, channel, JSON and id for webhooks, then of each webhook what
/// the names of all that belongs to it begin with.
///
/// Who hears the message, hears it when the script is over: any answer stands behind it in the streams. Answers 1; or 0
/// if it was published and a stream did not take it, for which no publisher has to suffer.
const TELL: &str = "
redis.call('PUBLISH', KEYS[1], ARGV[1])
local function tell()
  for i = 6, #ARGV do append(ARGV[i], ARGV[2], ARGV[3], ARGV[4], ARGV[5]) end
  close_streams()
end
return pcall(tell) and 1 or 0
";

/// `KEYS`: lease, lives, control topic. `ARGV`: life, milliseconds of the lease, seconds since 1970, message, what the
/// names of leases begin with. Answers 1 if there was a lease until now, else 0, and a list of lives, each with 1 if it has
/// a lease, else 0.
const BEAT: &str = "
local had = redis.call('EXISTS', KEYS[1])
redis.call('SET', KEYS[1], '', 'PX', ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('PUBLISH', KEYS[3], ARGV[4])
local out = {}
for _, life in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  out[#out + 1] = life; out[#out + 1] = redis.call('EXISTS', ARGV[5] .. life)
end
return {had, out}
";

/// Behind [`APPEND`]. `KEYS`: the stream of a webhook. `ARGV`: what the names of all that belongs to the webhook begin with,
/// then of each event its kind, channel, JSON, and id, which may be empty. A cache miss that a node has named is told once a
/// second and channel, on whichever nodes there are more. Answers nothing.
const ADD: &str = "
for i = 2, #ARGV, 4 do
  local kind, channel = ARGV[i], ARGV[i + 1]
  local id = ARGV[i + 3] ~= '' and ARGV[i + 3] or nil
  if not id or kind ~= 'cache_miss' or redis.call('SET', ARGV[1] .. 'x:' .. channel, '', 'NX', 'PX', 1000) then
    append(ARGV[1], kind, channel, ARGV[i + 2], id)
  end
end
close_streams()
";

impl Script {
    /// All, in the order of declaration.
    pub const ALL: [Self; 13] = [
        Self::Change,
        Self::Read,
        Self::Replace,
        Self::Reap,
        Self::Publish,
        Self::Tell,
        Self::Beat,
        Self::Add,
        Self::Hold,
        Self::LetGo,
        Self::ReadStream,
        Self::Settle,
        Self::Finish,
    ];

    /// Its text. On a Redis Cluster (`is_sharded`) topics belong to the server of their slot, and the streams of webhooks
    /// are on others than the channels.
    pub fn text(self, is_sharded: bool) -> String {
        let hooks = if is_sharded { [CARRIED, "", HOOKS] } else { [DIRECT, APPEND, HOOKS] }.concat();
        let text = match self {
            Self::Change => hooks + CHANGE,
            Self::Read => READ.to_owned(),
            Self::Replace => hooks + REPLACE,
            Self::Reap => hooks + REAP,
            Self::Publish => PUBLISH.to_owned(),
            Self::Tell => [APPEND, TELL].concat(),
            Self::Beat => BEAT.to_owned(),
            Self::Add => [APPEND, ADD].concat(),
            Self::Finish => hooks + FINISH,
            Self::Hold => stream::HOLD.to_owned(),
            Self::LetGo => stream::LET_GO.to_owned(),
            Self::ReadStream => stream::READ.to_owned(),
            Self::Settle => stream::SETTLE.to_owned(),
        };
        text.replace("'PUBLISH'", if is_sharded { "'SPUBLISH'" } else { "'PUBLISH'" })
    }
}

/// The digests by which Redis knows the scripts: the same for every server that has the same texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Digests(pub(super) [Bytes; Script::ALL.len()]);

impl Digests {
    /// That of one script.
    pub(super) fn of(&self, script: Script) -> &[u8] {
        self.0.get(script as usize).map_or(&[], |digest| digest)
    }
}
