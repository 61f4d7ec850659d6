-- Send mail to an edge. KEYS: its pub/sub channel (for the slot). ARGV: in a cluster (0, 1), body.
if ARGV[1] == '1' and redis.REDIS_VERSION_NUM then
  return redis.call('SPUBLISH', KEYS[1], ARGV[2])
end
return redis.call('PUBLISH', KEYS[1], ARGV[2])
