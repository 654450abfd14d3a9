-- Store channel values as they were read from another thread.
-- KEYS 1 the fence's hash  2 channels of the namespace
-- ARGV 1 fence's field ('' = not fenced)  2 its value  3, 4 ... field and value
-- Returns 1.
--@include fence
if ARGV[1] ~= '' and not held(KEYS[1], ARGV[1], ARGV[2]) then return lease_lost() end
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
return 1
