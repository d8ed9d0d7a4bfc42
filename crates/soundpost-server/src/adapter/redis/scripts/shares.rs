//! What channels ask: the scripts that read and change shares.

/// `KEYS`: share, sharers, tombstone, topic, users. `ARGV`: life, sequence, the one it follows, what to do (`set`, `del`,
/// `count`), field, value, message (empty: silent), milliseconds of an empty share, what the names of all that belongs to
/// the subject begin with, what the app's webhooks want (empty: nothing).
///
/// Answers `over`, `stale`, `gap`, or `done`, whether the own share is empty, and for how many milliseconds something is
/// held now that was not before, or -1.
pub(super) const CHANGE: &str = "
local there = redis.call('EXISTS', KEYS[3], KEYS[5])
if there > 0 and redis.call('EXISTS', KEYS[3]) == 1 then return {'over'} end
local last = redis.call('HGET', KEYS[1], 's') or '0000000000000000'
local empty = redis.call('HLEN', KEYS[1]) <= 1
if ARGV[2] <= last then return {'stale'} end
local is_first, is_none = ARGV[3] == '0000000000000000', last == '0000000000000000'
if ARGV[4] == 'count' then if is_none and not is_first then return {'gap'} end
elseif ARGV[3] ~= last and not (is_first and empty) then return {'gap'} end
local hook, less, more
if ARGV[10] ~= '' then
  hook, less, more = hooks(ARGV[10], ARGV[9], KEYS[2]), {}, {}
  hook.begin()
  if hook.members then
    local before = redis.call('HGET', KEYS[1], ARGV[5])
    if before then less[1] = hook.user_of(before) end
    if ARGV[4] == 'set' then more[1] = hook.user_of(ARGV[6]) end
  end
elseif there > 0 then redis.call('DEL', KEYS[5]) end
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
if not hook then return {'done', is_empty, -1} end
hook.finish(less, more, {})
return {'done', is_empty, hook.wait}
";

/// `KEYS`: sharers, own share, and of cache channels what is kept. `ARGV`: life, what the names of shares begin with, what
/// those of tombstones begin with, then other lives.
///
/// Answers a list of lives and their shares, those of the other lives that have a tombstone, then what is kept, and for how
/// many milliseconds.
pub(super) const READ: &str = "
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

/// `KEYS`: share, sharers, tombstone, topic, users, and of cache channels what is kept. `ARGV`: life, sequence, message,
/// milliseconds of an empty share, milliseconds of a tombstone, what the names of all that belongs to the subject begin
/// with, what the app's webhooks want (empty: nothing), what was confirmed before, how many connections were then, the
/// count (empty on presence channels), how many predecessors, how many other lives, how many users who have gone, the
/// ones, the others and the last, then field and value of each connection.
///
/// What was confirmed is empty, or `1` if this life was on the channel, `2` if it was leaving it, else `0`, then of each
/// connection in its order whether its user was there: `2` here, `1` elsewhere, `0` not. The users who have gone were here,
/// too: they are held where their share is forgotten, and so is the channel.
///
/// Answers `over`, `stale`, or `done`, for how many milliseconds something is held now that was not before, or -1, a list of
/// lives and their shares, those of the other lives that have a tombstone, then what is kept, and for how many milliseconds.
pub(super) const REPLACE: &str = "
if redis.call('EXISTS', KEYS[3]) == 1 then return {'over'} end
local last = redis.call('HGET', KEYS[1], 's') or '0000000000000000'
if ARGV[2] <= last then return {'stale'} end
local shares, tombstones = ARGV[6] .. 's:', ARGV[6] .. 'd:'
local hook, less, more, quiet = nil, {}, {}, {}
local is_reaped, is_forgotten = false, last == '0000000000000000'
if ARGV[7] ~= '' then
  hook = hooks(ARGV[7], ARGV[6], KEYS[2])
  hook.begin()
  if hook.members then hook.users_of(redis.call('HGETALL', KEYS[1]), less) end
