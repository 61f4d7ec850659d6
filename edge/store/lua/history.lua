-- Publications after a position. KEYS: channel, history. ARGV: limit, offset (-1: the newest), epoch.
-- Returns {whole, offset, epoch, message, ...}; oldest first.
local channel = redis.call('HMGET', KEYS[1], 'offset', 'epoch', 'age')
local limit, since = tonumber(ARGV[1]), tonumber(ARGV[2])
if not channel[1] then
  return {since < 0 and 1 or 0, 0, ''}
end
local top = tonumber(channel[1])
local answer = {0, top, channel[2]}
local length = redis.call('LLEN', KEYS[2])
local oldest = 0
local age = tonumber(channel[3])
if age > 0 then
  local time = redis.call('TIME')
  oldest = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) - age
end
-- How many of the list's last entries are wanted.
local wanted = length
if since >= 0 then
  wanted = top - since
  if channel[2] ~= ARGV[3] or wanted < 0 or wanted > length then
    return answer
  end
elseif limit < length then
  wanted = limit
end
answer[1] = 1
if wanted == 0 or limit < 1 then
  return answer
end
local messages = redis.call('LRANGE', KEYS[2], -wanted, since >= 0 and math.min(limit - wanted - 1, -1) or -1)
for _, message in ipairs(messages) do
  if tonumber(string.match(message, '^%d+ %S+ (%d+) ')) >= oldest then
    answer[#answer + 1] = message
  elseif since >= 0 then
    return {0, top, channel[2]}
  end
end
return answer
