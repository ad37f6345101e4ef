-- Stores one batch: all of it or nothing, once however often it is sent.
-- KEYS: what all keys begin with.
-- ARGV: writer, number of the batch, the history that the writer knows ('' for none) and its last commit, the writer's
--       last stored batch ('' for none) and its version, a name for a new history, then the steps: P kind key expected
--       bytes, D kind key expected, C kind key expected. Expected: * anything, - absent, or a version.
-- Under the base: `meta` has `history` and `commits`; `kind:<kind>` has version, newline, bytes by key; `writer:<writer>`
-- has the version of each of the last batches by number.
local base, writer, number = KEYS[1], ARGV[1], ARGV[2]
local known, known_commits, mark, mark_version = ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local meta, mine = base .. 'meta', base .. 'writer:' .. writer
local found = redis.call('HMGET', meta, 'history', 'commits')
local history, commits = found[1] or '', tonumber(found[2] or '0')

if known ~= '' and history ~= known then
  return {'rewound', history == '' and 'it is empty' or 'it is another one'}
end
if commits < known_commits then
  return {'rewound', 'it has ' .. commits .. ' commits and had ' .. known_commits}
end
if mark ~= '' and redis.call('HGET', mine, mark) ~= mark_version then
  return {'rewound', 'commit ' .. mark_version .. ' is gone or another one'}
end

local done = redis.call('HGET', mine, number)
if done then
  return {'stored', history, tonumber(done)}
end

local steps, at = {}, 8
while at <= #ARGV do
  local step = {what = ARGV[at], hash = base .. 'kind:' .. ARGV[at + 1], key = ARGV[at + 2], expected = ARGV[at + 3]}
  if step.what == 'P' then
    step.bytes = ARGV[at + 4]
    at = at + 5
  else
    at = at + 4
  end
  steps[#steps + 1] = step
end

for index, step in ipairs(steps) do
  if step.expected ~= '*' then
    local value = redis.call('HGET', step.hash, step.key)
    local version = value and string.match(value, '^%d+') or '-'
    if version ~= step.expected then
      return {'conflict', index, version}
    end
  end
end

commits = commits + 1
local version = string.format('%.0f', commits)
if history == '' then
  history = ARGV[7]
  redis.call('HSET', meta, 'history', history)
end
redis.call('HSET', meta, 'commits', version)
for _, step in ipairs(steps) do
  if step.what == 'P' then
    redis.call('HSET', step.hash, step.key, version .. '\n' .. step.bytes)
  elseif step.what == 'D' then
    redis.call('HDEL', step.hash, step.key)
  end
end
redis.call('HSET', mine, number, version)
redis.call('HDEL', mine, string.format('%.0f', tonumber(number) - 256))
redis.call('PEXPIRE', mine, 7200000)
return {'stored', history, commits}
