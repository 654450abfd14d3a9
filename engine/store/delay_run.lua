-- Let a run wait for a time, without a worker: its next attempt is not due yet.
-- KEYS 1 run  2 leases  3 due
-- ARGV 1 run id  2 token  3 ms to wait
-- Returns 'due', or 'cancelling' when its end was asked for in the meantime (then nothing was changed).
--@include clock
--@include fence
--@include release
if not held(KEYS[1], 'lease', ARGV[2]) then
  return already_released(KEYS[1], ARGV[2]) and 'due' or lease_lost()
end
if redis.call('HEXISTS', KEYS[1], 'cancel') == 1 then return 'cancelling' end
local at = now_ms()
release(KEYS[1], KEYS[2], ARGV[1], ARGV[2], 'due', at)
redis.call('HSET', KEYS[1], 'due_at', at + tonumber(ARGV[3]))
redis.call('ZADD', KEYS[3], at + tonumber(ARGV[3]), ARGV[1])
return 'due'
