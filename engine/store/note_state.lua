-- Show a state that a client has written on the thread's record. While a run is active its end will do that.
-- KEYS 1 thread  2 threads  3 thread's results
-- ARGV 1 thread id  2 values (packed)  3 graph id  4 assistant id: of the graph that read them, if none ran before
--      5 the thread's status now  6 what its tasks ask (JSON)  7 ms that events are kept
-- Returns 1, or 0 when there is no such thread or it has an active run.
--@include clock
--@include tenant
--@include hash
--@include values
local thread = open_hash(KEYS[1], 'thread_id', 'active', 'tenant', 'graph_id', 'values_of', 'edits')
if not thread.holds.thread_id or thread.holds.active then return 0 end
local at = now_ms()
show_values(thread, KEYS[3], ARGV[2], {run = ''}, at, tonumber(ARGV[7]))
set_in(thread, 'rest', ARGV[5])
set_in(thread, 'interrupts', ARGV[6])
set_in(thread, 'error', '')
set_in(thread, 'updated_at', at)
if (thread.holds.graph_id or '') == '' then
  set_in(thread, 'graph_id', ARGV[3])
  set_in(thread, 'assistant_id', ARGV[4])
end
write_hash(thread)
redis.call('ZADD', listing_for(KEYS[2], thread.holds.tenant), at, ARGV[1])
return 1
