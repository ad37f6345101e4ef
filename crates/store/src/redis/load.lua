-- All records of a kind, of one moment. Writes nothing.
-- KEYS: what all keys begin with. ARGV: kind, then what the reader knows, as in batch.lua: history, commits, writer,
-- number of a stored batch and its version.
local base, known = KEYS[1], ARGV[2]
local found = redis.call('HMGET', base .. 'meta', 'history', 'commits')
local history, commits = found[1] or '', tonumber(found[2] or '0')
if known ~= '' and history ~= known then
  return {'rewound', history == '' and 'it is empty' or 'it is another one'}
end
if commits < tonumber(ARGV[3]) then
  return {'rewound', 'it has ' .. commits .. ' commits and had ' .. ARGV[3]}
end
if ARGV[5] ~= '' and redis.call('HGET', base .. 'writer:' .. ARGV[4], ARGV[5]) ~= ARGV[6] then
  return {'rewound', 'commit ' .. ARGV[6] .. ' is gone or another one'}
end
return {'loaded', history, commits, redis.call('HGETALL', base .. 'kind:' .. ARGV[1])}
