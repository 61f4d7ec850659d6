-- CLAIM: become a link's owner. KEYS: row, unacknowledged stanzas, iq table. ARGV: new owner, an owner known to be dead
-- ('': none), newest version of rows that the new owner reads.
-- Returns {owner before, row, unacknowledged stanzas, iq table}. Repeatable: the owner asking again gets the same.
local row = redis.call('HMGET', KEYS[1], 'fence', 'owner', 'version')
if not row[1] then
  return redis.error_reply('FENCED the link is gone')
end
if tonumber(row[3]) > tonumber(ARGV[3]) then
  return redis.error_reply('NEWER the row has version ' .. row[3] .. ': an edge of a newer release must take it')
end
if row[2] ~= ARGV[1] then
  if row[2] ~= '' and row[2] ~= ARGV[2] then
    return redis.error_reply('FENCED ' .. row[2] .. ' owns the link, fence ' .. row[1])
  end
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'fence', string.format('%d', tonumber(row[1]) + 1))
end
return {row[2], redis.call('HGETALL', KEYS[1]), redis.call('LRANGE', KEYS[2], 0, -1), redis.call('HGETALL', KEYS[3])}
