-- Append events to a run's stream, under its writer's fence, each exactly once.
-- KEYS 1 the hash the fence is in  2 events
-- ARGV 1 field of the fence  2 token  3 how many events this writer appended before these  4 most entries to keep
--      5.. name, JSON of each event
-- Returns how many events this writer has appended in all. `events:<field>` counts them, so that a repeated script
-- appends only what is missing. Readers are told through the channel named like the stream.
--@include fence
if not held(KEYS[1], ARGV[1], ARGV[2]) then return lease_lost() end
local counter = 'events:' .. ARGV[1] .. ':' .. ARGV[2]
local have = tonumber(redis.call('HGET', KEYS[1], counter) or '0')
local first = 5 + 2 * math.max(0, have - tonumber(ARGV[3]))
for i = first, #ARGV, 2 do
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'e', ARGV[i], 'd', ARGV[i + 1])
end
local total = tonumber(ARGV[3]) + (#ARGV - 4) / 2
if total > have then
  redis.call('HSET', KEYS[1], counter, total)
  redis.call('PUBLISH', KEYS[2], 'event')
end
return math.max(total, have)
