-- Let a run wait for room, without a worker: it is woken when there is some, or when so much time has passed.
-- KEYS 1 run  2 leases  3 due  4 waiting
-- ARGV 1 run id  2 token  3 ms to wait at most  4 what it waits for, as JSON
-- Returns 'parked'; 'waiting' when room was made in the meantime (then it waits for a worker); 'cancelling' when its end
-- was asked for in the meantime (then nothing was changed).
--@include clock
--@include fence
--@include release
if not held(KEYS[1], 'lease', ARGV[2]) then
  if not already_released(KEYS[1], ARGV[2]) then return lease_lost() end
  return redis.call('HGET', KEYS[1], 'phase') == 'waiting' and 'waiting' or 'parked'
end
if redis.call('HEXISTS', KEYS[1], 'cancel') == 1 then return 'cancelling' end
local at = now_ms()
release(KEYS[1], KEYS[2], ARGV[1], ARGV[2], 'parked', at)
redis.call('HSET', KEYS[1], 'parked', ARGV[4])
if redis.call('HDEL', KEYS[1], 'unparked') == 1 then
  redis.call('HSET', KEYS[1], 'phase', 'waiting')
  redis.call('ZADD', KEYS[4], at, ARGV[1])
  return 'waiting'
end
redis.call('HSET', KEYS[1], 'due_at', at + tonumber(ARGV[3]))
redis.call('ZADD', KEYS[3], at + tonumber(ARGV[3]), ARGV[1])
return 'parked'
