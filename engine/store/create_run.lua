-- Record a run, or refuse it, in one step: from here on it is accepted and survives everything but the disk.
-- KEYS 1 run  2 thread  3 thread's runs  4 thread's queue  5 waiting  6 due  7 threads
-- ARGV 1 run id  2 thread id  3 strategy (reject | enqueue | interrupt | rollback)  4 'create' to make a missing thread,
--      'hidden' to make one for this run alone
--      5 delay in ms  6 JSON metadata for a thread that is made here  7 tenant, '' the default
--      8.. field, value of the run
-- Returns {phase, ms now}; the same again when sent twice. Errors THREAD_NOT_FOUND, also for
-- another tenant's, THREAD_BUSY.
-- With interrupt or rollback the service has cancelled the runs before this one; what is still in hand of a worker
-- ends on its own and admits this one.
--@include clock
--@include tenant
local known = redis.call('HMGET', KEYS[1], 'phase', 'created_at')
if known[1] then return {known[1], tonumber(known[2])} end
local at = now_ms()
if redis.call('EXISTS', KEYS[2]) == 0 then
  if ARGV[4] == '' then return redis.error_reply('THREAD_NOT_FOUND Thread not found.') end
  redis.call('HSET', KEYS[2], 'thread_id', ARGV[2], 'created_at', at, 'metadata', ARGV[6],
    'hidden', ARGV[4] == 'hidden' and '1' or '')
  if ARGV[7] ~= '' then redis.call('HSET', KEYS[2], 'tenant', ARGV[7]) end
else
  local thread = redis.call('HMGET', KEYS[2], 'hidden', 'tenant')
  -- hidden: another run's own, or being deleted
  if thread[1] == '1' or (thread[2] or '') ~= ARGV[7] then
    return redis.error_reply('THREAD_NOT_FOUND Thread not found.')
  end
end
local busy = redis.call('HEXISTS', KEYS[2], 'active') == 1 or redis.call('ZCARD', KEYS[4]) > 0
if ARGV[3] == 'reject' and (busy or tonumber(redis.call('HGET', KEYS[2], 'delayed') or '0') > 0) then
  return redis.error_reply('THREAD_BUSY The thread has a run in flight, and multitask_strategy is "reject".')
end
local phase = 'waiting'
local delay = tonumber(ARGV[5])
if delay > 0 then
  phase = 'due'
  redis.call('ZADD', KEYS[6], at + delay, ARGV[1])
  redis.call('HINCRBY', KEYS[2], 'delayed', 1)
  redis.call('HSET', KEYS[1], 'due_at', at + delay)
elseif busy then
  phase = 'queued'
  redis.call('ZADD', KEYS[4], redis.call('HINCRBY', KEYS[2], 'arrivals', 1), ARGV[1])
else
  redis.call('HSET', KEYS[2], 'active', ARGV[1])
  redis.call('ZADD', KEYS[5], at, ARGV[1])
end
redis.call('HSET', KEYS[1], 'run_id', ARGV[1], 'thread_id', ARGV[2], 'strategy', ARGV[3], 'phase', phase,
  'created_at', at, 'updated_at', at, unpack(ARGV, 8))
if ARGV[7] ~= '' then redis.call('HSET', KEYS[1], 'tenant', ARGV[7]) end
redis.call('ZADD', KEYS[3], at, ARGV[1])
redis.call('HSET', KEYS[2], 'updated_at', at)
redis.call('ZADD', listing_of(KEYS[7], KEYS[2]), at, ARGV[2])
return {phase, at}
