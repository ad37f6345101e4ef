-- All records of some kinds, of one moment, a list for each kind, or one record of one kind. Writes nothing.
-- KEYS: what all keys begin with. ARGV: the kinds between commas, then what the reader knows, as in batch.lua: history, commits, writer,
-- number of a stored batch and its version; then the key, if one record is asked for.
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
local records = {}
if ARGV[7] then
  local value = redis.call('HGET', base .. 'kind:' .. ARGV[1], ARGV[7])
  records[1] = value and {ARGV[7], value} or {}
else
  for kind in string.gmatch(ARGV[1], '[^,]+') do
    records[#records + 1] = redis.call('HGETALL', base .. 'kind:' .. kind)
  end
end
return {'loaded', history, commits, records}
