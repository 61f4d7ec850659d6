-- Whether an edge is dead for good. KEYS: leases, claims, buried. ARGV: edge, who asks, grace in ms. Returns 1 or 0.
-- One whose lease is over is dead from now on, and told so by its next renewal; its estate can be claimed at once. One
-- without any lease (Redis may have lost it) is given the grace to renew it; if it does not, it has lapsed.
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 or redis.call('ZSCORE', KEYS[3], ARGV[1]) then
  return 1
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local expiry = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not expiry then
  redis.call('ZADD', KEYS[1], string.format('%d', now + tonumber(ARGV[3])), ARGV[1])
  return 0
end
if tonumber(expiry) > now then
  return 0
end
redis.call('HSET', KEYS[2], ARGV[1], '0 ' .. ARGV[2])
return 1
