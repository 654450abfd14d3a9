-- Let a branch wait for room, without a worker; its siblings go on.
-- KEYS 1 run  2 branches  3 leases  4 waiting  5 due
-- ARGV 1 run id  2 branch  3 token  4 ms to wait at most  5 what it waits for, as JSON
-- Returns '' when it is parked; its queue when room was made in the meantime, for a wake-up.
--@include clock
--@include fence
local name, member = ARGV[2], ARGV[1] .. '/' .. ARGV[2]
if not held(KEYS[2], name, ARGV[3]) then
  if redis.call('HGET', KEYS[2], name .. ':returned') ~= ARGV[3] then return lease_lost() end
  return redis.call('ZSCORE', KEYS[4], member) and redis.call('HGET', KEYS[2], name .. ':queue') or ''
end
local at = now_ms()
redis.call('HSET', KEYS[2], name, '', name .. ':returned', ARGV[3])
redis.call('HSET', KEYS[1], 'parked:' .. name, ARGV[5])
redis.call('ZREM', KEYS[3], member)
if redis.call('HDEL', KEYS[2], name .. ':unparked') == 1 then
  redis.call('ZADD', KEYS[4], at, member)
  return redis.call('HGET', KEYS[2], name .. ':queue')
end
redis.call('ZADD', KEYS[5], at + tonumber(ARGV[4]), member)
return ''
