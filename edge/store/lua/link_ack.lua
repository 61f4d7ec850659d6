-- ACK, RESUMED: the server has handled our stanzas up to h. ARGV, after the head's: h.
-- Returns {events' standing, how many of them were dropped now}.
-- An h of an earlier stream, or one behind, is from an earlier run of this command.
if mine > stream then
  return redis.error_reply('STEP stream ' .. ARGV[3] .. ' is not enabled here; it is ' .. row[3])
end
local handled = (tonumber(ARGV[5]) - out_base) % WRAP
if mine < stream or handled == 0 or handled >= HALF then
  return {apply(), 0}
end
local waiting = (out_n - out_base) % WRAP
if handled > waiting then
  return redis.error_reply('COUNT h ' .. ARGV[5] .. ' acknowledges ' .. string.format('%d', handled)
    .. ' stanzas, but ' .. string.format('%d', waiting) .. ' were sent')
end
for _, stanza in ipairs(redis.call('LPOP', KEYS[3], handled)) do
  out_bytes = out_bytes - #stanza
end
return {apply('out_base', ARGV[5], 'out_bytes', out_bytes), handled}
