-- Take a run's answer for what its thread was asked: more of a budget. The answer is not LangGraph's to see.
-- KEYS 1 run  2 thread
-- ARGV 1 token  2 the run's request without the answer, as JSON  3 field of the run for grants to it, '' for the thread
--      4.. kind, amount
-- Returns 1 when it was granted now, 0 when it was before.
--@include fence
if not held(KEYS[1], 'lease', ARGV[1]) then return lease_lost() end
if redis.call('HSETNX', KEYS[1], 'budget_answered', 1) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'request', ARGV[2])
local key = ARGV[3] ~= '' and KEYS[1] or KEYS[2]
for i = 4, #ARGV, 2 do redis.call('HINCRBYFLOAT', key, 'granted:' .. ARGV[i], ARGV[i + 1]) end
return 1
