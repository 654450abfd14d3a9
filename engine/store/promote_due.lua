-- Move runs whose time has come on: to a worker when their thread is free or theirs, else behind the run that has it.
-- Parked branches likewise, to a worker.
-- KEYS 1 due  2 waiting
-- ARGV 1 prefix of run keys  2 prefix of thread keys  3 most runs to promote
-- Returns {member, queue, ...} of what is to be woken.
--@include clock
--@include member
--@include line
local at = now_ms()
local woken = {}
for _, run_id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', at, 'LIMIT', 0, ARGV[3])) do
  local run, branch, branches = keys_of(run_id, ARGV[1])
  redis.call('ZREM', KEYS[1], run_id)
  local state = redis.call('HMGET', run, 'phase', 'thread_id', 'queue')
  if branch then
    if state[1] == 'dispatched' and redis.call('HGET', branches, branch) == '' then
      redis.call('ZADD', KEYS[2], at, run_id)
      woken[#woken + 1] = run_id
      woken[#woken + 1] = queue_of(run_id, ARGV[1])
    end
  elseif state[1] == 'due' or state[1] == 'parked' then
    local thread = ARGV[2] .. state[2]
    local active = redis.call('HGET', thread, 'active')
    if active ~= run_id then redis.call('HINCRBY', thread, 'delayed', -1) end
    if active and active ~= run_id then
      redis.call('HSET', run, 'phase', 'queued', 'updated_at', at)
      redis.call('ZADD', thread .. ':queue', redis.call('HINCRBY', thread, 'arrivals', 1), run_id)
    else
      redis.call('HSET', thread, 'active', run_id)
      redis.call('HSET', run, 'phase', 'waiting', 'updated_at', at)
      redis.call('ZADD', KEYS[2], at, run_id)
      join_line(run, run_id, at)
      woken[#woken + 1] = run_id
      woken[#woken + 1] = state[3]
    end
  end
end
return woken
