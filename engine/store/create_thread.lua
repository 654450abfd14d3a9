-- Make a thread.
-- KEYS 1 thread  2 threads
-- ARGV 1 thread id  2 metadata as JSON  3 'raise' or 'do_nothing' when there is one already  4.. field, value
-- Returns the thread as a flat hash. Error THREAD_EXISTS.
--@include clock
if redis.call('EXISTS', KEYS[1]) == 1 then
  if ARGV[3] ~= 'do_nothing' then return redis.error_reply('THREAD_EXISTS A thread with this id exists already.') end
  return redis.call('HGETALL', KEYS[1])
end
local at = now_ms()
redis.call('HSET', KEYS[1], 'thread_id', ARGV[1], 'metadata', ARGV[2], 'created_at', at, 'updated_at', at,
  'state_updated_at', at, unpack(ARGV, 4))
redis.call('ZADD', KEYS[2], at, ARGV[1])
return redis.call('HGETALL', KEYS[1])
