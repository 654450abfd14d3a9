-- Append events to a run's stream, under its writer's fence, each exactly once, and number them through the thread.
-- KEYS 1 the hash the fence is in  2 events  3 thread  4 thread's log; without the last two nothing is numbered
-- ARGV 1 field of the fence  2 token  3 how many events this writer appended before these  4 most entries to keep
--      5 run id  6 ms the thread's log is kept  7.. name, JSON of each event
-- Returns how many events this writer has appended in all. `events:<field>` counts them, so that a repeated script
-- appends only what is missing. Readers are told through the channels named like the stream and the log.
-- A run's beginning has a number, too, and so has its `end`: that is written by the script that ends the run, and takes
-- the number after the run's last event, which the next run therefore leaves out.
--@include fence
if not held(KEYS[1], ARGV[1], ARGV[2]) then return lease_lost() end
local counter = 'events:' .. ARGV[1] .. ':' .. ARGV[2]
local have = tonumber(redis.call('HGET', KEYS[1], counter) or '0')
local first = 7 + 2 * math.max(0, have - tonumber(ARGV[3]))
local fresh = (#ARGV - first + 1) / 2
local number = 0
local begins = redis.call('EXISTS', KEYS[2]) == 0
if KEYS[3] and (fresh > 0 or begins) then
  local more = begins and 1 + redis.call('HEXISTS', KEYS[3], 'seq') or 0
  number = redis.call('HINCRBY', KEYS[3], 'seq', fresh + more) - fresh
  if begins or redis.call('EXISTS', KEYS[4]) == 0 then
    redis.call('XADD', KEYS[4], 'MAXLEN', '~', 1000, '*', 'r', ARGV[5], 's', number)
    redis.call('PEXPIRE', KEYS[4], ARGV[6])
    redis.call('PUBLISH', KEYS[4], 'run')
  end
end
for i = first, #ARGV, 2 do
  number = number + 1
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'e', ARGV[i], 'd', ARGV[i + 1], 's', number)
end
local total = tonumber(ARGV[3]) + (#ARGV - 6) / 2
if total > have then
  redis.call('HSET', KEYS[1], counter, total)
  redis.call('PUBLISH', KEYS[2], 'event')
end
return math.max(total, have)
