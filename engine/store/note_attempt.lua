-- Note a failed attempt of a node: it counts whatever becomes of the worker.
-- KEYS 1 the hash the fence is in  2 run  3 attempts
-- ARGV 1 field of the fence  2 token  3 task id  4 number of the attempt, 1-based  5 the record as JSON
--      6 most records to keep  7 what the run does without, as JSON, or ''
--      8 the superstep of a fan-out's task that is not executed again, or ''  9 its last attempt as JSON
--      10 ms until the next attempt, 0 when it is not waited for without a worker
--      11 when the attempts begin anew after that: the last one as JSON, else ''
-- Returns 1. An attempt that was noted before is not noted again.
--@include clock
--@include fence
--@include parts
if not held(KEYS[1], ARGV[1], ARGV[2]) then return lease_lost() end
local counter = 'attempts:' .. ARGV[3]
if tonumber(redis.call('HGET', KEYS[2], counter) or '0') < tonumber(ARGV[4]) then
  redis.call('HSET', KEYS[2], counter, ARGV[4])
  redis.call('RPUSH', KEYS[3], ARGV[5])
  redis.call('LTRIM', KEYS[3], -tonumber(ARGV[6]), -1)
  if ARGV[10] ~= '0' then redis.call('HSET', KEYS[2], 'again:' .. ARGV[3], now_ms() + tonumber(ARGV[10])) end
  if ARGV[11] ~= '' then redis.call('HSET', KEYS[2], 'round:' .. ARGV[3], ARGV[11]) end
end
if ARGV[7] ~= '' then redis.call('HSET', KEYS[2], 'degraded:' .. ARGV[3], ARGV[7]) end
if ARGV[8] ~= '' then
  begin_parts(KEYS[2], ARGV[8])
  redis.call('HSET', KEYS[2], 'part:' .. ARGV[3], ARGV[9])
end
return 1
