-- Renew an edge's lease. KEYS: leases, info, claims, buried. ARGV: edge, lease in ms, info.
-- Returns held, fresh or lost.
if redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1 or redis.call('ZSCORE', KEYS[4], ARGV[1]) then
  return 'lost'
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local added = redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
return added == 1 and 'fresh' or 'held'
