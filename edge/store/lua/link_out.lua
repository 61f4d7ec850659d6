-- OUT: keep stanzas that are about to be sent. KEYS, after the head's: one per action id. ARGV, after the head's:
-- number of stanzas sent on this stream before, room for so many and so many bytes, number of stanzas, and for each
-- the number of its action's key (0: none), the stanza, and its iq table key and entry ('' and '': none).
-- Returns {events' standing, {place of each stanza in the stream, or -1 for a repeated action}}.
-- A key holds the place its stanza was given. So the same command, run again, is told from a repeated action: it finds
-- the places it would give.
local before, count = tonumber(ARGV[5]), tonumber(ARGV[8])
local ahead = (out_n - before) % WRAP
local in_step = mine == stream and ahead < HALF
local answer, places, marks, given, fresh, heavier = {}, {}, {}, 0, 0, 0
for i = 1, count do
  local first = 5 + 4 * i
  local key, stanza = KEYS[4 + tonumber(ARGV[first])], ARGV[first + 1]
  if ARGV[first] == '0' then
    key = nil
  end
  local place = (before + given + 1) % WRAP
  local mark = ARGV[3] .. ':' .. string.format('%d', place)
  local found = key and (marks[key] or redis.call('GET', key))
  if found and found ~= mark then
    answer[i] = -1
  else
    given = given + 1
    answer[i] = place
    if not found then
      local index = (place - out_base - 1) % WRAP
      if not in_step
          or given <= ahead and (key or redis.call('LINDEX', KEYS[3], index) ~= stanza) then
        return redis.error_reply('STEP ' .. row[9] .. ' stanzas were sent on stream ' .. row[3] .. ', not '
          .. ARGV[5] .. ' on ' .. ARGV[3])
      end
      if given > ahead then
        fresh = fresh + 1
        places[fresh] = first + 1
        heavier = heavier + #stanza
      end
      if key then
        marks[key] = mark
      end
    end
  end
end
local waiting = (out_n - out_base) % WRAP
if fresh > 0 and waiting > 0 and (waiting + fresh > tonumber(ARGV[6]) or out_bytes + heavier > tonumber(ARGV[7])) then
  return redis.error_reply(string.format('FULL %d stanzas (%d bytes) are unacknowledged', waiting, out_bytes))
end
for _, index in ipairs(places) do
  redis.call('RPUSH', KEYS[3], ARGV[index])
end
for key, mark in pairs(marks) do
  local _, tag = string.find(key, '}:', 1, true)
  redis.call('SET', key, mark, 'EX', string.sub(key, tag + 1, tag + 1) == '^' and 600 or 86400)
end
for i = 1, count do
  if answer[i] >= 0 and ARGV[7 + 4 * i] ~= '' then
    redis.call('HSET', KEYS[4], ARGV[7 + 4 * i], ARGV[8 + 4 * i])
  end
end
if given == 0 and count > 0 and upto == done then
  -- Repeats alone: what they changed was changed then.
  return {{seq, done, in_bytes}, answer}
end
local standing
if fresh > 0 then
  standing = apply('out_n', (out_n + fresh) % WRAP, 'out_bytes', out_bytes + heavier)
else
  standing = apply()
end
return {standing, answer}
