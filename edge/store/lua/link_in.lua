-- IN: keep what came from the server. ARGV, after the head's: h, or '' for none.
-- An h of an earlier stream, or one that was passed already, is from an earlier run of this command.
if mine > stream then
  return redis.error_reply('STEP stream ' .. ARGV[3] .. ' is not enabled here; it is ' .. row[3])
end
if mine == stream and ARGV[5] ~= '' and (tonumber(ARGV[5]) - h_in) % WRAP < HALF then
  return apply('h_in', ARGV[5])
end
return apply()
