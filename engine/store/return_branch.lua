-- Give a branch back unfinished (its worker is asked to stop): another worker takes it.
-- KEYS 1 run  2 branches  3 leases  4 waiting
-- ARGV 1 run id  2 branch  3 token
-- Returns the branch's queue; the same again when it was returned by this token before.
--@include clock
--@include fence
if not held(KEYS[2], ARGV[2], ARGV[3]) then
  if redis.call('HGET', KEYS[2], ARGV[2] .. ':returned') ~= ARGV[3] then return lease_lost() end
  return redis.call('HGET', KEYS[2], ARGV[2] .. ':queue')
end
local member = ARGV[1] .. '/' .. ARGV[2]
redis.call('HSET', KEYS[2], ARGV[2], '', ARGV[2] .. ':returned', ARGV[3])
redis.call('ZREM', KEYS[3], member)
redis.call('ZADD', KEYS[4], now_ms(), member)
return redis.call('HGET', KEYS[2], ARGV[2] .. ':queue')
