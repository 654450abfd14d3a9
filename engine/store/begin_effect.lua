-- Note that an effect begins, unless it is known already.
-- KEYS 1 the hash the fence is in  2 effects
-- ARGV 1 field of the fence  2 token  3 effect
-- Returns what was known of it: nil or '' (nothing), 'begun', or 'done' followed by its result as JSON.
--@include fence
if not held(KEYS[1], ARGV[1], ARGV[2]) then return lease_lost() end
local known = redis.call('HGET', KEYS[2], ARGV[3])
if not known or known == '' then redis.call('HSET', KEYS[2], ARGV[3], 'begun') end
return known
