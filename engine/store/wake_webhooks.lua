-- Find webhooks that are to be delivered now. Each is found again later, and later each time, until a sender has it: a
-- wake-up that waits in a long queue is not sent over and over.
-- KEYS 1 webhooks
-- ARGV 1 prefix of run keys  2 most to find
-- Returns {run id, queue, ...} of what is to be woken.
--@include clock
local at = now_ms()
local woken = {}
for _, run_id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', at, 'LIMIT', 0, ARGV[2])) do
  local run = ARGV[1] .. run_id
  local queue = redis.call('HGET', run, 'queue')
  if queue then
    local wakes = redis.call('HINCRBY', run, 'webhook:wakes', 1)
    redis.call('ZADD', KEYS[1], at + math.min(60000, 2500 * 2 ^ math.min(wakes, 10)), run_id)
    woken[#woken + 1] = run_id
    woken[#woken + 1] = queue
  else
    redis.call('ZREM', KEYS[1], run_id)
  end
end
return woken
