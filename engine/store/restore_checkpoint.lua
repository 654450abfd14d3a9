-- Store a checkpoint and its pending writes as they were read from another thread. Its channel values are there already.
-- KEYS 1 the fence's hash  2 checkpoints of the namespace  3 the checkpoint  4 namespaces
-- ARGV 1 fence's field ('' = not fenced)  2 its value  3 namespace  4 checkpoint id  5, 6 ... field and value
-- Returns 1.
--@include fence
if ARGV[1] ~= '' and not held(KEYS[1], ARGV[1], ARGV[2]) then return lease_lost() end
for i = 5, #ARGV, 2 do redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1]) end
redis.call('ZADD', KEYS[2], 0, ARGV[4])
redis.call('SADD', KEYS[4], ARGV[3])
return 1
