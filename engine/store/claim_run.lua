-- Take the lease of a run that waits for a worker: of the one whose wake-up this is, or of one whose turn it is rather.
-- KEYS 1 run  2 leases  3 waiting  4 deadlines
-- ARGV 1 run id  2 owner  3 nonce (one for each delivery of a wake-up, so that a lost reply can be asked for again)
--      4 length of the lease in ms  5 prefix of run keys
-- Returns {ms now, the run as a flat hash, its branches as a flat hash, ms of the wake-up, 1 when its thread holds a
-- checkpoint, ms since when the run waits} or nil: somebody else has it, or it is over. The ms are 0 when it cannot be told which wake-up led here: of a run that
-- was woken again there may be two, and the older would be taken for the newer.
-- A wake-up says that there is something to do. Tenants take turns, so that one with ten thousand runs does not hold up
-- another's first; of one tenant's runs the first in its line goes. The wake-up of a run that was taken for another's
-- (`jumped`) is spent on the next whose turn it is.
--@include clock
--@include line
local at = now_ms()
local function state_of(run)
  local names = {'phase', 'nonce', 'lease', 'rewoken', 'queue', 'tenant', 'priority', 'gave', 'thread_id', 'token',
    'started_at', 'timeout_ms', 'deadline_at'}
  local state = {}
  for i, value in ipairs(redis.call('HMGET', run, unpack(names))) do state[names[i]] = value end
  return state
end
local state = state_of(KEYS[1])
local phase, queue, tenant = state.phase, state.queue, state.tenant or ''
if not phase then return false end
local since = redis.call('ZSCORE', KEYS[3], ARGV[1])
local woken = not state.rewoken and since
local lines = lines_of(KEYS[1], queue)
local lined = redis.call('EXISTS', lines) == 1
-- first_of(tenant): the first in a line that still waits, and its place.
local function first_of(other)
  local line = line_of(KEYS[1], queue, other)
  while true do
    local first = redis.call('ZRANGE', line, 0, 0, 'WITHSCORES')
    if #first == 0 then return end
    if redis.call('HGET', ARGV[5] .. first[1], 'phase') == 'waiting' then return first[1], tonumber(first[2]) end
    redis.call('ZREM', line, first[1])
  end
end
-- choose(): whose turn it is, and of which tenant.
local function choose()
  local place = phase == 'waiting' and place_of(state.priority, since or at)
  for _, other in ipairs(redis.call('ZRANGE', lines, 0, 9)) do
    local first, before = first_of(other)
    if place and other == tenant and not (first and before < place) then return ARGV[1], other end
    if first then return first, other end
    redis.call('ZREM', lines, other)
  end
  return place and ARGV[1], tenant
end
local run_id = ARGV[1]
local gave = state.gave and string.match(state.gave, '^' .. ARGV[3] .. ' (.+)$')
if gave then run_id = gave
elseif not (state.lease and state.nonce == ARGV[3]) then
  local whose = tenant
  if phase == 'waiting' or redis.call('HDEL', KEYS[1], 'jumped') == 1 then
    run_id = phase == 'waiting' and ARGV[1]
    if lined then run_id, whose = choose() end
  else return false end
  if not run_id then return false end
  if run_id ~= ARGV[1] then
    redis.call('HSET', KEYS[1], 'gave', ARGV[3] .. ' ' .. run_id)
    redis.call('HSET', ARGV[5] .. run_id, 'jumped', 1)
    if phase == 'waiting' then
      redis.call('ZADD', line_of(KEYS[1], queue, tenant), 'NX', place_of(state.priority, since or at), ARGV[1])
      redis.call('ZADD', lines, 'NX', at, tenant)
    end
  end
  if lined then
    redis.call('ZREM', line_of(KEYS[1], queue, whose), run_id)
    local last = redis.call('ZREVRANGE', lines, 0, 0, 'WITHSCORES')[2]  -- turns may be taken faster than the clock ticks
    redis.call('ZADD', lines, 'XX', math.max(at, tonumber(last or '0') + 0.01), whose)
  end
end
local run = ARGV[5] .. run_id
if run_id ~= ARGV[1] then
  state, since = state_of(run), redis.call('ZSCORE', KEYS[3], run_id)
end
if state.nonce ~= ARGV[3] or not state.lease then
  if state.phase ~= 'waiting' then return false end
  local token = tonumber(state.token or '0') + 1
  local words = {'phase', 'leased', 'lease', token, 'token', token, 'owner', ARGV[2], 'nonce', ARGV[3], 'updated_at', at}
  if not state.started_at then words[#words + 1], words[#words + 2] = 'started_at', at end
  if state.timeout_ms and not state.deadline_at then
    local ends = at + tonumber(state.timeout_ms)
    words[#words + 1], words[#words + 2] = 'deadline_at', ends
    redis.call('ZADD', KEYS[4], ends, run_id)
  end
  redis.call('HSET', run, unpack(words))
  redis.call('ZADD', KEYS[2], at + tonumber(ARGV[4]), run_id)
  redis.call('ZREM', KEYS[3], run_id)
end
-- Where the checkpoints of its thread are listed is known only here; it has the partition's hash tag.
local namespaces = string.match(run, '^(.-}):') .. ':thread:' .. state.thread_id .. ':namespaces'
return {at, redis.call('HGETALL', run), redis.call('HGETALL', run .. ':branches'), tonumber(woken or 0),
  redis.call('EXISTS', namespaces), tonumber(since or 0)}
