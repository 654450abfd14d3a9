-- Take a run off the dead letters for good, with the reason. Its record stays until retention.
-- KEYS 1 run  2 dead letters
-- ARGV 1 run id  2 reason
-- Returns 1 when it was a dead letter else 0.
--@include clock
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'discarded', ARGV[2], 'discarded_at', now_ms())
return 1
