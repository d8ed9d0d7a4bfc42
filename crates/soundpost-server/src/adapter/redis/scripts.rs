//! The scripts. Each is one act: nobody sees what is between its steps, and it happens whole or not at all.
//!
//! They are loaded on every new connection and named by their digests after that. A server that does not know one of
//! them any more has lost more than that, so the answer `NOSCRIPT` is the end of the connection.

mod append;
mod stream;

use bytes::Bytes;

use self::append::APPEND;

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
}

/// How often a share that is empty is found, milliseconds: its number must outlive what is still on its way.
pub(super) const MARKER_MILLISECONDS: &str = "60000";
/// How long a life that is over cannot change its share, milliseconds.
pub(super) const TOMBSTONE_MILLISECONDS: &str = "600000";

/// `KEYS`: share, sharers, tombstone, topic. `ARGV`: life, sequence, the one it follows, what to do (`set`, `del`,
/// `count`), field, value, message (empty: silent), milliseconds of an empty share.
///
/// Answers `over`, `stale`, `gap`, or `done` and whether the own share is empty.
const CHANGE: &str = "
if redis.call('EXISTS', KEYS[3]) == 1 then return {'over'} end
local last = redis.call('HGET', KEYS[1], 's') or '0000000000000000'
local empty = redis.call('HLEN', KEYS[1]) <= 1
if ARGV[2] <= last then return {'stale'} end
if ARGV[4] ~= 'count' and ARGV[3] ~= last and not (ARGV[3] == '0000000000000000' and empty) then return {'gap'} end
if ARGV[4] == 'set' then redis.call('HSET', KEYS[1], 's', ARGV[2], ARGV[5], ARGV[6])
elseif ARGV[4] == 'del' then redis.call('HDEL', KEYS[1], ARGV[5]); redis.call('HSET', KEYS[1], 's', ARGV[2])
elseif ARGV[6] == '0' then redis.call('DEL', KEYS[1]); redis.call('HSET', KEYS[1], 's', ARGV[2])
else redis.call('HSET', KEYS[1], 's', ARGV[2], 'c', ARGV[6]) end
local size = redis.call('HLEN', KEYS[1])
local is_empty = 0
if size <= 1 then
  is_empty = 1
  redis.call('PEXPIRE', KEYS[1], ARGV[8]); redis.call('HDEL', KEYS[2], ARGV[1])
else
  redis.call('PERSIST', KEYS[1])
  redis.call('HSET', KEYS[2], ARGV[1], redis.call('HGET', KEYS[1], 'c') or (size - 1))
end
if ARGV[7] ~= '' then redis.call('PUBLISH', KEYS[4], ARGV[7]) end
return {'done', is_empty}
";

