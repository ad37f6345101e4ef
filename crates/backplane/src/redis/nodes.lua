-- Who is there. KEYS[1]: sorted set, node -> when it was last heard of. ARGV: `beat`, `list` or `leave`, node, dead_ms.
-- Answers `list` with all other nodes that are there.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local what, node, dead_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
if what == 'leave' then
  redis.call('ZREM', KEYS[1], node)
  return {}
end
redis.call('ZADD', KEYS[1], string.format('%.0f', now), node)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - 10 * dead_ms))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.max(20 * dead_ms, 60000)))
if what ~= 'list' then return {} end
local peers = {}
for _, peer in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], string.format('%.0f', now - dead_ms), '+inf')) do
  if peer ~= node then peers[#peers + 1] = peer end
end
return peers
