-- Note what came of an attempt to deliver a webhook.
-- KEYS 1 run  2 webhook  3 webhooks  4 failed webhooks
-- ARGV 1 run id  2 nonce of the sender  3 state that follows (pending | delivered | failed)  4 ms until the next attempt
--      5 HTTP status or ''  6 what went wrong or ''
-- Returns 1, or 0 when the delivery is somebody else's now.
--@include clock
if redis.call('HGET', KEYS[1], 'webhook:sender') ~= ARGV[2] then return 0 end
local at = now_ms()
local following = at + ARGV[4]
redis.call('HSET', KEYS[1], 'webhook:state', ARGV[3], 'webhook:at', following, 'webhook:status', ARGV[5],
  'webhook:problem', ARGV[6])
if ARGV[3] == 'pending' then
  redis.call('HDEL', KEYS[1], 'webhook:sender')
  redis.call('ZADD', KEYS[3], following, ARGV[1])
  return 1
end
redis.call('ZREM', KEYS[3], ARGV[1])
if ARGV[3] == 'failed' then redis.call('ZADD', KEYS[4], at, ARGV[1]) else redis.call('DEL', KEYS[2]) end
return 1
