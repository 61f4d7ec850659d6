-- An edge leaves. KEYS: leases, info, claims. ARGV: edge, whether sessions are left (0, 1).
-- With sessions left the lease ends now, so that others take them over at once.
if ARGV[2] == '0' then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('HDEL', KEYS[3], ARGV[1])
elseif redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  redis.call('ZADD', KEYS[1], 0, ARGV[1])
end
return 1
