-- Take the delivery of a notice in hand, when it is time: one sender has it.
-- KEYS 1 delivery  2 outbox
-- ARGV 1 its id  2 nonce of the sender  3 ms after which a sender that said nothing is taken for lost
-- Returns {number of this attempt, the notice as JSON, its target, how many more of its group}, or nil. The same to the
-- same sender again.
--@include clock
local at = now_ms()
local due = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not due then return nil end
if redis.call('HGET', KEYS[1], 'sender') ~= ARGV[2] then
  if at < tonumber(due) then return nil end
  redis.call('HSET', KEYS[1], 'sender', ARGV[2])
  redis.call('HINCRBY', KEYS[1], 'attempts', 1)
  redis.call('ZADD', KEYS[2], at + ARGV[3], ARGV[1])
end
local known = redis.call('HMGET', KEYS[1], 'attempts', 'notice', 'target', 'more')
if not known[2] then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return nil
end
return {tonumber(known[1]), known[2], known[3], tonumber(known[4])}
