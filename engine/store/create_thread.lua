-- Make a thread.
-- KEYS 1 thread  2 threads
-- ARGV 1 thread id  2 metadata as JSON  3 'raise' or 'do_nothing' when there is one already  4 tenant, '' the default
--      5 its labels, see the library label  6.. field, value
-- Returns the thread as a flat hash. Error THREAD_EXISTS, always when it is another tenant's.
--@include clock
--@include tenant
--@include label
if redis.call('EXISTS', KEYS[1]) == 1 then
  local own = (redis.call('HGET', KEYS[1], 'tenant') or '') == ARGV[4]
  if ARGV[3] ~= 'do_nothing' or not own then return redis.error_reply('THREAD_EXISTS A thread with this id exists already.') end
  return redis.call('HGETALL', KEYS[1])
end
local at = now_ms()
redis.call('HSET', KEYS[1], 'thread_id', ARGV[1], 'metadata', ARGV[2], 'created_at', at, 'updated_at', at,
  'state_updated_at', at, unpack(ARGV, 6))
if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], 'tenant', ARGV[4]) end
label(KEYS[1], ARGV[4], ARGV[1], ARGV[5])
redis.call('ZADD', listing_of(KEYS[2], KEYS[1]), at, ARGV[1])
return redis.call('HGETALL', KEYS[1])
