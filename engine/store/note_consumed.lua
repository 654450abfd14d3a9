-- Note how far a queue has been consumed; the figure only grows.
-- KEYS 1 queues
-- ARGV 1 queue  2 ms of the newest wake-up that was consumed
-- Returns the figure.
local known = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
if tonumber(ARGV[2]) > known then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  return tonumber(ARGV[2])
end
return known
