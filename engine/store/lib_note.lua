-- save_records(fence, keys, args): append to a run's ledger, each record exactly once.
-- keys 1 records
-- args 1 how many records this writer appended before these  2 most records to keep  3.. each record as JSON
-- `records:<field>` in the fence's hash counts them, so that what is done again appends only what is missing.
local function save_records(fence, keys, args)
  local counter = 'records:' .. fence.field .. ':' .. fence.value
  local have = tonumber(redis.call('HGET', fence.key, counter) or '0')
  local before = tonumber(args[1])
  for i = 3 + math.max(0, have - before), #args do
    redis.call('XADD', keys[1], 'MAXLEN', '~', args[2], '*', 'r', args[i])
  end
  local total = before + #args - 2
  if total > have then redis.call('HSET', fence.key, counter, total) end
end
