//! The scripts about the stream of a webhook. All keys of one webhook have its tag, so each script is one act.
//!
//! Whoever sends has a lease, and a script in which only the sender may do something compares it: a node that was paused
//! while another took over changes nothing by what it still says.

/// Takes the lease, or renews it. `KEYS`: lease, fill, stream. `ARGV`: who asks, milliseconds of the lease, milliseconds
/// for which the keys stay after their last use.
///
/// Answers 0: another has it; 1: it is held, and nobody else has held it since this one did; 2: it is held, and the last who
/// held it was another.
pub(in super::super) const HOLD: &str = "
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
local last = redis.call('HGET', KEYS[2], 'last')
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('HSET', KEYS[2], 'last', ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('PEXPIRE', KEYS[3], ARGV[3])
if last and last ~= ARGV[1] then return 2 end
return 1
";

/// Gives the lease up. `KEYS`: lease, fill. `ARGV`: who has it, and as for [`READ`] how many lost events it knows of. Answers 1
/// if it was held.
pub(in super::super) const LET_GO: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] ~= '' then redis.call('HSET', KEYS[2], 'told', ARGV[2]) end
return redis.call('DEL', KEYS[1])
";

/// Reads what is next, for the holder of the lease. `KEYS`: lease, stream, fill. `ARGV`: who asks, behind which entry (`>`:
/// what nobody has read yet; an id: what was read and is not settled), the most entries, the most bytes; the last of them may
/// be a little beyond; and how many lost events the asker knows of, empty if it has not asked before.
///
/// Group and consumer are the same on every node, so what another has read before is found under its id. An entry that
/// is not there any more is forgotten. A stream that is not there, or is new, is no error.
///
/// Answers 0 if the lease is another's, or nobody's; else Redis' time in milliseconds since 1970, how many entries the stream
/// has, with how many bytes of JSON, how many were lost ever, how many of them an asker knew of, and the entries.
pub(in super::super) const READ: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local out, bytes, from, more = {}, 0, ARGV[2], true
local most = tonumber(ARGV[3])
while more and #out < most and bytes < tonumber(ARGV[4]) do
  local count = math.min(most - #out, 16)
  local read = redis.pcall('XREADGROUP', 'GROUP', 'soundpost', 'sender', 'COUNT', count, 'STREAMS', KEYS[2], from)
  if read and read.err then
    if string.find(read.err, 'NOGROUP', 1, true) and redis.call('EXISTS', KEYS[2]) == 1 then
      redis.call('XGROUP', 'CREATE', KEYS[2], 'soundpost', 0)
    else
      if not string.find(read.err, 'NOGROUP', 1, true) then return read end
      more = false
    end
  else
    local entries = read and read[1][2] or {}
    more = #entries == count
    for _, entry in ipairs(entries) do
      if from ~= '>' then from = entry[1] end
      if entry[2] then
        out[#out + 1] = entry
        for _, text in ipairs(entry[2]) do bytes = bytes + #text end
      else redis.call('XACK', KEYS[2], 'soundpost', entry[1]) end
    end
  end
end
local function number(name) return tonumber(redis.call('HGET', KEYS[3], name) or 0) end
local filled, lost, told, known = number('bytes'), number('lost'), number('told'), tonumber(ARGV[5])
if known and known > told and known <= lost then
  redis.call('HSET', KEYS[3], 'told', known)
  told = known
end
local time, entries = redis.call('TIME'), redis.call('XLEN', KEYS[2])
if entries == 0 or filled < 0 then filled = 0 end
return {time[1] * 1000 + math.floor(time[2] / 1000), entries, filled, lost, told, out}
";

/// Takes entries out of the stream. `KEYS`: stream, fill, lease. `ARGV`: who must hold the lease (empty: it is
/// true whoever does), `lost` if those that are there count as lost, then id and bytes of each. Answers how many were there.
pub(in super::super) const SETTLE: &str = "
if ARGV[1] ~= '' and redis.call('GET', KEYS[3]) ~= ARGV[1] then return 0 end
local count, bytes = 0, 0
for i = 3, #ARGV, 2 do
  redis.call('XACK', KEYS[1], 'soundpost', ARGV[i])
  if redis.call('XDEL', KEYS[1], ARGV[i]) == 1 then count = count + 1; bytes = bytes + ARGV[i + 1] end
end
if count > 0 then
  if ARGV[2] == 'lost' then redis.call('HINCRBY', KEYS[2], 'lost', count) end
  local left = redis.call('HINCRBY', KEYS[2], 'bytes', -bytes)
  if left < 0 or redis.call('XLEN', KEYS[1]) == 0 then redis.call('HSET', KEYS[2], 'bytes', 0) end
end
return count
";
