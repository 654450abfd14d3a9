-- Forget a run, over or not: its record, its events, its place in every index; its thread goes on to the next run.
-- KEYS 1 run  2 thread  3 thread's runs  4 thread's queue  5 waiting  6 ended  7 events  8 branches  9 leases  10 due
--      11 roll-backs  12 threads  13 deadlines  14 dead letters  15 attempts
--      16 effects  17 records  18 webhook  19 webhooks  20 failed webhooks
-- ARGV 1 run id  2 prefix of run keys  3 thread id
-- Returns {next run id, its queue} or {}. Deleting it again does nothing.
-- A worker that still has the run in hand loses its lease with the record. A thread that was made for this run alone
-- goes with it.
--@include clock
--@include branches
--@include line
--@include hash
--@include thread
--@include tenant
--@include label
local at = now_ms()
local phase = redis.call('HGET', KEYS[1], 'phase')
local threads = listing_of(KEYS[12], KEYS[2])
dig_up(KEYS[14], KEYS[1], ARGV[1])
if phase then
  if phase == 'due' and redis.call('HGET', KEYS[2], 'active') ~= ARGV[1] then
    redis.call('HINCRBY', KEYS[2], 'delayed', -1)
  end
  drop_branches(KEYS[8], KEYS[9], KEYS[5], ARGV[1], KEYS[10])
  redis.call('DEL', KEYS[1], KEYS[15], KEYS[16], KEYS[17], KEYS[18])
  local report = '{"status":"interrupted"}'
  local id = redis.call('XADD', KEYS[7], '*', 'e', 'end', 'd', report)
  redis.call('PEXPIRE', KEYS[7], 1000)
  redis.call('PUBLISH', KEYS[7], 'end')
  tell_end(KEYS[7], ARGV[1], id, report)
end
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('ZREM', KEYS[6], ARGV[1])
redis.call('ZREM', KEYS[9], ARGV[1])
redis.call('ZREM', KEYS[10], ARGV[1])
redis.call('ZREM', KEYS[11], ARGV[1])
redis.call('ZREM', KEYS[13], ARGV[1])
redis.call('ZREM', KEYS[19], ARGV[1])
redis.call('ZREM', KEYS[20], ARGV[1])
local thread = open_thread(KEYS[2])
local following = admit_next(thread, KEYS[4], KEYS[5], ARGV[2], ARGV[1], at)
write_hash(thread)
if redis.call('HGET', KEYS[2], 'hidden') == '1' and redis.call('EXISTS', KEYS[3]) == 0 then
  label(KEYS[2], redis.call('HGET', KEYS[2], 'tenant'), ARGV[3], '')
  redis.call('DEL', KEYS[2])
  redis.call('ZREM', threads, ARGV[3])
end
return following
