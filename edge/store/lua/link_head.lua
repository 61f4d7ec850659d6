-- Not a script: what every script of a link's owner begins with. It checks the fence, reads the counters, and checks
-- the change that comes along, so that nothing is written before all is known to be right.
-- KEYS: row, waiting events, unacknowledged stanzas, iq table, ... ARGV: fence, owner, stream, where the change begins
-- (0: there is none), ...
-- A change: seq of its first event, room for so many events and bytes (0: any), seq up to which events are done (0: no
-- news), number of events, those; then, unless the events are all, five lists, each behind its length: seq and new content of waiting events; fields and values of
-- the row; names of fields to delete; keys and entries of the iq table; keys to delete from it.
local WRAP, HALF = 4294967296, 2147483648
local row = redis.call('HMGET', KEYS[1], 'fence', 'owner', 'stream', 'seq', 'done', 'in_bytes', 'h_in', 'out_base',
  'out_n', 'out_bytes')
if not row[1] then
  return redis.error_reply('FENCED the link is gone')
end
if row[1] ~= ARGV[1] or row[2] ~= ARGV[2] then
  return redis.error_reply('FENCED ' .. (row[2] == '' and 'nobody' or row[2]) .. ' owns the link, fence ' .. row[1])
end
local mine, stream = tonumber(ARGV[3]), tonumber(row[3])
local seq, done, in_bytes = tonumber(row[4]), tonumber(row[5]), tonumber(row[6])
local h_in, out_base, out_n, out_bytes = tonumber(row[7]), tonumber(row[8]), tonumber(row[9]), tonumber(row[10])
local at, events, known, weight, upto = tonumber(ARGV[4]), 0, 0, 0, done
if at > 0 then
  local first, room, most = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  upto, events = math.max(upto, tonumber(ARGV[at + 3])), tonumber(ARGV[at + 4])
  if upto > seq then
    return redis.error_reply('STEP event ' .. ARGV[at + 3] .. ' was never kept; the last one is ' .. row[4])
  end
  if events > 0 then
    -- Those at or below the row's seq came with an earlier run of this command.
    known = math.min(seq + 1 - first, events)
    if known < 0 then
      return redis.error_reply('STEP events begin with ' .. ARGV[at] .. ', but the last one here is ' .. row[4])
    end
    for i = at + 5 + known, at + 4 + events do
      weight = weight + #ARGV[i]
    end
    if room > 0 and known < events and seq > upto
        and (seq - upto + events - known > room or in_bytes + weight > most) then
      return redis.error_reply(string.format('FULL %d events (%d bytes) wait', seq - done, in_bytes))
    end
  end
  local replaced = at + 5 + events
  for i = replaced + 1, replaced + tonumber(ARGV[replaced] or 0), 2 do
    if tonumber(ARGV[i]) > seq then
      return redis.error_reply('STEP event ' .. ARGV[i] .. ' does not wait')
    end
  end
end

-- ARGV from `first` to `last`, behind `key`; Lua's stack does not take them all at once.
local function each(command, key, first, last)
  for i = first, last, 1000 do
    redis.call(command, key, unpack(ARGV, i, math.min(i + 999, last)))
  end
end

local function listed(command, key)
  local last = at + tonumber(ARGV[at])
  each(command, key, at + 1, last)
  at = last + 1
end

-- Drop the events that are done.
local function drop()
  if upto > done then
    for _, event in ipairs(redis.call('LPOP', KEYS[2], upto - done)) do
      in_bytes = in_bytes - #event
    end
    done = upto
    redis.call('HSET', KEYS[1], 'done', done, 'in_bytes', in_bytes)
  end
end

-- Carry out the change; fields and values of the script's own are written along. Returns the events' standing.
local function apply(...)
  drop()
  if at == 0 then
    if select('#', ...) > 0 then
      redis.call('HSET', KEYS[1], ...)
    end
    return {seq, done, in_bytes}
  end
  each('RPUSH', KEYS[2], at + 5 + known, at + 4 + events)
  seq = seq + events - known
  in_bytes = in_bytes + weight
  at = at + 5 + events
  if not ARGV[at] then
    redis.call('HSET', KEYS[1], 'seq', seq, 'in_bytes', in_bytes, ...)
    at = 0
    return {seq, done, in_bytes}
  end
  local last = at + tonumber(ARGV[at])
  for i = at + 1, last, 2 do
    local place = tonumber(ARGV[i]) - done - 1
    if place >= 0 then -- else it was accepted, with this content or after an earlier run of this command
      in_bytes = in_bytes + #ARGV[i + 1] - #redis.call('LINDEX', KEYS[2], place)
      redis.call('LSET', KEYS[2], place, ARGV[i + 1])
    end
  end
  at = last + 1
  redis.call('HSET', KEYS[1], 'seq', seq, 'in_bytes', in_bytes, ...)
  listed('HSET', KEYS[1])
  listed('HDEL', KEYS[1])
  listed('HSET', KEYS[4])
  listed('HDEL', KEYS[4])
  at = 0
  return {seq, done, in_bytes}
end
