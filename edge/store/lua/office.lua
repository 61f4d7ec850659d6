-- Hold an office that one edge has at a time. KEYS: the office. ARGV: who asks, milliseconds to hold it.
-- Returns 1: it is theirs now (again); 0: another one has it.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
