-- One namespace: its History and its sessions. Handles all commands that a node has waiting, in order and as one step.
--
-- KEYS[1]  what all keys of the namespace begin with, with their hash tag
-- ARGV     node, dead_ms, history_bytes_max, own_bytes_max, then operations: a letter and its arguments
-- Answer   the epoch ('' for none), what went wrong ('' for nothing), then an answer for each operation that has one
--
-- <base>meta      hash    epoch (hexadecimal text), head, bytes, retained_ms, pulse_at, silent_until,
--                         resumed_at
-- <base>log       stream  id <offset>-0; h: 'epoch at_ms origin seq', e: the event
-- <base>seen:<n>  string  'epoch seq' of the last event that was taken of node n
-- <base>beat      hash    node -> when it was last heard of
-- <base>s:<pid>   hash    a session
-- <base>o:<pid>   stream  its own events: id <offset>-<n>; q: seq, e: the event
--
-- Epochs are texts and seqs are padded to one length, because a number here is exact up to 2^53 only.
local base, node = KEYS[1], ARGV[1]
local dead_ms, history_bytes_max, own_bytes_max = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local k_meta, k_log, k_seen, k_beat = base .. 'meta', base .. 'log', base .. 'seen:' .. node, base .. 'beat'

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local function text(number) return string.format('%.0f', number) end

local meta = redis.call('HMGET', k_meta, 'epoch', 'head', 'bytes', 'retained_ms', 'pulse_at', 'resumed_at',
  'silent_until')
local epoch = meta[1]
local head, bytes = tonumber(meta[2] or 0), tonumber(meta[3] or 0)
local retained_ms = tonumber(meta[4] or 0)
local pulse_at, resumed_at, silent_until = tonumber(meta[5] or 0), tonumber(meta[6] or 0), tonumber(meta[7] or 0)
local is_changed, seen = false, nil

local function floor()
  local first = redis.call('XRANGE', k_log, '-', '+', 'COUNT', 1)[1]
  return first and tonumber(string.match(first[1], '^%d+')) - 1 or head
end

-- What this node's events up to here have been taken; '' for none in this epoch.
local function seen_of()
  if not seen then
    local of, seq = string.match(redis.call('GET', k_seen) or '', '^(%x+) (%d+)$')
    seen = of == epoch and seq or ''
  end
  return seen
end

local function lasting_ms() return text(math.max(3 * retained_ms, 3600000)) end

