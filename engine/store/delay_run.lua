-- Let a run wait for a time, without a worker: its next attempt is not due yet.
-- KEYS 1 run  2 leases  3 due
-- ARGV 1 run id  2 token  3 ms to wait
-- Returns 'due', or 'cancelling' when its end was asked for in the meantime (then nothing was changed).
--@include clock
--@include fence
--@include hash
--@include release
local run = open_run(KEYS[1])
if run.holds.lease ~= ARGV[2] then return run.holds.released == ARGV[2] and 'due' or lease_lost() end
if run.holds.cancel then return 'cancelling' end
local at = now_ms()
release(run, KEYS[2], ARGV[1], ARGV[2], 'due', at)
set_in(run, 'due_at', at + tonumber(ARGV[3]))
write_hash(run)
redis.call('ZADD', KEYS[3], at + tonumber(ARGV[3]), ARGV[1])
return 'due'
