//! How an event gets into the stream of a webhook.

/// Functions for the beginning of scripts: `append(base, kind, channel, json, id)`, and `close_streams()`, to be called
/// after the last of them. `base` is what the names of all that belongs to the webhook begin with; without an `id` the event
/// is named by its place in the stream.
///
/// An entry has the fields `k`, the kind as its word; `c`, the channel; `j`, the JSON of the event; and `i`, the id, if it
/// was given one. It is forgotten a day after something was put in for the last time, with the webhook that nobody has any more.
///
/// The bound of a queue, 10,000 events and 16 MiB, is kept by who sends: of what has been read the sender alone knows what
/// can still be dropped. Here is only seen to it that the stream has no more than twice as much when the sender does not keep up
/// or has just died: of what nobody has read the oldest make room, and count as lost.
pub(in super::super) const APPEND: &str = "
local fills = {}
local function fill_of(base)
  local entries = redis.call('XLEN', base .. 'q')
  local bytes = entries > 0 and tonumber(redis.call('HGET', base .. 'm', 'bytes') or 0) or 0
  fills[base] = {entries = entries, bytes = bytes, lost = 0}
  return fills[base]
end
local function oldest_unread(stream)
  local read = redis.pcall('XREADGROUP', 'GROUP', 'soundpost', 'sender', 'COUNT', 1, 'NOACK', 'STREAMS', stream, '>')
  if read and read.err then
    redis.call('XGROUP', 'CREATE', stream, 'soundpost', 0)
    return oldest_unread(stream)
  end
  return read and read[1][2][1]
end
local function append(base, kind, channel, json, id)
  local stream, fill = base .. 'q', fills[base] or fill_of(base)
  while fill.entries > 0 and (fill.entries >= 20000 or fill.bytes + #json > 33554432) do
    local oldest = oldest_unread(stream)
    if not oldest then break end
    for i = 1, #oldest[2], 2 do
      if oldest[2][i] == 'j' then fill.bytes = fill.bytes - #oldest[2][i + 1] end
    end
    redis.call('XDEL', stream, oldest[1])
    fill.lost, fill.entries = fill.lost + 1, fill.entries - 1
  end
  if id then redis.call('XADD', stream, '*', 'k', kind, 'c', channel, 'j', json, 'i', id)
  else redis.call('XADD', stream, '*', 'k', kind, 'c', channel, 'j', json) end
  fill.bytes, fill.entries = fill.bytes + #json, fill.entries + 1
end
local function close_streams()
  for base, fill in pairs(fills) do
    redis.call('HSET', base .. 'm', 'bytes', fill.bytes)
    if fill.lost > 0 then redis.call('HINCRBY', base .. 'm', 'lost', fill.lost) end
    redis.call('PEXPIRE', base .. 'q', 86400000)
    redis.call('PEXPIRE', base .. 'm', 86400000)
  end
end
";
