-- TAKE: read waiting events. ARGV, after the head's: after which seq, how many at most, how many bytes at most.
-- Returns {seq before the first, event, ...}. One event is returned whatever it weighs.
local before, limit, most = math.max(tonumber(ARGV[5]), done), tonumber(ARGV[6]), tonumber(ARGV[7])
local answer, taken = {before}, 0
for _, event in ipairs(redis.call('LRANGE', KEYS[2], before - done, before - done + limit - 1)) do
  taken = taken + #event
  if #answer > 1 and taken > most then
    break
  end
  answer[#answer + 1] = event
end
return answer