/// `KEYS`: sharers, own share, and of cache channels what is kept. `ARGV`: life, what the names of shares begin with, what
/// those of tombstones begin with, then other lives.
///
/// Answers a list of lives and their shares, those of the other lives that have a tombstone, then what is kept, and for how
/// many milliseconds.
const READ: &str = "
local out, own = {}, false
for _, life in ipairs(redis.call('HKEYS', KEYS[1])) do
  own = own or life == ARGV[1]
  out[#out + 1] = life; out[#out + 1] = redis.call('HGETALL', ARGV[2] .. life)
end
if not own then out[#out + 1] = ARGV[1]; out[#out + 1] = redis.call('HGETALL', KEYS[2]) end
local over = {}
for i = 4, #ARGV do
  if redis.call('EXISTS', ARGV[3] .. ARGV[i]) == 1 then over[#over + 1] = ARGV[i] end
end
if not KEYS[3] then return {out, over} end
return {out, over, redis.call('GET', KEYS[3]), redis.call('PTTL', KEYS[3])}
";

/// `KEYS`: share, sharers, tombstone, topic, and of cache channels what is kept. `ARGV`: life, sequence, message,
/// milliseconds of an empty share, milliseconds of a tombstone, what the names of shares begin with, what those of
/// tombstones begin with, the count (empty on presence channels), how many predecessors, how many other lives, the ones and
/// the others, then field and value of each connection.
///
/// Answers `over`, `stale`, or `done`, a list of lives and their shares, those of the other lives that have a tombstone, then
/// what is kept, and for how many milliseconds.
const REPLACE: &str = "
if redis.call('EXISTS', KEYS[3]) == 1 then return {'over'} end
local last = redis.call('HGET', KEYS[1], 's') or '0000000000000000'
if ARGV[2] <= last then return {'stale'} end
local others = 11 + tonumber(ARGV[9])
for i = 11, others - 1 do
  redis.call('DEL', ARGV[6] .. ARGV[i]); redis.call('HDEL', KEYS[2], ARGV[i])
  redis.call('SET', ARGV[7] .. ARGV[i], '', 'PX', ARGV[5])
end
local over, at = {}, others + tonumber(ARGV[10])
for i = others, at - 1 do
  if redis.call('EXISTS', ARGV[7] .. ARGV[i]) == 1 then over[#over + 1] = ARGV[i] end
end
redis.call('DEL', KEYS[1]); redis.call('HSET', KEYS[1], 's', ARGV[2])
if ARGV[8] ~= '' and ARGV[8] ~= '0' then redis.call('HSET', KEYS[1], 'c', ARGV[8]) end
for i = at, #ARGV, 1000 do redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV))) end
local size = redis.call('HLEN', KEYS[1])
if size <= 1 then redis.call('PEXPIRE', KEYS[1], ARGV[4]); redis.call('HDEL', KEYS[2], ARGV[1])
else
  local count = size - 1
  if ARGV[8] ~= '' then count = ARGV[8] end
  redis.call('HSET', KEYS[2], ARGV[1], count)
end
redis.call('PUBLISH', KEYS[4], ARGV[3])
local out = {}
for _, life in ipairs(redis.call('HKEYS', KEYS[2])) do
  out[#out + 1] = life; out[#out + 1] = redis.call('HGETALL', ARGV[6] .. life)
end
if size <= 1 then out[#out + 1] = ARGV[1]; out[#out + 1] = {'s', ARGV[2]} end
if not KEYS[5] then return {'done', out, over} end
return {'done', out, over, redis.call('GET', KEYS[5]), redis.call('PTTL', KEYS[5])}
";

/// `KEYS`: share of the life that is over, sharers, its tombstone, topic. `ARGV`: that life, message, milliseconds of a
/// tombstone.
///
/// Answers `nothing` or `done`.
const REAP: &str = "
redis.call('HDEL', KEYS[2], ARGV[1])
if redis.call('DEL', KEYS[1]) == 0 then return {'nothing'} end
redis.call('SET', KEYS[3], '', 'PX', ARGV[3])
redis.call('PUBLISH', KEYS[4], ARGV[2])
return {'done'}
";

/// `KEYS`: what is kept, topic. `ARGV`: message, milliseconds it is kept. Answers how many have heard it.
const PUBLISH: &str = "
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return redis.call('PUBLISH', KEYS[2], ARGV[1])
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
";

impl Script {
    /// All, in the order of declaration.
    pub const ALL: [Self; 11] = [
        Self::Change,
        Self::Read,
        Self::Replace,
        Self::Reap,
        Self::Publish,
        Self::Beat,
        Self::Add,
        Self::Hold,
        Self::LetGo,
        Self::ReadStream,
        Self::Settle,
    ];

    /// Its text. On a Redis Cluster topics belong to the server of their slot (`is_sharded`).
    pub fn text(self, is_sharded: bool) -> String {
        let added;
        let text = match self {
            Self::Add => {
                added = [APPEND, ADD].concat();
                &added
            }
            Self::Change => CHANGE,
            Self::Read => READ,
            Self::Replace => REPLACE,
            Self::Reap => REAP,
            Self::Publish => PUBLISH,
            Self::Beat => BEAT,
            Self::Hold => stream::HOLD,
            Self::LetGo => stream::LET_GO,
            Self::ReadStream => stream::READ,
            Self::Settle => stream::SETTLE,
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
