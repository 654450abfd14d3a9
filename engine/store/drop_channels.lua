-- Remove stored channel values that no checkpoint needs any more.
-- KEYS 1 the fence's hash  2 channels of the namespace
-- ARGV 1 fence's field ('' = not fenced)  2 its value  3 ... fields of the channels
-- Returns how many there were.
--@include fence
if ARGV[1] ~= '' and not held(KEYS[1], ARGV[1], ARGV[2]) then return lease_lost() end
local dropped = 0
for i = 3, #ARGV do dropped = dropped + redis.call('HDEL', KEYS[2], ARGV[i]) end
return dropped
