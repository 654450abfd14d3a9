-- Set fields of a run, or of a branch, that is in hand.
-- KEYS 1 the hash the fence is in  2 the hash to set
-- ARGV 1 field of the fence  2 token  3.. field, value
-- Returns 1.
--@include fence
if not held(KEYS[1], ARGV[1], ARGV[2]) then return lease_lost() end
redis.call('HSET', KEYS[2], unpack(ARGV, 3))
return 1
