-- DONE: the backend has accepted the events up to a seq. ARGV, after the head's: that seq.
local upto = tonumber(ARGV[5])
if upto > seq then
  return redis.error_reply('STEP event ' .. ARGV[5] .. ' was never kept; the last one is ' .. row[4])
end
if upto <= done then
  return apply()
end
for _, event in ipairs(redis.call('LPOP', KEYS[2], upto - done)) do
  in_bytes = in_bytes - #event
end
done = upto
return apply('done', done, 'in_bytes', in_bytes)
