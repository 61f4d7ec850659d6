-- DONE: the backend has accepted the events up to a seq. ARGV, after the head's: that seq.
if tonumber(ARGV[5]) > seq then
  return redis.error_reply('STEP event ' .. ARGV[5] .. ' was never kept; the last one is ' .. row[4])
end
upto = math.max(upto, tonumber(ARGV[5]))
return apply()
