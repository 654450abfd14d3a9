-- Forget a thread that has no runs (any more): its runs and checkpoints are removed before it.
-- KEYS 1 thread  2 threads  3 thread's runs  4 threads with a time to live  5 thread's log  6 thread's results
-- ARGV 1 thread id
-- Returns 1, or 0 when it has runs: one was accepted in the meantime. Deleting it again does nothing.
--@include tenant
--@include label
if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
local tenant = redis.call('HGET', KEYS[1], 'tenant')
redis.call('ZREM', listing_for(KEYS[2], tenant), ARGV[1])
label(KEYS[1], tenant, ARGV[1], '')
redis.call('DEL', KEYS[1], KEYS[5], KEYS[6])
redis.call('ZREM', KEYS[4], ARGV[1])
return 1
