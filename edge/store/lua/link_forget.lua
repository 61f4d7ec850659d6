-- DISCONNECT: delete a link. KEYS: row, waiting events, unacknowledged stanzas, iq table, fence of the last life.
-- ARGV: fence, owner, whether waiting events are given up (0, 1). Repeatable.
-- Its fence and its newest event are remembered as long as late commands may come, and backends remember what they
-- answered: the next life begins above them.
local row = redis.call('HMGET', KEYS[1], 'fence', 'owner', 'seq', 'done')
if not row[1] then
  return 0
end
if row[1] ~= ARGV[1] or row[2] ~= ARGV[2] then
  return redis.error_reply('FENCED ' .. (row[2] == '' and 'nobody' or row[2]) .. ' owns the link, fence ' .. row[1])
end
if ARGV[3] == '0' and row[3] ~= row[4] then
  return redis.error_reply('STEP events up to ' .. row[3] .. ' wait, and only those up to ' .. row[4] .. ' are done')
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
redis.call('SET', KEYS[5], ARGV[1] .. ' ' .. row[3], 'EX', 86400)
return 1
