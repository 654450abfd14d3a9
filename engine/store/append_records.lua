-- Append to a run's ledger, under its writer's fence, each record exactly once.
-- KEYS 1 the hash the fence is in  2 records
-- ARGV 1 field of the fence  2 token  3 how many records this writer appended before these  4 most records to keep
--      5.. each record as JSON
-- Returns how many records this writer has appended in all. `records:<field>` counts them, so that a repeated script
-- appends only what is missing.
--@include fence
if not held(KEYS[1], ARGV[1], ARGV[2]) then return lease_lost() end
local counter = 'records:' .. ARGV[1] .. ':' .. ARGV[2]
local have = tonumber(redis.call('HGET', KEYS[1], counter) or '0')
local before = tonumber(ARGV[3])
for i = 5 + math.max(0, have - before), #ARGV do
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'r', ARGV[i])
end
local total = before + #ARGV - 4
if total > have then redis.call('HSET', KEYS[1], counter, total) end
return math.max(total, have)
