-- Wake a parked run, or a parked branch, because there is room for it. One that is about to park is told not to.
-- KEYS 1 run  2 branches  3 due  4 waiting
-- ARGV 1 run id  2 branch or ''
-- Returns {1 when it will come for its room else 0, queue for a wake-up or ''}.
--@include clock
--@include line
local at = now_ms()
local phase = redis.call('HGET', KEYS[1], 'phase')
local name, member = ARGV[2], ARGV[1]
if name == '' then
  if phase == 'parked' then
    redis.call('ZREM', KEYS[3], member)
    redis.call('HSET', KEYS[1], 'phase', 'waiting', 'updated_at', at)
    redis.call('ZADD', KEYS[4], at, member)
    join_line(KEYS[1], member, 0)
    return {1, redis.call('HGET', KEYS[1], 'queue')}
  end
  if phase == 'leased' then redis.call('HSET', KEYS[1], 'unparked', 1) end
  return {(phase == 'leased' or phase == 'waiting') and 1 or 0, ''}
end
local lease = phase == 'dispatched' and redis.call('HGET', KEYS[2], name)
if not lease or lease == 'done' then return {0, ''} end
member = ARGV[1] .. '/' .. name
if lease ~= '' then redis.call('HSET', KEYS[2], name .. ':unparked', 1)
elseif redis.call('ZREM', KEYS[3], member) == 1 then
  redis.call('ZADD', KEYS[4], at, member)
  return {1, redis.call('HGET', KEYS[2], name .. ':queue')}
end
return {1, ''}
