-- Show a state that a client has written on the thread's record. While a run is active its end will do that.
-- KEYS 1 thread  2 threads  3 thread's results
-- ARGV 1 thread id  2 values (packed)  3 graph id  4 assistant id: of the graph that read them, if none ran before
--      5 the thread's status now  6 what its tasks ask (JSON)  7 ms that events are kept
-- Returns 1, or 0 when there is no such thread or it has an active run.
--@include clock
--@include tenant
--@include values
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('HEXISTS', KEYS[1], 'active') == 1 then return 0 end
local at = now_ms()
show_values(KEYS[1], KEYS[3], ARGV[2], {run = ''}, at, tonumber(ARGV[7]))
redis.call('HSET', KEYS[1], 'rest', ARGV[5], 'interrupts', ARGV[6], 'error', '', 'updated_at', at)
if (redis.call('HGET', KEYS[1], 'graph_id') or '') == '' then
  redis.call('HSET', KEYS[1], 'graph_id', ARGV[3], 'assistant_id', ARGV[4])
end
redis.call('ZADD', listing_of(KEYS[2], KEYS[1]), at, ARGV[1])
return 1
