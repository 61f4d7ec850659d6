-- SAVE: a change alone. KEYS, after the head's: the action's key, or none. ARGV, after the head's: token of this call.
-- Returns {events' standing, repeated (0, 1)}. A repeated action changes nothing.
if KEYS[5] then
  local by = redis.call('GET', KEYS[5])
  if by and by ~= ARGV[5] then
    return {{seq, done, in_bytes}, 1}
  end
  redis.call('SET', KEYS[5], ARGV[5], 'EX', 86400)
end
return {apply(), 0}
