-- Decide what becomes of a thread whose time to live may be over: it counts from the last change, and not while it is busy.
-- KEYS 1 thread  2 thread's queue  3 threads with a time to live
-- ARGV 1 thread id  2 ms after which to look again, should the caller be cut off
-- Returns 'delete' (from now on nobody sees the thread, and it takes no run), 'keep_latest', or nil: nothing is due.
--@include clock
local state = redis.call('HMGET', KEYS[1], 'ttl_ms', 'ttl_strategy', 'updated_at', 'active', 'delayed', 'ttl_from')
if not state[1] then
  redis.call('ZREM', KEYS[3], ARGV[1])
  return false
end
local at, ttl = now_ms(), tonumber(state[1])
local ends = math.max(tonumber(state[3] or 0), tonumber(state[6])) + ttl
if state[4] or redis.call('ZCARD', KEYS[2]) > 0 or tonumber(state[5] or 0) > 0 then ends = at + ttl end
if ends > at then
  redis.call('ZADD', KEYS[3], ends, ARGV[1])
  return false
end
if state[2] == 'delete' then redis.call('HSET', KEYS[1], 'hidden', '1') end
redis.call('ZADD', KEYS[3], at + (state[2] == 'delete' and tonumber(ARGV[2]) or math.max(ttl, tonumber(ARGV[2]))), ARGV[1])
return state[2]
