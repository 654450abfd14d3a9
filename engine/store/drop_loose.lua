-- Remove pending writes of checkpoints that were never put.
-- KEYS 1 the fence's hash  2 loose  3 ... the checkpoints
-- ARGV 1 fence's field ('' = not fenced)  2 its value  3 ... the members of loose, in the order of the checkpoints
-- Returns how many there were. One that was put in the meantime stays.
--@include fence
if ARGV[1] ~= '' and not held(KEYS[1], ARGV[1], ARGV[2]) then return lease_lost() end
local dropped = 0
for i = 3, #ARGV do
  redis.call('SREM', KEYS[2], ARGV[i])
  if redis.call('HEXISTS', KEYS[i], 'f') == 0 then dropped = dropped + redis.call('UNLINK', KEYS[i]) end
end
return dropped
