-- Take the delivery of a run's webhook in hand, when it is time: one sender has it.
-- KEYS 1 run  2 webhook  3 webhooks
-- ARGV 1 run id  2 nonce of the sender  3 ms after which a sender that said nothing is taken for lost
-- Returns {number of this attempt, field, value, ... of the run, the same of the webhook}, or nil. The same to the same
-- sender again. A run that was taken up again has nothing to tell until its next end.
--@include clock
local at = now_ms()
local state = redis.call('HMGET', KEYS[1], 'webhook:state', 'webhook:sender', 'webhook:at', 'ended_at')
if state[1] ~= 'pending' or not state[4] then return nil end
if state[2] ~= ARGV[2] then
  if at < tonumber(state[3]) then return nil end
  redis.call('HSET', KEYS[1], 'webhook:sender', ARGV[2], 'webhook:at', at + ARGV[3], 'webhook:wakes', 0)
  redis.call('HINCRBY', KEYS[1], 'webhook:attempts', 1)
  redis.call('ZADD', KEYS[3], at + ARGV[3], ARGV[1])
end
local attempt = tonumber(redis.call('HGET', KEYS[1], 'webhook:attempts'))
return {attempt, redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2])}
