-- End one branch. The last one to end makes the run wait for a worker again.
-- KEYS 1 run  2 branches  3 leases  4 waiting
-- ARGV 1 run id  2 branch  3 token  4 result as JSON ('' means its tasks saved their writes)
-- Returns {branches left, queue of the run}. A branch that was ended by this token before is left as it is.
--@include clock
--@include fence
local name = ARGV[2]
if redis.call('HGET', KEYS[2], name .. ':by') == ARGV[3] then
  return {tonumber(redis.call('HGET', KEYS[2], 'left')), redis.call('HGET', KEYS[1], 'queue')}
end
if not held(KEYS[2], name, ARGV[3]) then return lease_lost() end
redis.call('HSET', KEYS[2], name, 'done', name .. ':by', ARGV[3], name .. ':result', ARGV[4])
redis.call('ZREM', KEYS[3], ARGV[1] .. '/' .. name)
local left = redis.call('HINCRBY', KEYS[2], 'left', -1)
if left == 0 then
  local at = now_ms()
  redis.call('HSET', KEYS[1], 'phase', 'waiting', 'updated_at', at)
  redis.call('ZADD', KEYS[4], at, ARGV[1])
end
return {left, redis.call('HGET', KEYS[1], 'queue')}
