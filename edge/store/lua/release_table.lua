-- Replace an app's release table, if it is still the one that was read. KEYS: the table.
-- ARGV: version that was read (0: none), token of this very write, document.
-- Returns 1, or 0: somebody else wrote meanwhile. Sending it again (broken connection) is told by the token.
local row = redis.call('HMGET', KEYS[1], 'version', 'token')
if row[2] == ARGV[2] then
  return 1
end
if (row[1] or '0') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'version', tonumber(ARGV[1]) + 1, 'token', ARGV[2], 'table', ARGV[3])
return 1
