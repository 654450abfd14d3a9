-- Remove checkpoints, their pending writes, and their entries in the indexes of their runs. Channel values stay.
-- KEYS 1 the fence's hash  2 checkpoints of the namespace  3, 4 ... a checkpoint and the index of its run
-- ARGV 1 fence's field ('' = not fenced)  2 its value
--      3, 4, 5 ... for each checkpoint its id, '' = only the index is concerned, its member there, '' = it is in none, and
--      the member that takes its place there, '' = none does
-- Returns how many there were. A caller removes newer ones first: what is left then never lacks an ancestor.
--@include fence
if ARGV[1] ~= '' and not held(KEYS[1], ARGV[1], ARGV[2]) then return lease_lost() end
local dropped = 0
local k = 3
for i = 3, #ARGV, 3 do
  if ARGV[i] ~= '' then
    dropped = dropped + redis.call('ZREM', KEYS[2], ARGV[i])
    redis.call('UNLINK', KEYS[k])
  end
  local indexed = ARGV[i + 1] ~= '' and redis.call('SREM', KEYS[k + 1], ARGV[i + 1]) == 1
  if indexed and ARGV[i + 2] ~= '' then redis.call('SADD', KEYS[k + 1], ARGV[i + 2]) end
  k = k + 2
end
return dropped
