-- ENABLED: a new stream, its counters at 0. ARGV, after the head's (the stream is the one before): stanzas sent on
-- that one, SM-ID, max, location, number of stanzas to send (again) on the new one, those.
if stream == mine + 1 then
  if redis.call('HGET', KEYS[1], 'sm_id') == ARGV[6] then
    return apply() -- an earlier run of this command
  end
end
if stream ~= mine or tonumber(ARGV[5]) ~= out_n then
  return redis.error_reply('STEP ' .. row[9] .. ' stanzas were sent on stream ' .. row[3] .. ', not ' .. ARGV[5]
    .. ' on ' .. ARGV[3])
end
local count = tonumber(ARGV[9])
redis.call('DEL', KEYS[3])
each('RPUSH', KEYS[3], 10, 9 + count)
out_bytes = 0
for i = 10, 9 + count do
  out_bytes = out_bytes + #ARGV[i]
end
return apply('stream', mine + 1, 'sm_id', ARGV[6], 'sm_max', ARGV[7], 'location', ARGV[8], 'h_in', 0, 'out_base', 0,
  'out_n', count, 'out_bytes', out_bytes)
