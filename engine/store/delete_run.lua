-- Forget a run that is over: its record, its events, its place in every index; its thread goes on to the next run.
-- KEYS 1 run  2 thread  3 thread's runs  4 thread's queue  5 waiting  6 ended  7 events  8 branches  9 leases  10 due
--      11 roll-backs  12 deadlines  13 dead letters  14 attempts
--      15 effects
-- ARGV 1 run id  2 prefix of run keys  3 '1' when its checkpoints were rolled back with it
-- Returns {next run id, its queue} or {}. Deleting it again does nothing.
-- A worker that still has the run in hand loses its lease with the record.
--@include clock
--@include thread
local at = now_ms()
if redis.call('HGET', KEYS[1], 'phase') == 'due' and redis.call('HGET', KEYS[2], 'active') ~= ARGV[1] then
  redis.call('HINCRBY', KEYS[2], 'delayed', -1)
end
redis.call('DEL', KEYS[1], KEYS[8], KEYS[14], KEYS[15])
redis.call('XADD', KEYS[7], '*', 'e', 'end', 'd', '{"status":"interrupted"}')
redis.call('PEXPIRE', KEYS[7], 1000)
redis.call('PUBLISH', KEYS[7], 'end')
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('ZREM', KEYS[6], ARGV[1])
redis.call('ZREM', KEYS[9], ARGV[1])
redis.call('ZREM', KEYS[10], ARGV[1])
redis.call('ZREM', KEYS[11], ARGV[1])
redis.call('ZREM', KEYS[12], ARGV[1])
redis.call('ZREM', KEYS[13], ARGV[1])
if ARGV[3] == '1' and redis.call('HGET', KEYS[2], 'active') == ARGV[1] then
  redis.call('HSET', KEYS[2], 'rest', 'idle', 'updated_at', at)
end
return admit_next(KEYS[2], KEYS[4], KEYS[5], ARGV[2], ARGV[1], at)
