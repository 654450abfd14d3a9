-- serve(...): give the room there is to those who have waited longest; waiters that are gone are passed over. What is
-- given is reserved under the waiter's name until it comes for it, or for so many ms; its ticket is kept as long, so that
-- one who comes too late stands where it stood. A parked one that did not come may not have been woken: who was to do it
-- has died. Once for each time it parks it stands in the queue again, after those who are given something now.
-- Returns {waiter, member to wake or '', ...}.
local function serve(limit, held, queue, seen, wakes, at, reserve_ms, channel)
  local unwoken = {}
  for _, lapsed in ipairs(redis.call('ZRANGEBYSCORE', held, '-inf', at)) do
    redis.call('ZREM', held, lapsed)
    if redis.call('HEXISTS', wakes, 'again:' .. lapsed) == 1 then unwoken[#unwoken + 1] = lapsed end
  end
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', seen, '-inf', at, 'LIMIT', 0, 1000)) do
    redis.call('ZREM', seen, gone)
    redis.call('ZREM', queue, gone)
    redis.call('HDEL', wakes, gone, 'ticket:' .. gone, 'again:' .. gone, 'woken:' .. gone)
  end
  local of = redis.call('HMGET', limit, 'concurrency', 'interval', 'burst', 'next_at', 'blocked_until')
  local concurrency, interval = tonumber(of[1] or '0'), tonumber(of[2] or '0')
  local next_at = math.max(tonumber(of[4] or '0'), at)
  local room = concurrency > 0 and concurrency - redis.call('ZCARD', held) or 1000
  if tonumber(of[5] or '0') > at then room = 0 end
  local given = {}
  while room > 0 and next_at + interval - at <= interval * tonumber(of[3] or '1') do
    local first = redis.call('ZPOPMIN', queue)
    if #first == 0 then break end
    local waiter = first[1]
    local wake = redis.call('HGET', wakes, waiter) or ''
    redis.call('HSET', wakes, 'ticket:' .. waiter, first[2])
    redis.call('HDEL', wakes, waiter)
    redis.call('ZADD', held, at + reserve_ms, waiter)
    if wake == '' then
      redis.call('ZADD', seen, at + 10 * reserve_ms, waiter)
      redis.call('PUBLISH', channel, waiter)
    elseif redis.call('HDEL', wakes, 'woken:' .. waiter) == 1 then
      redis.call('ZADD', seen, at + 10 * reserve_ms, waiter)
    else
      redis.call('ZADD', seen, 'GT', at + 10 * reserve_ms, waiter)
      redis.call('HSET', wakes, 'again:' .. waiter, wake)
    end
    given[#given + 1] = waiter
    given[#given + 1] = wake
    next_at, room = next_at + interval, room - 1
  end
  for _, waiter in ipairs(unwoken) do
    local ticket = redis.call('HGET', wakes, 'ticket:' .. waiter)
    if ticket then
      redis.call('ZADD', queue, ticket, waiter)
      redis.call('HSET', wakes, waiter, redis.call('HGET', wakes, 'again:' .. waiter), 'woken:' .. waiter, 1)
    end
    redis.call('HDEL', wakes, 'again:' .. waiter, 'ticket:' .. waiter)
  end
  if interval > 0 and #given > 0 then redis.call('HSET', limit, 'next_at', string.format('%.3f', next_at)) end
  return given
end
