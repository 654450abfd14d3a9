-- Find wake-ups that were lost, and count them as sent again now. A backlog that is merely long is left alone: a
-- wake-up is lost only when its queue has consumed a clearly newer one, or is empty.
-- KEYS 1 waiting
-- ARGV 1 prefix of run keys  2 most members to look at, then for each queue: its name, ms before which a wake-up is lost
-- Returns {member, queue, ...} of what is to be woken.
--@include clock
--@include member
local at = now_ms()
local before, oldest = {}, 0
for i = 3, #ARGV, 2 do
  before[ARGV[i]] = tonumber(ARGV[i + 1])
  oldest = math.max(oldest, tonumber(ARGV[i + 1]))
end
local woken = {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', oldest, 'LIMIT', 0, ARGV[2])) do
  local queue = queue_of(member, ARGV[1])
  if not queue then redis.call('ZREM', KEYS[1], member)
  elseif tonumber(redis.call('ZSCORE', KEYS[1], member)) < (before[queue] or 0) then
    redis.call('ZADD', KEYS[1], at, member)
    woken[#woken + 1] = member
    woken[#woken + 1] = queue
  end
end
return woken
