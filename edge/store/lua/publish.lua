-- Accept one publication. KEYS: channel, history, the publication id's key.
-- ARGV: in a cluster (0, 1), bus channel, body, history count, history age in ms (0: any), epoch seed,
-- how long the id is remembered in ms.
-- Returns {offset, epoch, duplicate}. Message on the bus and in history: "<offset> <epoch> <wall ms> <body>".
local count, age = tonumber(ARGV[4]), tonumber(ARGV[5])
-- Without history the position is known beforehand, and one command asks and remembers.
local fresh = count == 0 and redis.call('SET', KEYS[3], '0 ', 'PX', ARGV[7], 'NX')
local before = not fresh and redis.call('GET', KEYS[3])
if before then
  local offset, epoch = string.match(before, '^(%d+) (.*)$')
  return {tonumber(offset), epoch, 1}
end
local time = redis.call('TIME')
local at = time[1] .. string.format('%03d', math.floor(tonumber(time[2]) / 1000))
local offset, epoch = 0, ''
if count > 0 then
  epoch = redis.call('HGET', KEYS[1], 'epoch')
  if not epoch then
    -- A new life: its name holds the time, so that no earlier life of the channel had it.
    epoch = ARGV[6] .. string.format('%x%05x', time[1], time[2])
    redis.call('HSET', KEYS[1], 'epoch', epoch)
    redis.call('DEL', KEYS[2])
  end
  offset = redis.call('HINCRBY', KEYS[1], 'offset', 1)
end
local message = string.format('%d', offset) .. ' ' .. epoch .. ' ' .. at .. ' ' .. ARGV[3]
if count > 0 then
  redis.call('RPUSH', KEYS[2], message)
  redis.call('LTRIM', KEYS[2], -count, -1)
  redis.call('HSET', KEYS[1], 'age', age)
  if age > 0 then
    local oldest = tonumber(at) - age
    while true do
      local first = redis.call('LINDEX', KEYS[2], 0)
      if tonumber(string.match(first, '^%d+ %S+ (%d+) ')) >= oldest then
        break
      end
      redis.call('LPOP', KEYS[2])
    end
    -- The offset outlives the history by a day: who comes back later is told of a gap either way.
    redis.call('PEXPIRE', KEYS[2], age)
    redis.call('PEXPIRE', KEYS[1], age + 86400000)
  else
    redis.call('PERSIST', KEYS[2])
    redis.call('PERSIST', KEYS[1])
  end
end
if not fresh then
  redis.call('SET', KEYS[3], string.format('%d', offset) .. ' ' .. epoch, 'PX', ARGV[7])
end
-- Sharded pub/sub came with 7.0, as did this variable. The bus asks each server the same question.
if ARGV[1] == '1' and redis.REDIS_VERSION_NUM then
  redis.call('SPUBLISH', ARGV[2], message)
else
  redis.call('PUBLISH', ARGV[2], message)
end
return {offset, epoch, 0}
