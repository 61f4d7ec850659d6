-- Make another edge a session's owner. KEYS: row. ARGV: fence it must have, owner it must have, new owner.
-- Returns the row as HGETALL does. Repeatable: the new owner asking again gets the same answer.
local row = redis.call('HMGET', KEYS[1], 'fence', 'owner')
if not row[1] then
  return redis.error_reply('FENCED the session is gone')
end
local raised = tonumber(ARGV[1]) + 1
if row[1] == ARGV[1] and row[2] == ARGV[2] then
  redis.call('HSET', KEYS[1], 'fence', raised, 'owner', ARGV[3])
elseif tonumber(row[1]) ~= raised or row[2] ~= ARGV[3] then
  return redis.error_reply('FENCED ' .. row[2] .. ' owns the session with fence ' .. row[1])
end
return redis.call('HGETALL', KEYS[1])
