-- Give the nodes of a superstep to other workers, as branches. Nobody waits: the last branch to end wakes the run.
-- KEYS 1 run  2 leases  3 waiting  4 branches  5 cuts
-- ARGV 1 run id  2 token  3 ms at which some of them are cut off, or '', then for each branch: its name, its queue,
--      its tasks as JSON
-- Returns 'dispatched', or 'cancelling' when its end was asked for in the meantime (then nothing was changed).
-- In `branches`: <name> the token of its lease ('' nobody, 'done'), <name>:queue, <name>:tasks, <name>:result; `left`.
--@include clock
--@include fence
--@include hash
--@include release
local run = open_run(KEYS[1])
if run.holds.lease ~= ARGV[2] then return run.holds.released == ARGV[2] and 'dispatched' or lease_lost() end
if run.holds.cancel then return 'cancelling' end
local at = now_ms()
redis.call('DEL', KEYS[4])
local left = 0
for i = 4, #ARGV, 3 do
  redis.call('HSET', KEYS[4], ARGV[i], '', ARGV[i] .. ':queue', ARGV[i + 1], ARGV[i] .. ':tasks', ARGV[i + 2])
  redis.call('ZADD', KEYS[3], at, ARGV[1] .. '/' .. ARGV[i])
  left = left + 1
end
redis.call('HSET', KEYS[4], 'left', left)
if ARGV[3] ~= '' then redis.call('ZADD', KEYS[5], ARGV[3], ARGV[1]) end
release(run, KEYS[2], ARGV[1], ARGV[2], 'dispatched', at)
write_hash(run)
return 'dispatched'
