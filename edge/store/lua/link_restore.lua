-- Write a link again from its owner's memory, where Redis lost some of it. KEYS: row, waiting events, unacknowledged
-- stanzas, iq table. ARGV: fence, owner, stream, seq, h_in, out_base, out_n, done, seq of the first event given; then
-- four lists, each behind its length: events, stanzas, iq keys and entries, fields and values.
-- Returns {written (0, 1), events lost}. Nothing is written when the row stands as its owner knows it.
local row = redis.call('HMGET', KEYS[1], 'fence', 'owner', 'stream', 'seq', 'h_in', 'out_base', 'out_n', 'done')
if row[1] then
  local theirs, ours = tonumber(row[1]), tonumber(ARGV[1])
  if theirs > ours or theirs == ours and row[2] ~= ARGV[2] then
    return redis.error_reply('FENCED ' .. (row[2] == '' and 'nobody' or row[2]) .. ' owns the link, fence ' .. row[1])
  end
  if theirs == ours and row[3] == ARGV[3] and row[4] == ARGV[4] and row[5] == ARGV[5] and row[6] == ARGV[6]
      and row[7] == ARGV[7] then
    return {0, 0}
  end
end
-- Events before the first one given are kept where Redis has them. Those it has not are lost; their places are kept
-- empty, so that seq goes on without holes.
local done, first, lost = tonumber(ARGV[8]), tonumber(ARGV[9]), 0
local held = tonumber(row[4] or done)
if row[8] and tonumber(row[8]) < first then
  done = tonumber(row[8])
end
local keep = math.min(held, first - 1) - done
if row[1] and keep > 0 then
  redis.call('LTRIM', KEYS[2], 0, keep - 1)
else
  redis.call('DEL', KEYS[2])
  keep = 0
end
for _ = done + keep + 1, first - 1 do
  redis.call('RPUSH', KEYS[2], '')
  lost = lost + 1
end
local at = 10
local function listed(command, key)
  local last = at + tonumber(ARGV[at])
  for i = at + 1, last, 1000 do
    redis.call(command, key, unpack(ARGV, i, math.min(i + 999, last)))
  end
  at = last + 1
end
listed('RPUSH', KEYS[2])
redis.call('DEL', KEYS[3], KEYS[4], KEYS[1])
listed('RPUSH', KEYS[3])
listed('HSET', KEYS[4])
listed('HSET', KEYS[1])
local function weight(key)
  local bytes = 0
  for _, each in ipairs(redis.call('LRANGE', key, 0, -1)) do
    bytes = bytes + #each
  end
  return bytes
end
redis.call('HSET', KEYS[1], 'fence', ARGV[1], 'owner', ARGV[2], 'done', done, 'in_bytes', weight(KEYS[2]),
  'out_bytes', weight(KEYS[3]))
return {1, lost}
