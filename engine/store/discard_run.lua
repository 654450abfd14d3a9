-- Take a run off the dead letters for good, with the reason. Its record stays until retention.
-- KEYS 1 run  2 dead letters  3 ended
-- ARGV 1 run id  2 reason
-- Returns 1 when it was a dead letter else 0.
--@include clock
--@include tenant
if dig_up(KEYS[2], KEYS[1], ARGV[1]) == 0 then return 0 end
local at = now_ms()
redis.call('HSET', KEYS[1], 'discarded', ARGV[2], 'discarded_at', at)
redis.call('ZADD', KEYS[3], at, ARGV[1])
return 1
