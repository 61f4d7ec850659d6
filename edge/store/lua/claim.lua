-- Claim a dead edge's estate. KEYS: leases, claims. ARGV: dead edge, claimant, claim in ms. Returns 1 or 0.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local expiry = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not expiry or tonumber(expiry) > now then
  return 0
end
local claim = redis.call('HGET', KEYS[2], ARGV[1])
if claim then
  local untilms, by = string.match(claim, '^(%d+) (.*)$')
  if by ~= ARGV[2] and tonumber(untilms) > now then
    return 0
  end
end
redis.call('HSET', KEYS[2], ARGV[1], string.format('%d', now + tonumber(ARGV[3])) .. ' ' .. ARGV[2])
return 1
