-- The rooms of one server that outlive its processes. Each call is one step.
--
-- KEYS[1]          hash: holder, and of each room c:<room> its record, s:<room> the number of its step, f:<room> up to where its
--                  events are gone
-- KEYS[1]:<room>   stream: the room's events, each under its offset
-- ARGV             what, node, kept_ms, then
--   hold     '1' if it was said before   'lost', or the names of all rooms; none if it was said before
--   read     room                        'none', 'anew', 'lost', or its record, floor and events
--   keep     room, after ('' for none), seq, record, floor, rooms_max, offset of the first event, events
--                                        'kept', 'wanted', 'too_many', 'anew' or 'lost'
--   forget   room                        'kept', 'anew' or 'lost'
--   beat     rooms that have been silent the same
--
-- Numbers of steps and events are compared as texts or are far below 2^53.
local key, what, node, kept_ms = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local function text(number) return string.format('%.0f', number) end
local function log(room) return key .. ':' .. room end
local holder = redis.call('HGET', key, 'holder')

-- Whether this node's claim is not there any more: the hash is gone, or it is that of a process before this one, out of a
-- store that was set back. Processes of one server are numbered behind their last dot.
local function is_set_back()
  if not holder then return true end
  local server, number = string.match(node, '^(.*)%.(%d+)$')
  local other, before = string.match(holder, '^(.*)%.(%d+)$')
  return server ~= nil and server == other and tonumber(before) < tonumber(number)
end

-- The hash says how long all rooms are kept, and is renewed at each beat. Events are renewed seldom, so they get a longer time.
local function renew(room) redis.call('PEXPIRE', log(room), text(2 * tonumber(kept_ms))) end

if what == 'hold' then
  local is_again = ARGV[4] == '1'
  if is_again and holder ~= node and not is_set_back() then return 'lost' end
  local names = {}
  if not is_again and holder then
    for _, field in ipairs(redis.call('HKEYS', key)) do
      if string.sub(field, 1, 2) == 's:' then names[#names + 1] = string.sub(field, 3) end
    end
  end
  redis.call('HSET', key, 'holder', node)
  redis.call('PEXPIRE', key, kept_ms)
  return names
end

if holder ~= node then
  if not is_set_back() then return 'lost' end
  redis.call('HSET', key, 'holder', node)
  redis.call('PEXPIRE', key, kept_ms)
  return 'anew'
end
redis.call('PEXPIRE', key, kept_ms)
if what == 'beat' then
  for i = 4, #ARGV do renew(ARGV[i]) end
  return 'kept'
end

local room = ARGV[4]
if what == 'read' then
  local record = redis.call('HGET', key, 'c:' .. room)
  if not record then return 'none' end
  renew(room)
  return { record, redis.call('HGET', key, 'f:' .. room), redis.call('XRANGE', log(room), '-', '+') }
end
if what == 'forget' then
  redis.call('HDEL', key, 'c:' .. room, 's:' .. room, 'f:' .. room)
  redis.call('DEL', log(room))
  return 'kept'
end

local after, seq, record, floor, rooms_max, offset =
  ARGV[5], ARGV[6], ARGV[7], ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10])
local before = redis.call('HGET', key, 's:' .. room)
if after ~= '' and before ~= after then return 'wanted' end
if after == '' then
  if not before and (redis.call('HLEN', key) - 1) / 3 >= rooms_max then return 'too_many' end
  redis.call('DEL', log(room))
end
for i = 11, #ARGV do
  redis.call('XADD', log(room), text(offset + i - 11) .. '-0', 'event', ARGV[i])
end
redis.call('XTRIM', log(room), 'MINID', text(tonumber(floor) + 1) .. '-0')
redis.call('HSET', key, 'c:' .. room, record, 's:' .. room, seq, 'f:' .. room, floor)
renew(room)
return 'kept'
