-- Put a notice into the outbox, one delivery for each of its targets, unless it was put there before, or enough of its kind
-- were: those are counted and told with the next.
-- KEYS 1 told before  2 its group  3 its kind in this hour  4 outbox, then for each delivery: its own
-- ARGV 1 ms it counts as told before  2 ms its group stays quiet  3 most of its kind in an hour
--      4 the notice as JSON, then for each delivery: its id, its target
-- Returns 'put', 'known', 'quiet' or 'throttled'.
--@include clock
local at = now_ms()
if not redis.call('SET', KEYS[1], 1, 'NX', 'PX', ARGV[1]) then return 'known' end
local group = redis.call('HMGET', KEYS[2], 'at', 'more')
local quiet = group[1] and at < tonumber(group[1]) + tonumber(ARGV[2])
if not quiet then
  local number = redis.call('INCR', KEYS[3])
  if number == 1 then redis.call('PEXPIRE', KEYS[3], 3600000) end
  if number <= tonumber(ARGV[3]) then
    redis.call('HSET', KEYS[2], 'at', at, 'more', 0)
    redis.call('PEXPIRE', KEYS[2], math.max(86400000, tonumber(ARGV[2])))
    for i = 5, #KEYS do
      local delivery = 5 + 2 * (i - 5)
      redis.call('HSET', KEYS[i], 'notice', ARGV[4], 'target', ARGV[delivery + 1], 'more', group[2] or 0)
      redis.call('ZADD', KEYS[4], at, ARGV[delivery])
    end
    return 'put'
  end
end
redis.call('HINCRBY', KEYS[2], 'more', 1)
redis.call('PEXPIRE', KEYS[2], math.max(86400000, tonumber(ARGV[2])))
return quiet and 'quiet' or 'throttled'
