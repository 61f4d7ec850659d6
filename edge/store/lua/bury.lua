-- A dead edge's estate is cleared. KEYS: leases, info, claims, buried. ARGV: edge.
-- Its name is remembered for a week: should it wake up, it must not think that Redis lost its data.
local time = redis.call('TIME')
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('ZADD', KEYS[4], time[1], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', tonumber(time[1]) - 604800)
return 1
