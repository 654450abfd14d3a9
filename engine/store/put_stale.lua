-- Keep the last good result of a node for one input, and no more than so many of that node.
-- KEYS 1 the result  2 digests of the node's results
-- ARGV 1 the result as stored  2 ms it may be used  3 most results of the node
-- Returns 1. The keys of the results that go are made from KEYS 2: which ones is known only here.
--@include clock
local at = now_ms()
local digest = string.match(KEYS[1], '([^:]+)$')
redis.call('SET', KEYS[1], at .. ' ' .. ARGV[1], 'PX', ARGV[2])
redis.call('ZADD', KEYS[2], at, digest)
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
local over = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[3])
if over > 0 then
  for _, old in ipairs(redis.call('ZRANGE', KEYS[2], 0, over - 1)) do redis.call('DEL', KEYS[2] .. ':' .. old) end
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, over - 1)
end
return 1
