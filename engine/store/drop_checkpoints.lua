-- Remove checkpoints, their pending writes, and their entries in the indexes of their runs. Channel values stay.
-- KEYS 1 the fence's hash  2 checkpoints of the namespace  3, 4 ... a checkpoint and the index of its run
-- ARGV 1 fence's field ('' = not fenced)  2 its value
--      3, 4 ... for each checkpoint its id, '' = only the index is concerned, and its member there, '' = it is in none
-- Returns how many there were. A caller removes newer ones first: what is left then never lacks an ancestor.
--@include fence
if ARGV[1] ~= '' and not held(KEYS[1], ARGV[1], ARGV[2]) then return lease_lost() end
local dropped = 0
for i = 3, #ARGV, 2 do
  if ARGV[i] ~= '' then
    dropped = dropped + redis.call('ZREM', KEYS[2], ARGV[i])
    redis.call('UNLINK', KEYS[i])
  end
  if ARGV[i + 1] ~= '' then redis.call('SREM', KEYS[i + 1], ARGV[i + 1]) end
end
return dropped
