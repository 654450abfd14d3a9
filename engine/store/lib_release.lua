-- release(...): let go of a run's lease. 'released' keeps the token, so that a repeated script knows its own work;
-- 'came_from' tells the next slice how the last one ended.
local function release(run, leases, run_id, token, phase, at)
  redis.call('HSET', run, 'phase', phase, 'updated_at', at, 'released', token, 'came_from', phase)
  redis.call('HDEL', run, 'lease', 'owner', 'events:lease:' .. token,
    'records:lease:' .. token)
  redis.call('HINCRBY', run, 'slices', 1)
  redis.call('ZREM', leases, run_id)
end
-- already_released(run, token): whether this very caller did so before and its reply was lost.
local function already_released(run, token)
  return redis.call('HGET', run, 'released') == token
end
