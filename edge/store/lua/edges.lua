-- Edges with a live lease. KEYS: leases, info. Returns {edge, info, ...}.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local answer = {}
for _, edge in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%d', now), '+inf')) do
  answer[#answer + 1] = edge
  answer[#answer + 1] = redis.call('HGET', KEYS[2], edge)
end
return answer
