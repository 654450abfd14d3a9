-- Take expired leases back: their workers died, or are cut off and will find that they hold nothing.
-- KEYS 1 leases  2 waiting
-- ARGV 1 prefix of run keys  2 most members to reap
-- The slice that ends so is counted as all others are: 'lost_slice' is its number, 'lost_from' when it began, in ms,
-- 'lost_worker' who had it.
-- Returns {member, queue, ...} of what is to be woken; members whose run is gone are dropped.
--@include clock
--@include member
--@include death
local at = now_ms()
local woken = {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', at, 'LIMIT', 0, ARGV[2])) do
  local run, branch, branches = keys_of(member, ARGV[1])
  local held
  if branch then held = (redis.call('HGET', branches, branch) or 'done') ~= 'done'
  else held = redis.call('HGET', run, 'lease') end
  redis.call('ZREM', KEYS[1], member)
  if held then
    if branch then
      redis.call('HSET', branches, branch, '')
      count_branch_death(run, branches, branch)
    else
      count_death(run, run, 'lease', 'crashes')
      local number = redis.call('HINCRBY', run, 'slices', 1)
      redis.call('HSET', run, 'lost_slice', number, 'lost_from', redis.call('HGET', run, 'updated_at'),
        'lost_worker', redis.call('HGET', run, 'owner') or '', 'phase', 'waiting', 'updated_at', at, 'came_from', 'crash')
      redis.call('HDEL', run, 'lease', 'owner', 'saved:lease:' .. held)
    end
    redis.call('ZADD', KEYS[2], at, member)
    woken[#woken + 1] = member
    woken[#woken + 1] = queue_of(member, ARGV[1]) or ''
  end
end
return woken