else redis.call('DEL', KEYS[5]) end
local others = 14 + tonumber(ARGV[11])
for i = 14, others - 1 do
  if hook and redis.call('EXISTS', tombstones .. ARGV[i]) == 1 then is_reaped = true end
  if hook and hook.members then hook.users_of(redis.call('HGETALL', shares .. ARGV[i]), less) end
  if redis.call('DEL', shares .. ARGV[i]) == 1 then is_forgotten = false end
  redis.call('HDEL', KEYS[2], ARGV[i])
  redis.call('SET', tombstones .. ARGV[i], '', 'PX', ARGV[5])
end
local over, leavers = {}, others + tonumber(ARGV[12])
for i = others, leavers - 1 do
  if redis.call('EXISTS', tombstones .. ARGV[i]) == 1 then over[#over + 1] = ARGV[i] end
end
local at = leavers + tonumber(ARGV[13])
redis.call('DEL', KEYS[1]); redis.call('HSET', KEYS[1], 's', ARGV[2])
if ARGV[10] ~= '' and ARGV[10] ~= '0' then redis.call('HSET', KEYS[1], 'c', ARGV[10]) end
for i = at, #ARGV, 1000 do redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV))) end
local size = redis.call('HLEN', KEYS[1])
if size <= 1 then redis.call('PEXPIRE', KEYS[1], ARGV[4]); redis.call('HDEL', KEYS[2], ARGV[1])
else
  local count = size - 1
  if ARGV[10] ~= '' then count = ARGV[10] end
  redis.call('HSET', KEYS[2], ARGV[1], count)
end
redis.call('PUBLISH', KEYS[4], ARGV[3])
local wait = -1
if hook then
  local is_known = not is_reaped and string.sub(ARGV[8], 1, 1) == '1'
  if hook.members then
    for i = at, #ARGV, 2 do
      local id = hook.user_of(ARGV[i + 1])
      local known = string.sub(ARGV[8], 2 + (i - at) / 2, 2 + (i - at) / 2)
      more[#more + 1] = id
      if not is_reaped and (known == '2' or (known == '1' and is_forgotten)) then quiet[id] = true end
    end
  end
  local was_here = is_known or string.sub(ARGV[8], 1, 1) == '2'
  local is_missing = is_forgotten and not is_reaped
  hook.finish(less, more, quiet, is_known, was_here and is_missing and ARGV[9])
  if is_missing then
    for i = leavers, at - 1 do hook.missed('m' .. ARGV[i]) end
    if was_here then hook.missed('c') end
  end
  wait = hook.wait
end
local out = {}
for _, life in ipairs(redis.call('HKEYS', KEYS[2])) do
  out[#out + 1] = life; out[#out + 1] = redis.call('HGETALL', shares .. life)
end
if size <= 1 then out[#out + 1] = ARGV[1]; out[#out + 1] = {'s', ARGV[2]} end
if not KEYS[6] then return {'done', wait, out, over} end
return {'done', wait, out, over, redis.call('GET', KEYS[6]), redis.call('PTTL', KEYS[6])}
";

/// `KEYS`: share of the life that is over, sharers, its tombstone, topic, users. `ARGV`: that life, message, milliseconds
/// of a tombstone, what the names of all that belongs to the subject begin with, what the app's webhooks want (empty:
/// nothing).
///
/// Answers `nothing` or `done`, and for how many milliseconds anything is held, or -1: whoever asks sees to it from now on.
pub(super) const REAP: &str = "
local hook, less = nil, {}
if ARGV[5] ~= '' then
  hook = hooks(ARGV[5], ARGV[4], KEYS[2])
  hook.begin()
  if hook.members then hook.users_of(redis.call('HGETALL', KEYS[1]), less) end
else redis.call('DEL', KEYS[5]) end
redis.call('HDEL', KEYS[2], ARGV[1])
local answer = 'nothing'
if redis.call('DEL', KEYS[1]) == 1 then
  answer = 'done'
  redis.call('SET', KEYS[3], '', 'PX', ARGV[3])
  redis.call('PUBLISH', KEYS[4], ARGV[2])
end
if not hook then return {answer, -1} end
hook.finish(less, {}, {})
hook.next_due()
if is_carried and redis.call('EXISTS', ARGV[4] .. 'o') == 1 then hook.wait = 0 end
return {answer, hook.wait}
";
