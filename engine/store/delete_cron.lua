-- Forget a cron. Runs that it has started go on.
-- KEYS 1 cron  2 crons  3 due crons  4 its thread's crons
-- ARGV 1 cron id
-- Returns 1, or 0 when there was none.
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('SREM', KEYS[4], ARGV[1])
return redis.call('DEL', KEYS[1])
