-- Remove what a namespace still has besides checkpoints, if it has no checkpoint left.
-- KEYS 1 the fence's hash  2 checkpoints of the namespace  3 channels of the namespace  4 namespaces
-- ARGV 1 fence's field ('' = not fenced)  2 its value  3 namespace
-- Returns 1, or 0 when there are checkpoints: then nothing was changed.
--@include fence
if ARGV[1] ~= '' and not held(KEYS[1], ARGV[1], ARGV[2]) then return lease_lost() end
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('UNLINK', KEYS[3])
redis.call('SREM', KEYS[4], ARGV[3])
return 1
