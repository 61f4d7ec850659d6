-- Write a session's row, whole. KEYS: row. ARGV: fence, owner, field, value, ...
-- Refused when the row has a newer owner. Repeatable.
local held = redis.call('HMGET', KEYS[1], 'fence', 'owner')
if held[1] then
  local theirs, ours = tonumber(held[1]), tonumber(ARGV[1])
  if theirs > ours or (theirs == ours and held[2] ~= ARGV[2]) then
    return redis.error_reply('FENCED ' .. held[2] .. ' owns the session with fence ' .. held[1])
  end
  redis.call('DEL', KEYS[1])
end
redis.call('HSET', KEYS[1], 'fence', ARGV[1], 'owner', ARGV[2])
for first = 3, #ARGV, 1000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, first, math.min(first + 999, #ARGV)))
end
return 1
