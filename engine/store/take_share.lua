-- Take a share of a limit, or a place in its queue: first come, first served, whoever asks.
-- KEYS 1 limit  2 held  3 queue  4 seen  5 wakes
-- ARGV 1 waiter  2 holder (the waiter under one lease)  3 most at once (0: any number)  4 ms between two on average (0: no
--      rate)  5 how many may come at once  6 ms a share is held without a sign of life  7 ms the waiter is believed to
--      wait  8 member to wake once there is room, '' for one that waits in its process  9 ms a share that is given to a
--      waiter is reserved  10 channel on which those that wait in their processes are told
-- Returns {1 when it has a share else 0, ms until its turn as far as that can be told else 0, how many are before it,
-- waiter, member to wake or '', ... of others that have been given a share}.
--@include clock
--@include limit
local waiter, holder, at = ARGV[1], ARGV[2], now_ms()
local ends = at + tonumber(ARGV[6])
if redis.call('ZSCORE', KEYS[2], holder) then
  redis.call('ZADD', KEYS[2], ends, holder)
  return {1, 0, 0}
end
redis.call('HSET', KEYS[1], 'concurrency', ARGV[3], 'interval', ARGV[4], 'burst', ARGV[5])
local answer = {0, 0, 0}
if not redis.call('ZSCORE', KEYS[2], waiter) then
  if not redis.call('ZSCORE', KEYS[3], waiter) then
    local ticket = redis.call('HGET', KEYS[5], 'ticket:' .. waiter) or redis.call('HINCRBY', KEYS[1], 'arrivals', 1)
    redis.call('ZADD', KEYS[3], ticket, waiter)
  end
  redis.call('ZADD', KEYS[4], at + tonumber(ARGV[7]), waiter)
  if ARGV[8] ~= '' then redis.call('HSET', KEYS[5], waiter, ARGV[8]) else redis.call('HDEL', KEYS[5], waiter) end
  redis.call('HDEL', KEYS[5], 'again:' .. waiter, 'woken:' .. waiter)
  local given = serve(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], at, tonumber(ARGV[9]), ARGV[10])
  for i = 1, #given, 2 do
    if given[i] ~= waiter then
      answer[#answer + 1] = given[i]
      answer[#answer + 1] = given[i + 1]
    end
  end
end
if redis.call('ZREM', KEYS[2], waiter) == 1 then
  redis.call('ZADD', KEYS[2], ends, holder)
  redis.call('ZREM', KEYS[4], waiter)
  redis.call('HDEL', KEYS[5], 'ticket:' .. waiter, 'again:' .. waiter)
  answer[1] = 1
  return answer
end
local before = redis.call('ZRANK', KEYS[3], waiter)
local of = redis.call('HMGET', KEYS[1], 'next_at', 'blocked_until')
local interval, wait = tonumber(ARGV[4]), tonumber(of[2] or '0') - at
if interval > 0 then
  local turn = math.max(tonumber(of[1] or '0'), at) + interval * (before + 1 - tonumber(ARGV[5])) - at
  wait = math.max(wait, turn)
end
answer[2], answer[3] = math.ceil(math.max(wait, 0)), before
return answer
