-- Note what came of an attempt to deliver a notice. What was given up is kept for a month.
-- KEYS 1 delivery  2 outbox  3 given up
-- ARGV 1 its id  2 nonce of the sender  3 state that follows (pending | delivered | failed)  4 ms until the next attempt
--      5 what went wrong or ''
-- Returns 1, or 0 when the delivery is somebody else's now.
--@include clock
if redis.call('HGET', KEYS[1], 'sender') ~= ARGV[2] then return 0 end
local at, month = now_ms(), 2592000000
redis.call('HSET', KEYS[1], 'problem', ARGV[5])
if ARGV[3] == 'pending' then
  redis.call('HDEL', KEYS[1], 'sender')
  redis.call('ZADD', KEYS[2], at + ARGV[4], ARGV[1])
  return 1
end
redis.call('ZREM', KEYS[2], ARGV[1])
if ARGV[3] == 'delivered' then
  redis.call('DEL', KEYS[1])
  return 1
end
redis.call('ZADD', KEYS[3], at, ARGV[1])
redis.call('PEXPIRE', KEYS[1], month)
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', at - month)
return 1
