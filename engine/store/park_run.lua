-- Let a run wait for room, without a worker: it is woken when there is some, or when so much time has passed.
-- KEYS 1 run  2 leases  3 due  4 waiting
-- ARGV 1 run id  2 token  3 ms to wait at most  4 what it waits for, as JSON
-- Returns 'parked'; 'waiting' when room was made in the meantime (then it waits for a worker); 'cancelling' when its end
-- was asked for in the meantime (then nothing was changed).
--@include clock
--@include fence
--@include hash
--@include release
local run = open_run(KEYS[1])
if run.holds.lease ~= ARGV[2] then
  if run.holds.released ~= ARGV[2] then return lease_lost() end
  return run.holds.phase == 'waiting' and 'waiting' or 'parked'
end
if run.holds.cancel then return 'cancelling' end
local at = now_ms()
release(run, KEYS[2], ARGV[1], ARGV[2], 'parked', at)
set_in(run, 'parked', ARGV[4])
if redis.call('HDEL', KEYS[1], 'unparked') == 1 then
  set_in(run, 'phase', 'waiting')
  redis.call('ZADD', KEYS[4], at, ARGV[1])
else
  set_in(run, 'due_at', at + tonumber(ARGV[3]))
  redis.call('ZADD', KEYS[3], at + tonumber(ARGV[3]), ARGV[1])
end
write_hash(run)
return run.holds.phase
