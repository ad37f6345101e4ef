-- The rooms of one server that outlive its processes. Each call is one step.
--
-- KEYS[1]  hash: holder; n, how many rooms; and of each room c:<room> its record, s:<room> the number of its step,
--          f:<room> up to where its events are gone, h:<room> its last event, e:<room>:<offset> an event
-- ARGV     what, node, kept_ms, then
--   hold     '1' if it was said before   'lost', or all fields and values; none if it was said before
--   keep     room, after ('' for none), seq, record, floor, head, rooms_max, offset of the first event, events
--                                        'kept', 'wanted', 'too_many', 'anew' or 'lost'
--   forget   room                        'kept', 'anew' or 'lost'
--   beat                                 the same
--
-- Numbers of steps and events are compared as texts or are far below 2^53.
local key, what, node, kept_ms = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local function text(number) return string.format('%.0f', number) end
local holder = redis.call('HGET', key, 'holder')

-- Whether this node's claim is not there any more: the hash is gone, or it is that of a process before this one, out of a
-- store that was set back. Processes of one server are numbered behind their last dot.
local function is_set_back()
  if not holder then return true end
  local server, number = string.match(node, '^(.*)%.(%d+)$')
  local other, before = string.match(holder, '^(.*)%.(%d+)$')
  return server ~= nil and server == other and tonumber(before) < tonumber(number)
end

local function forget(room)
  local floor, head = redis.call('HGET', key, 'f:' .. room), redis.call('HGET', key, 'h:' .. room)
  if not head then return end
  for offset = tonumber(floor) + 1, tonumber(head) do
    redis.call('HDEL', key, 'e:' .. room .. ':' .. text(offset))
  end
  redis.call('HDEL', key, 'c:' .. room, 's:' .. room, 'f:' .. room, 'h:' .. room)
  redis.call('HINCRBY', key, 'n', -1)
end

if what == 'hold' then
  local is_again = ARGV[4] == '1'
  if is_again and holder ~= node and not is_set_back() then return 'lost' end
  local all = (is_again or not holder) and {} or redis.call('HGETALL', key)
  redis.call('HSET', key, 'holder', node)
  redis.call('PEXPIRE', key, kept_ms)
  return all
end

if holder ~= node then
  if not is_set_back() then return 'lost' end
  redis.call('HSET', key, 'holder', node)
  redis.call('PEXPIRE', key, kept_ms)
  return 'anew'
end
redis.call('PEXPIRE', key, kept_ms)
if what == 'forget' then
  forget(ARGV[4])
  return 'kept'
end
if what ~= 'keep' then return 'kept' end

local room, after, seq, record = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local floor, head, rooms_max, offset = ARGV[8], ARGV[9], tonumber(ARGV[10]), tonumber(ARGV[11])
local before = redis.call('HGET', key, 's:' .. room)
if after ~= '' and before ~= after then return 'wanted' end
if after == '' then
  if before then
    forget(room)
  elseif tonumber(redis.call('HGET', key, 'n') or 0) >= rooms_max then
    return 'too_many'
  end
  redis.call('HINCRBY', key, 'n', 1)
else
  for gone = tonumber(redis.call('HGET', key, 'f:' .. room)) + 1, tonumber(floor) do
    redis.call('HDEL', key, 'e:' .. room .. ':' .. text(gone))
  end
end
redis.call('HSET', key, 'c:' .. room, record, 's:' .. room, seq, 'f:' .. room, floor, 'h:' .. room, head)
for i = 12, #ARGV do
  redis.call('HSET', key, 'e:' .. room .. ':' .. text(offset + i - 12), ARGV[i])
end
return 'kept'
