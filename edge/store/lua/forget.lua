-- Delete a session's row. KEYS: row. ARGV: fence. Returns its user, or false. Repeatable.
local row = redis.call('HMGET', KEYS[1], 'fence', 'owner', 'user')
if not row[1] then
  return false
end
if tonumber(row[1]) > tonumber(ARGV[1]) then
  return redis.error_reply('FENCED ' .. row[2] .. ' owns the session with fence ' .. row[1])
end
redis.call('DEL', KEYS[1])
return row[3]
