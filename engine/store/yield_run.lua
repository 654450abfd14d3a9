-- Give a run back at a superstep edge: another worker, or this one later, goes on with it.
-- KEYS 1 run  2 leases  3 waiting
-- ARGV 1 run id  2 token
-- Returns 'waiting', or 'cancelling' when its end was asked for in the meantime (then nothing was changed).
--@include clock
--@include fence
--@include hash
--@include release
--@include line
local run = open_run(KEYS[1])
if run.holds.lease ~= ARGV[2] then return run.holds.released == ARGV[2] and 'waiting' or lease_lost() end
if run.holds.cancel then return 'cancelling' end
local at = now_ms()
release(run, KEYS[2], ARGV[1], ARGV[2], 'waiting', at)
write_hash(run)
redis.call('ZADD', KEYS[3], at, ARGV[1])
join_line(KEYS[1], ARGV[1], at)
return 'waiting'
