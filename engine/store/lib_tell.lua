-- save_events(fence, keys, args): append events to a run's stream, each exactly once, and number them through the thread.
-- keys 1 events  2 thread  3 thread's log; without the last two nothing is numbered
-- args 1 how many events this writer appended before these  2 most entries to keep  3 run id
--      4 ms the thread's log is kept  5.. name, JSON of each event
-- `events:<field>` in the fence's hash counts them, so that what is done again appends only what is missing. Readers are
-- told through the channels named like the stream and the log.
-- A run's beginning has a number, too, and so has its `end`: that is written by the script that ends the run, and takes
-- the number after the run's last event, which the next run therefore leaves out.
local function save_events(fence, keys, args)
  local counter = 'events:' .. fence.field .. ':' .. fence.value
  local have = tonumber(redis.call('HGET', fence.key, counter) or '0')
  local first = 5 + 2 * math.max(0, have - tonumber(args[1]))
  local fresh = (#args - first + 1) / 2
  local number = 0
  local begins = redis.call('EXISTS', keys[1]) == 0
  if keys[2] and (fresh > 0 or begins) then
    local more = begins and 1 + redis.call('HEXISTS', keys[2], 'seq') or 0
    number = redis.call('HINCRBY', keys[2], 'seq', fresh + more) - fresh
    if begins or redis.call('EXISTS', keys[3]) == 0 then
      redis.call('XADD', keys[3], 'MAXLEN', '~', 1000, '*', 'r', args[3], 's', number)
      redis.call('PEXPIRE', keys[3], args[4])
      redis.call('PUBLISH', keys[3], 'run')
    end
  end
  for i = first, #args, 2 do
    number = number + 1
    redis.call('XADD', keys[1], 'MAXLEN', '~', args[2], '*', 'e', args[i], 'd', args[i + 1], 's', number)
  end
  local total = tonumber(args[1]) + (#args - 4) / 2
  if total > have then
    redis.call('HSET', fence.key, counter, total)
    redis.call('PUBLISH', keys[1], 'event')
  end
end
