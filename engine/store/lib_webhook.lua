-- owe(...): from now on the run's webhook is to be told of its end. The wake-up for it is recovery's business after
-- `grace_ms`: until then that of whoever ended the run. The number tells one telling of the same run from the next.
local function owe(run, webhooks, failed, run_id, at, grace_ms)
  redis.call('HDEL', run, 'webhook:sender', 'webhook:status', 'webhook:problem', 'webhook:wakes')
  redis.call('HSET', run, 'webhook:state', 'pending', 'webhook:attempts', 0, 'webhook:at', at)
  redis.call('HINCRBY', run, 'webhook:number', 1)
  redis.call('ZADD', webhooks, at + grace_ms, run_id)
  redis.call('ZREM', failed, run_id)
end
-- remember(...): keep what the thread holds now, for the webhook: by the time it is sent the thread may have gone on.
local function remember(webhook, thread)
  local held = redis.call('HMGET', thread, 'values', 'interrupts', 'edits')
  local edits = tonumber(held[3] or '0')
  redis.call('HSET', webhook, 'values', held[1] or '', 'interrupts', held[2] or '', 'edits', edits)
  for i = 1, edits do redis.call('HSET', webhook, 'values:' .. i, redis.call('HGET', thread, 'values:' .. i)) end
end
