-- Store an item, new or in the place of the one there is.
-- KEYS 1 item  2 keys of the namespace  3 namespaces  4 items that expire
-- ARGV 1 namespace  2 key  3 value as JSON  4 ms to live, 0: for ever  5 name of the item
--      6 its vectors, '' = none
-- Returns 1. A second time it is the same item, changed a moment later.
--@include clock
local at, ttl = now_ms(), tonumber(ARGV[4])
if redis.call('EXISTS', KEYS[1]) == 0 then
  local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  redis.call('ZADD', KEYS[2], (tonumber(last[2]) or 0) + 1, ARGV[2])
  redis.call('ZADD', KEYS[3], 0, ARGV[1])
  redis.call('HSET', KEYS[1], 'created_at', at)
end
redis.call('HSET', KEYS[1], 'value', ARGV[3], 'updated_at', at, 'ttl_ms', ttl)
if ARGV[6] == '' then
  redis.call('HDEL', KEYS[1], 'vectors')
else
  redis.call('HSET', KEYS[1], 'vectors', ARGV[6])
end
if ttl > 0 then
  redis.call('PEXPIREAT', KEYS[1], at + ttl)
  redis.call('ZADD', KEYS[4], at + ttl, ARGV[5])
else
  redis.call('PERSIST', KEYS[1])
  redis.call('ZREM', KEYS[4], ARGV[5])
end
return 1