-- Lets go what is too old or too much. A bounded piece of work; the next call goes on.
local function trim()
  for _ = 1, 16 do
    local upto, is_done = nil, false
    local oldest = redis.call('XRANGE', k_log, '-', '+', 'COUNT', 64)
    for _, entry in ipairs(oldest) do
      local at = tonumber(string.match(entry[2][2], '^%x+ (%d+)'))
      if at >= now - retained_ms and bytes <= history_bytes_max then
        is_done = true
        break
      end
      bytes = math.max(0, bytes - #entry[2][4] - 64)
      upto = tonumber(string.match(entry[1], '^%d+'))
      is_changed = true
    end
    if upto then redis.call('XTRIM', k_log, 'MINID', '=', text(upto + 1) .. '-0') end
    if is_done or #oldest < 64 then return end
  end
end

local function begin_anew(fresh)
  redis.call('DEL', k_log)
  epoch, head, bytes, seen, is_changed = fresh, 0, 0, nil, true
end

-- This node is there. After a silence of all nodes that the store itself was the cause of, nobody counts as having been
-- away meanwhile.
local function beat(was_there_before)
  if now - pulse_at > dead_ms then silent_until = now end
  if was_there_before == '1' and now - silent_until < 10000 then resumed_at = math.max(resumed_at, silent_until) end
  pulse_at, is_changed = now, true
  redis.call('HSET', k_beat, node, text(now))
end

local function session_of(pid, generation)
  local key = base .. 's:' .. pid
  local held = redis.call('HMGET', key, 'g', 'w', 'se', 'so', 'sn', 'lo', 'ln', 'lq', 'ob', 'oe')
  if held[1] ~= generation then return nil, tonumber(held[1] or 0) end
  return { key = key, own = base .. 'o:' .. pid, window_ms = tonumber(held[2]), safe_epoch = held[3],
    safe_offset = tonumber(held[4]), safe_n = tonumber(held[5]), last_offset = tonumber(held[6]),
    last_n = tonumber(held[7]), last_seq = held[8], own_bytes = tonumber(held[9]), own_epoch = held[10] }
end

local function renew(key, window_ms)
  redis.call('PEXPIRE', key, text(2 * window_ms + 600000))
end

local function id(offset, n) return text(offset) .. '-' .. text(n) end

-- Lets go of the oldest own events until they are within their bytes.
local function evict(held)
  while held.own_bytes > own_bytes_max do
    local oldest = redis.call('XRANGE', held.own, '-', '+', 'COUNT', 1)[1]
    if not oldest then held.own_bytes = 0 return end
    held.own_bytes = math.max(0, held.own_bytes - #oldest[2][4] - 64)
    redis.call('XDEL', held.own, oldest[1])
    redis.call('HSET', held.key, 'ol', held.own_epoch .. '-' .. oldest[1])
  end
end

local ops = {}

-- known epoch and offset, retained_ms, a fresh epoch, mark's epoch, offset and header, was_there_before
ops.A = function(known_epoch, known_offset, retained, fresh, mark_epoch, mark_offset, mark_header, was_there_before)
  retained_ms = math.max(retained_ms, tonumber(retained))
  known_offset, mark_offset = tonumber(known_offset), tonumber(mark_offset)
  if not epoch then
    begin_anew(fresh)
  elseif known_epoch == epoch and known_offset > head then
    begin_anew(fresh)
  elseif mark_epoch == epoch and mark_offset > head then
    begin_anew(fresh)
  elseif mark_epoch == epoch and mark_offset > 0 then
    local there = redis.call('XRANGE', k_log, text(mark_offset), text(mark_offset))[1]
    if there and there[2][2] ~= mark_header then begin_anew(fresh) end
  end
  beat(was_there_before)
  local lowest, from = floor(), head
  -- It was here before without having heard of it, or knows another log: it is told all that there is.
  if known_epoch ~= epoch and (known_epoch ~= '' or seen_of() ~= '') then from = lowest end
  return { epoch, text(from), text(lowest) }
end

-- seq, event
ops.P = function(seq, event)
  if not epoch or seq <= seen_of() then return end
  local header = epoch .. ' ' .. text(now) .. ' ' .. node .. ' ' .. seq
  local added = redis.pcall('XADD', k_log, text(head + 1) .. '-0', 'h', header, 'e', event)
  if type(added) == 'table' and added.err then return nil, added.err end
  head, bytes, seen, is_changed = head + 1, bytes + #event + 64, seq, true
end

-- pid, generation, seq, event
ops.O = function(pid, generation, seq, event)
  local held = session_of(pid, generation)
  if not held or not epoch then return 0 end
  if held.own_epoch ~= epoch then
    redis.call('DEL', held.own)
    held.own_epoch, held.own_bytes, held.last_offset, held.last_n = epoch, 0, 0, 0
    if held.safe_epoch == epoch then held.last_offset, held.last_n = held.safe_offset, held.safe_n end
  elseif seq <= held.last_seq then
    for _, own in ipairs(redis.call('XRANGE', held.own, '-', '+')) do
      if own[2][2] == seq then return own[1] end
    end
  end
  local n = held.last_offset == head and held.last_n + 1 or 1
  local added = redis.pcall('XADD', held.own, id(head, n), 'q', seq, 'e', event)
  if type(added) == 'table' and added.err then return nil, added.err end
  if held.own_bytes == 0 then renew(held.own, held.window_ms) end
  held.own_bytes = held.own_bytes + #event + 64
  if held.own_bytes > own_bytes_max then evict(held) end
  redis.call('HSET', held.key, 'lo', text(head), 'ln', text(n), 'lq', seq, 'ob', text(held.own_bytes), 'oe', epoch)
  return id(head, n)
end

-- pid, generation, socket, groups, data, window_ms, safe epoch, offset, n, own_lost, how many own events, and of each
-- the id, the seq and the event: too many to be arguments. Where it was taken over meanwhile, the answer is the later
-- generation.
ops.S = function(at, last_at)
  local pid, generation, socket, groups, data, window_ms, se, so, sn, own_lost = unpack(ARGV, at + 1, at + 10)
  local key, own = base .. 's:' .. pid, base .. 'o:' .. pid
  local known = tonumber(redis.call('HGET', key, 'g') or 0)
  if known > tonumber(generation) then return known end
  local own_bytes, last, last_seq = 0, so .. '-' .. sn, ''
  redis.call('DEL', key, own)
  for each = at + 12, last_at, 3 do
    local added = redis.pcall('XADD', own, ARGV[each], 'q', ARGV[each + 1], 'e', ARGV[each + 2])
    if type(added) == 'table' and added.err then return nil, added.err end
    own_bytes, last = own_bytes + #ARGV[each + 2] + 64, ARGV[each]
    if ARGV[each + 1] > last_seq then last_seq = ARGV[each + 1] end
  end
  local lo, ln = string.match(last, '^(%d+)-(%d+)$')
  redis.call('HSET', key, 'g', generation, 'n', node, 's', socket, 'gr', groups, 'd', data, 'w', window_ms, 'se', se,
    'so', so, 'sn', sn, 'lo', lo, 'ln', ln, 'lq', last_seq, 'ob', text(own_bytes), 'oe', se)
  if own_lost ~= '' then redis.call('HSET', key, 'ol', own_lost) end
  renew(key, tonumber(window_ms))
  if own_bytes > 0 then renew(own, tonumber(window_ms)) end
  return 0
end

-- pid, generation, groups, data
ops.U = function(pid, generation, groups, data)
  local held, later = session_of(pid, generation)
  if held then
    redis.call('HSET', held.key, 'gr', groups, 'd', data)
    renew(held.key, held.window_ms)
  end
  return later or 0
end

-- pid, generation, safe epoch, offset, n
ops.T = function(pid, generation, se, so, sn)
  local held, later = session_of(pid, generation)
  if not held then return later end
  redis.call('HDEL', held.key, 'a')
  renew(held.key, held.window_ms)
  so, sn = tonumber(so), tonumber(sn)
  local is_other = se ~= held.safe_epoch
  if not is_other and (so < held.safe_offset or (so == held.safe_offset and sn <= held.safe_n)) then
    if held.own_bytes > 0 then renew(held.own, held.window_ms) end
    return 0
  end
  redis.call('HSET', held.key, 'se', se, 'so', text(so), 'sn', text(sn))
  if is_other and held.own_epoch ~= se then
    redis.call('DEL', held.own)
    redis.call('HSET', held.key, 'ob', '0', 'oe', se, 'lo', text(so), 'ln', text(sn))
  elseif held.own_bytes > 0 then
    for _, own in ipairs(redis.call('XRANGE', held.own, '-', id(so, sn))) do
      held.own_bytes = math.max(0, held.own_bytes - #own[2][4] - 64)
    end
    redis.call('XTRIM', held.own, 'MINID', '=', id(so, sn + 1))
    renew(held.own, held.window_ms)
    redis.call('HSET', held.key, 'ob', text(held.own_bytes))
  end
  if held.own_epoch == se and (so > held.last_offset or (so == held.last_offset and sn > held.last_n)) then
    redis.call('HSET', held.key, 'lo', text(so), 'ln', text(sn))
  end
  return 0
end

-- pid, generation
ops.W = function(pid, generation)
  local held, later = session_of(pid, generation)
  if held then redis.call('HSETNX', held.key, 'a', text(now)) end
  return later or 0
end

-- pid, generation
ops.C = function(pid, generation)
  local held, later = session_of(pid, generation)
  if held then redis.call('DEL', held.key, held.own) end
  return later or 0
end

-- pid, generation: keeps a session from running out while its node is there
ops.N = function(pid, generation)
  local held, later = session_of(pid, generation)
  if held then
    renew(held.key, held.window_ms)
    if held.own_bytes > 0 then renew(held.own, held.window_ms) end
  end
  return later or 0
end

-- pid
ops.K = function(pid)
  local key, own = base .. 's:' .. pid, base .. 'o:' .. pid
  local held = redis.call('HMGET', key, 'g', 'n', 's', 'gr', 'd', 'w', 'se', 'so', 'sn', 'ol', 'oe', 'a')
  if not held[1] then return { 'unknown_session', text(head) } end
  local away_at, window_ms = tonumber(held[12] or nil), tonumber(held[6])
  if not away_at and held[2] ~= node then
    local heard_at = tonumber(redis.call('HGET', k_beat, held[2]) or 0)
    if now - heard_at > dead_ms then away_at = heard_at end
    -- While the store was out nobody could be heard.
    if away_at and away_at > 0 then away_at = math.max(away_at, resumed_at) end
  end
  if away_at and now - away_at > 2 * window_ms then
    redis.call('DEL', key, own)
    return { 'unknown_session', text(head) }
  end
  if away_at and now - away_at > window_ms then return { 'window_over', text(head) } end
  if held[7] ~= epoch then return { 'rewound', text(head) } end
  local generation = text(tonumber(held[1]) + 1)
  -- Numbers of another node begin anew.
  redis.call('HSET', key, 'g', generation, 'n', node)
  if held[2] ~= node then redis.call('HSET', key, 'lq', '') end
  redis.call('HDEL', key, 'a')
  renew(key, window_ms)
  local events = {}
  if held[11] == epoch then events = redis.call('XRANGE', own, '(' .. held[8] .. '-' .. held[9], '+') end
  return { 'taken', text(head), generation, held[2], held[3], held[4], held[5], held[6], held[7], held[8], held[9],
    held[10] or '', events }
end

-- after, bytes_max
ops.R = function(after, bytes_max)
  local lowest, page, weight = floor(), {}, 0
  local from = math.max(tonumber(after), lowest)
  while #page < 4096 do
    local some = redis.call('XRANGE', k_log, '(' .. text(from) .. '-0', '+', 'COUNT', 32)
    for _, entry in ipairs(some) do
      weight = weight + #entry[2][4] + 64
      if #page > 0 and weight > tonumber(bytes_max) then return { text(lowest), text(head), page } end
      page[#page + 1] = entry
      from = tonumber(string.match(entry[1], '^%d+'))
    end
    if #some < 32 then break end
  end
  return { text(lowest), text(head), page }
end

-- was_there_before: once in a while, of every node that is attached
ops.B = function(was_there_before)
  if not epoch then return 0 end
  beat(was_there_before)
  trim()
  for _, key in ipairs({ k_meta, k_log, k_seen, k_beat }) do redis.call('PEXPIRE', key, lasting_ms()) end
  local beats = redis.call('HGETALL', k_beat)
  for at = 1, #beats, 2 do
    if now - tonumber(beats[at + 1]) > 3 * retained_ms then redis.call('HDEL', k_beat, beats[at]) end
  end
  return 0
end

local arity = { A = 8, P = 2, O = 4, U = 4, T = 5, W = 2, C = 2, N = 2, K = 1, R = 2, B = 1 }
local out, fault, at = {}, '', 5
while at <= #ARGV do
  local letter = ARGV[at]
  local count, answer, err = arity[letter], nil, nil
  if letter == 'S' then
    count = 11 + 3 * tonumber(ARGV[at + 11])
    answer, err = ops.S(at, at + count)
  else
    answer, err = ops[letter](unpack(ARGV, at + 1, at + count))
  end
  if err then
    fault = err
    break
  end
  if letter ~= 'P' then out[#out + 1] = answer end
  at = at + 1 + count
end
if bytes > history_bytes_max then trim() end
if is_changed then
  redis.call('HSET', k_meta, 'epoch', epoch, 'head', text(head), 'bytes', text(bytes), 'retained_ms', text(retained_ms),
    'pulse_at', text(pulse_at), 'resumed_at', text(resumed_at), 'silent_until', text(silent_until))
end
if seen and seen ~= '' then redis.call('SET', k_seen, epoch .. ' ' .. seen, 'PX', lasting_ms()) end
return { epoch or '', fault, out }
