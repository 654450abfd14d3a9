-- save_events(keys, k, a, last): append events to a run's stream, and number them through the thread.
-- KEYS k+ 1 events  2 thread  3 thread's log (when it may not name the run)  without 2 nothing is numbered
-- ARGV a+ 1 most entries to keep, '' = none is to go now  with key 3: 2 run id  3 ms the thread's log is kept  then name, JSON of each event
-- Readers are told through the channels named like the stream and the log.
-- A run's beginning has a number, too, and so has its `end`: that is written by the script that ends the run, and takes
-- the number after the run's last event, which the next run therefore leaves out.
local function save_events(keys, k, a, last)
  local events, thread, first = KEYS[k + 1], KEYS[k + 2], a + (keys == 3 and 4 or 2)
  local fresh, number = (last - first + 1) / 2, 0
  local begins = keys == 3 and redis.call('EXISTS', events) == 0
  if keys > 1 and (fresh > 0 or begins) then
    local newest = redis.call('HINCRBY', thread, 'seq', begins and fresh + 1 or fresh)
    if begins and newest > fresh + 1 then newest = redis.call('HINCRBY', thread, 'seq', 1) end
    number = newest - fresh
    if begins or (keys == 3 and redis.call('EXISTS', KEYS[k + 3]) == 0) then
      redis.call('XADD', KEYS[k + 3], 'MAXLEN', '~', 1000, '*', 'r', ARGV[a + 2], 's', number)
      redis.call('PEXPIRE', KEYS[k + 3], ARGV[a + 3])
      redis.call('PUBLISH', KEYS[k + 3], 'run')
    end
  end
  for i = first, last, 2 do
    number = number + 1
    redis.call('XADD', events, '*', 'e', ARGV[i], 'd', ARGV[i + 1], 's', number)
  end
  if fresh == 0 then return end
  if ARGV[a + 1] ~= '' then redis.call('XTRIM', events, 'MAXLEN', '~', ARGV[a + 1]) end
  redis.call('PUBLISH', events, 'event')
end
