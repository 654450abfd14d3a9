-- Give a thread a time to live, counted from its last change.
-- KEYS 1 thread  2 threads with a time to live
-- ARGV 1 thread id  2 time to live in ms  3 strategy (delete | keep_latest)
-- Returns 1. Error THREAD_NOT_FOUND.
--@include clock
if redis.call('EXISTS', KEYS[1]) == 0 then return redis.error_reply('THREAD_NOT_FOUND Thread not found.') end
redis.call('HSET', KEYS[1], 'ttl_ms', ARGV[2], 'ttl_strategy', ARGV[3], 'ttl_from', now_ms())
redis.call('ZADD', KEYS[2], now_ms() + tonumber(ARGV[2]), ARGV[1])
return 1
