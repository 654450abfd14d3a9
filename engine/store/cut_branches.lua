-- End the branches of fan-outs whose rest has had its time: whoever has one in hand is fenced off and told.
-- KEYS 1 cuts  2 leases  3 waiting
-- ARGV 1 prefix of run keys  2 channel on which workers listen  3 most runs to look at
-- Returns {run id, queue, ...} of what is to be woken: runs that have no branch left.
--@include clock
local at = now_ms()
local woken = {}
for _, run_id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', at, 'LIMIT', 0, ARGV[3])) do
  local run = ARGV[1] .. run_id
  local branches = run .. ':branches'
  redis.call('ZREM', KEYS[1], run_id)
  if redis.call('HGET', run, 'phase') == 'dispatched' then
    local following
    for _, name in ipairs(redis.call('HKEYS', branches)) do
      local token = redis.call('HGET', branches, name)
      if not string.find(name, ':', 1, true) and name ~= 'left' and token ~= 'done' then
        local fanout = cjson.decode(redis.call('HGET', branches, name .. ':tasks')).fanout
        local ends = tonumber(redis.call('HGET', run, 'cut:' .. fanout) or '') or math.huge
        if ends <= at then
          local member = run_id .. '/' .. name
          redis.call('HSET', branches, name, 'done', name .. ':by', 'cut', name .. ':result', '')
          redis.call('HINCRBY', branches, 'left', -1)
          redis.call('ZREM', KEYS[2], member)
          redis.call('ZREM', KEYS[3], member)
          if token ~= '' then redis.call('PUBLISH', ARGV[2], member .. ' ' .. token) end
        elseif ends ~= math.huge and (not following or ends < following) then following = ends end
      end
    end
    if following then redis.call('ZADD', KEYS[1], following, run_id) end
    if redis.call('HGET', branches, 'left') == '0' then
      redis.call('HSET', run, 'phase', 'waiting', 'updated_at', at)
      redis.call('ZADD', KEYS[3], at, run_id)
      woken[#woken + 1] = run_id
      woken[#woken + 1] = redis.call('HGET', run, 'queue')
    end
  end
end
return woken
