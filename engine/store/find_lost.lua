-- Find wake-ups that were lost, and count them as sent again now. A backlog that is merely long is left alone: a
-- wake-up is lost only when its queue has consumed a clearly newer one, or is empty.
-- KEYS 1 waiting
-- ARGV 1 prefix of run keys  2 most members to look at  3 how many of the oldest to skip
--      4 ms after which a wake-up is too young to be lost, then for each queue: its name, ms before which one is lost
-- Returns {how many to skip the next time, {member, queue, ...} of what is to be woken, {queues not named in ARGV}}.
-- A page at a time: what waits in one long queue must not hide what was lost from another.
--@include clock
--@include member
local at = now_ms()
local before = {}
for i = 5, #ARGV, 2 do before[ARGV[i]] = tonumber(ARGV[i + 1]) end
local page = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[4], 'WITHSCORES', 'LIMIT', ARGV[3], ARGV[2])
local woken, unknown, stay = {}, {}, 0
for i = 1, #page, 2 do
  local member, woken_at = page[i], tonumber(page[i + 1])
  local queue = queue_of(member, ARGV[1])
  if not queue then redis.call('ZREM', KEYS[1], member)
  elseif before[queue] and woken_at < before[queue] then
    redis.call('ZADD', KEYS[1], at, member)
    mark_rewoken(member, ARGV[1])
    woken[#woken + 1] = member
    woken[#woken + 1] = queue
  else
    stay = stay + 1
    if not before[queue] then unknown[#unknown + 1] = queue end
  end
end
local skip = #page / 2 < tonumber(ARGV[2]) and 0 or tonumber(ARGV[3]) + stay
return {skip, woken, unknown}
