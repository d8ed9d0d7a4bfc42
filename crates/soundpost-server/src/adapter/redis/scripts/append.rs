//! How an event gets into the stream of a webhook.

/// A function for the beginning of scripts: `append(base, kind, channel, json, id)`. `base` is what the names of all that
/// belongs to the webhook begin with; without an `id` the event is named by its place in the stream.
///
/// An entry has the fields `k`, the kind as its word; `c`, the channel; `j`, the JSON of the event; and `i`, the id, if it
/// was given one. The stream has at most 10,000 entries with 16 MiB of JSON: the oldest make room. It is forgotten a day
/// after something was put in for the last time, with the webhook that nobody has any more.
pub(in super::super) const APPEND: &str = "
local function append(base, kind, channel, json, id)
  local stream, fill = base .. 'q', base .. 'm'
  local entries = redis.call('XLEN', stream)
  local bytes = entries > 0 and tonumber(redis.call('HGET', fill, 'bytes') or 0) or 0
  while entries > 0 and (entries >= 10000 or bytes + #json > 16777216) do
    local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    for i = 1, #oldest[2], 2 do
      if oldest[2][i] == 'j' then bytes = bytes - #oldest[2][i + 1] end
    end
    redis.call('XDEL', stream, oldest[1])
    redis.call('HINCRBY', fill, 'lost', 1)
    entries = entries - 1
  end
  if id then redis.call('XADD', stream, '*', 'k', kind, 'c', channel, 'j', json, 'i', id)
  else redis.call('XADD', stream, '*', 'k', kind, 'c', channel, 'j', json) end
  redis.call('HSET', fill, 'bytes', bytes + #json)
  redis.call('PEXPIRE', stream, 86400000)
  redis.call('PEXPIRE', fill, 86400000)
end
";
