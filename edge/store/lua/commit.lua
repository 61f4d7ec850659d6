-- Apply one patch. KEYS: row, then one key per action id.
-- ARGV: fence, token, raise the version (0, 1), tokens of commits that were given up (" a b " or ""), number of
-- fields to delete, those, then field, value, ...
-- Returns {version, user before or false, index of each action id that another commit used, ...}.
-- The token names this very commit, so that sending it again (broken connection) is told from a repeated action. One
-- that was given up may have come here all the same; nothing of it was done, so its action ids are still unused.
local row = redis.call('HMGET', KEYS[1], 'fence', 'owner', 'v', 'user', 'token', 'outcome')
if not row[1] then
  return redis.error_reply('FENCED the session is gone')
end
if tonumber(row[1]) > tonumber(ARGV[1]) then
  return redis.error_reply('FENCED ' .. row[2] .. ' owns the session with fence ' .. row[1])
end
if row[5] == ARGV[2] then
  return cmsgpack.unpack(row[6])
end
local answer = {tonumber(row[3] or '0'), row[4]}
for i = 2, #KEYS do
  local by = redis.call('GET', KEYS[i])
  if by and by ~= ARGV[2] and not string.find(ARGV[4], ' ' .. by .. ' ', 1, true) then
    answer[#answer + 1] = i - 2
  else
    redis.call('SET', KEYS[i], ARGV[2], 'EX', 86400)
  end
end
local first = 6 + tonumber(ARGV[5])
for i = 6, first - 1, 1000 do
  redis.call('HDEL', KEYS[1], unpack(ARGV, i, math.min(i + 999, first - 1)))
end
for i = first, #ARGV, 1000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
if ARGV[3] == '1' then
  answer[1] = redis.call('HINCRBY', KEYS[1], 'v', 1)
end
redis.call('HSET', KEYS[1], 'token', ARGV[2], 'outcome', cmsgpack.pack(answer))
return answer
