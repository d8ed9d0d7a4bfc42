//! What the app's webhooks are told of: who has come and gone over all nodes, decided in the scripts that change shares.
//!
//! A departure is held for 3 s; an arrival that finds its own held says nothing, and takes it away. Whoever takes a held
//! departure away has it, so nothing is told twice and nothing is lost.

/// A function for the beginning of scripts, behind [`super::append::APPEND`] or [`CARRIED`]: `hooks(wants, base, sharers)`.
///
/// `wants`: what [`super::super::wants::wants`] writes; never empty. `base`: what the names of all that belongs to the
/// channel begin with. What belongs to it beside the shares:
///
/// - `u`: of each user, as `mID`, how many connections there are in all shares, and `t`, how many of all users. It is made
///   from the shares where it is missing or does not fit them: then an app has had no webhooks, or some node knows none.
/// - `h`: what is held, with the millisecond at which it is due: `c` the channel, `mID` a user, `n` a count; and of arrivals
///   at once that are more than the first 500 the others, as `aID`, so that no script takes long.
/// - `n`: the count that was told last and the millisecond of that.
///
/// A script calls `begin` before it changes anything and `finish` after, then `missed` of who was there before the store
/// forgot it and is not brought again; `wait` is then for how many milliseconds something is held that was not before, or -1.
pub(super) const HOOKS: &str = r#"
local function hooks(wants, base, sharers)
  local users, held, counted = base .. 'u', base .. 'h', base .. 'n'
  local flags, hold, pause, channel = string.match(wants, '^(%l+) (%d+) (%d+) ([^\n]+)')
  hold, pause = tonumber(hold), tonumber(pause)
  local function has(flag) return string.find(flags, flag, 1, true) ~= nil end
  local self = {wait = -1, members = has('m')}
  local escapes = {['"'] = '\\"', ['\\'] = '\\\\', ['\b'] = '\\b', ['\f'] = '\\f', ['\n'] = '\\n', ['\r'] = '\\r',
    ['\t'] = '\\t'}
  local now
  local function clock()
    if not now then
      local time = redis.call('TIME')
      now = time[1] * 1000 + math.floor(time[2] / 1000)
    end
    return now
  end
  local function await(milliseconds)
    if self.wait < 0 or milliseconds < self.wait then self.wait = milliseconds end
  end
  local function escape(c) return escapes[c] or string.format('\\u%04x', string.byte(c)) end
  local function quoted(text) return '"' .. string.gsub(text, '[%z\1-\31"\\]', escape) .. '"' end

  local function tell(letter, kind, rest)
    local json
    for kinds, hook in string.gmatch(wants, '\n(%l+) ([^\n]+)') do
      if string.find(kinds, letter, 1, true) then
        json = json or '{"name":"' .. kind .. '","channel":"' .. channel .. '"' .. (rest and rest() or '') .. '}'
        append(hook, kind, channel, json, nil, base)
        if is_carried then self.wait = 0 end
      end
    end
  end
  local function of_user(id) return function() return ',"user_id":' .. quoted(id) end end
  local function added(id) tell('a', 'member_added', of_user(id)) end
  local news = 0
  local function came(what, is_quiet)
    if redis.call('ZREM', held, what) == 1 or is_quiet then return end
    if what == 'c' then return tell('o', 'channel_occupied') end
    local id = string.sub(what, 2)
    news = news + 1
    if news <= 500 then return added(id) end
    redis.call('ZADD', held, clock() + hold + 1000, 'a' .. id)
    await(hold + 1000)
  end
  local function left(what)
    local is_untold = what ~= 'c' and redis.call('ZREM', held, 'a' .. string.sub(what, 2)) == 1
    if is_untold then return end
    redis.call('ZADD', held, 'NX', clock() + hold, what)
    await(hold)
  end
  local function gone(what)
    if what == 'c' then tell('v', 'channel_vacated')
    else tell('r', 'member_removed', of_user(string.sub(what, 2))) end
  end

  local function total()
    local sum = 0
    for _, count in ipairs(redis.call('HVALS', sharers)) do sum = sum + count end
    return sum
  end
  local function tell_count(count)
    redis.call('ZREM', held, 'n')
    redis.call('SET', counted, count .. ' ' .. clock(), 'PX', 12 * pause)
    tell('n', 'subscription_count', function() return ',"subscription_count":' .. count end)
  end
  local function told_count()
    local count, at = string.match(redis.call('GET', counted) or '', '^(%d+) (%d+)$')
    return tonumber(count), tonumber(at)
  end
  local function put_off(due)
    redis.call('ZADD', held, 'NX', due, 'n')
    await(math.max(0, due - clock()))
  end

  function self.user_of(value)
    local high, low = string.byte(value, 10, 11)
    return low and string.sub(value, 12, 11 + high * 256 + low) or ''
  end
  function self.users_of(share, into)
    for i = 1, #share, 2 do
      if #share[i] == 16 then into[#into + 1] = self.user_of(share[i + 1]) end
    end
  end
  local function rebuild()
    local ids, counts, known = {}, {}, redis.call('HGETALL', users)
    for _, life in ipairs(redis.call('HKEYS', sharers)) do
      self.users_of(redis.call('HGETALL', base .. 's:' .. life), ids)
    end
    for _, id in ipairs(ids) do counts['m' .. id] = (counts['m' .. id] or 0) + 1 end
    redis.call('DEL', users)
    local before, order = {}, {}
    for i = 1, #known, 2 do
      before[known[i]] = true
      if known[i] ~= 't' and not counts[known[i]] then left(known[i]) end
    end
    for what in pairs(counts) do order[#order + 1] = what end
    table.sort(order)
    local batch = {}
    for at, what in ipairs(order) do
      batch[#batch + 1] = what; batch[#batch + 1] = counts[what]
      if #batch == 1000 or at == #order then redis.call('HSET', users, unpack(batch)); batch = {} end
      if #known > 0 and not before[what] then came(what) end
    end
    redis.call('HSET', users, 't', #ids)
  end
  local function check_users()
    if not self.members then redis.call('DEL', users) return end
    local known, sum = redis.call('HGET', users, 't'), total()
    if (known and tonumber(known) or 0) ~= sum then rebuild() end
  end

  local was_occupied, total_before
  function self.begin()
    was_occupied = redis.call('EXISTS', sharers) == 1
    if has('n') then total_before = total() end
    check_users()
  end
  local function change(less, more, quiet)
    local deltas, order = {}, {}
    local function add(ids, delta)
      for _, id in ipairs(ids) do
        if not deltas[id] then deltas[id] = 0; order[#order + 1] = id end
        deltas[id] = deltas[id] + delta
      end
    end
    add(less, -1); add(more, 1)
    for sign = -1, 1, 2 do
      for _, id in ipairs(order) do
        if deltas[id] * sign > 0 then
          local what = 'm' .. id
          local count = redis.call('HINCRBY', users, what, deltas[id])
          if count <= 0 then redis.call('HDEL', users, what); left(what)
          elseif count == deltas[id] then came(what, quiet[id]) end
        end
      end
    end
    redis.call('HINCRBY', users, 't', #more - #less)
  end
  function self.finish(less, more, quiet, is_quiet, confirmed)
    local is_occupied = redis.call('EXISTS', sharers) == 1
    if has('c') and is_occupied and not was_occupied then came('c', is_quiet) end
    if self.members and #less + #more > 0 then change(less, more, quiet) end
    if not is_occupied then redis.call('DEL', users) end
    if has('n') then
      local count = total()
      if confirmed then
        redis.call('SET', counted, confirmed .. ' ' .. clock(), 'NX', 'PX', 12 * pause)
        put_off(clock() + pause)
      elseif count ~= total_before then
        local _, at = told_count()
        if count > 100 and at and clock() - at < pause then put_off(at + pause) else tell_count(count) end
      end
    end
    if has('c') and was_occupied and not is_occupied then left('c') end
    close_streams()
  end
  function self.missed(what)
    if what == 'c' then
      if has('c') and redis.call('EXISTS', sharers) == 0 then left('c') end
    elseif self.members and redis.call('HEXISTS', users, what) == 0 then left(what) end
  end

  function self.take_due(most)
    local is_occupied, is_vacated = redis.call('EXISTS', sharers) == 1, false
    local due = redis.call('ZRANGEBYSCORE', held, '-inf', clock(), 'LIMIT', 0, most)
    check_users()
    for _, what in ipairs(due) do
      local kind = string.sub(what, 1, 1)
      if kind == 'c' then is_vacated = true
      elseif kind == 'n' then
        redis.call('ZREM', held, what)
        local count = total()
        if has('n') and count ~= told_count() then tell_count(count) end
      elseif kind == 'a' then
        local id = string.sub(what, 2)
        local is_untold = redis.call('ZREM', held, what) == 1 and self.members
        if is_untold and redis.call('HEXISTS', users, 'm' .. id) == 1 then added(id) end
      elseif redis.call('ZREM', held, what) == 1 and self.members
        and redis.call('HEXISTS', users, what) == 0 then gone(what) end
    end
    if is_vacated and #due < most and redis.call('ZREM', held, 'c') == 1 and has('c') and not is_occupied then
      gone('c')
    end
    close_streams()
  end
  function self.next_due()
    local first = redis.call('ZRANGE', held, 0, 0, 'WITHSCORES')
    if first[2] then await(math.max(0, first[2] - clock())) end
  end
  return self
end
"#;

/// Where events are appended without being carried.
pub(super) const DIRECT: &str = "
local is_carried = false
";

/// Instead of [`super::append::APPEND`] on a Redis Cluster, where the streams are on other servers: what is to be appended
/// stands in the list `o` of the channel until a node has carried it. Such an event has an id from the beginning, by which
/// a receiver knows it if it is carried twice: the digest of the channel, and the microsecond.
///
/// An item is what the names of all that belongs to the webhook begin with, the kind, the id and the JSON, in lines.
pub(super) const CARRIED: &str = r"
local is_carried, last_id = true, nil
local function append(hook, kind, channel, json, id, base)
  local time = redis.call('TIME')
  last_id = math.max(last_id and last_id + 1 or 0, time[1] * 1000000 + time[2])
  local life = string.gsub(string.sub(redis.sha1hex(base), 1, 16), '^0+', '')
  local item = {hook, kind, life .. '.' .. string.format('%x', last_id), json}
  redis.call('RPUSH', base .. 'o', table.concat(item, '\n'))
end
local function close_streams() end
";

/// `KEYS`: what is held, sharers, what is to be carried. `ARGV`: what the names of all that belongs to the channel begin
/// with, what the webhooks want, life, how many items this life has carried, milliseconds for which it carries the next.
///
/// Tells what is due. Answers for how many milliseconds the next is held, or -1; then, on a Redis Cluster, the items that
/// this life is to carry. With `0` there is more.
pub(super) const FINISH: &str = "
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1], KEYS[3], ARGV[1] .. 'u', ARGV[1] .. 'n', ARGV[1] .. 'b')
  return {-1}
end
local most = 500
local hook = hooks(ARGV[2], ARGV[1], KEYS[2])
hook.take_due(most)
hook.wait = -1
hook.next_due()
if not is_carried then return {hook.wait} end
local carrier = ARGV[1] .. 'b'
local is_own = redis.call('GET', carrier) == ARGV[3]
if is_own and ARGV[4] ~= '0' then redis.call('LTRIM', KEYS[3], ARGV[4], -1) end
if redis.call('EXISTS', KEYS[3]) == 0 then
  if is_own then redis.call('DEL', carrier) end
  return {hook.wait}
end
if is_own then redis.call('PEXPIRE', carrier, ARGV[5])
elseif not redis.call('SET', carrier, ARGV[3], 'NX', 'PX', ARGV[5]) then
  local left = math.max(10, redis.call('PTTL', carrier))
  if hook.wait < 0 or left < hook.wait then hook.wait = left end
  return {hook.wait}
end
return {hook.wait, redis.call('LRANGE', KEYS[3], 0, 99)}
";
