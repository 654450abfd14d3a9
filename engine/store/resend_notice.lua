-- Deliver a notice anew that was given up.
-- KEYS 1 delivery  2 outbox  3 given up
-- ARGV 1 its id
-- Returns 1, or 0 when there is none such (any more).
--@include clock
if redis.call('ZREM', KEYS[3], ARGV[1]) == 0 or redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HDEL', KEYS[1], 'sender', 'attempts')
redis.call('PERSIST', KEYS[1])
redis.call('ZADD', KEYS[2], now_ms(), ARGV[1])
return 1
