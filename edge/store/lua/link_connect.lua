-- CONNECT: begin a link, unless there is one. KEYS: row, fence and newest event of the last life, the action's key (or none).
-- ARGV: owner, token of this call, field, value, ...
-- Returns {begun by this call (0, 1), row as HGETALL does}; the row is empty when the action is a repeated one whose
-- link has ended since.
-- The fence begins with the time: should Redis lose all it had, a new life still comes after an old one. Events are
-- counted on from those of the life before.
local row = redis.call('HMGET', KEYS[1], 'fence', 'born')
local born = row[2]
if not row[1] then
  local by = KEYS[3] and redis.call('GET', KEYS[3])
  if by then
    return {0, {}}
  end
  local time = redis.call('TIME')
  local fence = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  local before, seq = string.match(redis.call('GET', KEYS[2]) or '0 0', '^(%d+) (%d+)$')
  fence = math.max(fence, tonumber(before) + 1)
  redis.call('HSET', KEYS[1], 'fence', string.format('%d', fence), 'owner', ARGV[1], 'born', ARGV[2])
  for i = 3, #ARGV, 1000 do
    redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
  end
  redis.call('HSET', KEYS[1], 'seq', seq, 'done', seq)
  born = ARGV[2]
end
if KEYS[3] then
  redis.call('SET', KEYS[3], ARGV[2], 'EX', 86400, 'NX')
end
return {born == ARGV[2] and 1 or 0, redis.call('HGETALL', KEYS[1])}
