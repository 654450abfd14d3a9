-- Store a checkpoint, its new channel values, and that its run has come this far.
-- KEYS 1 the fence's hash  2 checkpoints of the namespace  3 the checkpoint  4 channels of the namespace
--      5 namespaces  6 loose  7 checkpoints of the run  8 the run   (1, 7 and 8 repeat another key when not used)
-- ARGV 1 fence's field ('' = not fenced)  2 its value  3 namespace  4 checkpoint id  5 member of loose
--      6 body  7 metadata  8 parent id or ''  9 channels and versions (see checkpoints.py)
--      10 run id or ''  11 member of 7  12 step of the run, '' = the run is not to be told
--      13 depth of a graph within the run's, 0 = none  14 its step
--      15, 16 ... field of 4 and value, '' = this version has none
-- Returns 1. Sent again it changes nothing: a checkpoint that is there already does not tell its run anew.
--@include clock
--@include fence
--@include depth
if ARGV[1] ~= '' and not held(KEYS[1], ARGV[1], ARGV[2]) then return lease_lost() end
if redis.call('ZADD', KEYS[2], 0, ARGV[4]) == 1 then
  redis.call('SADD', KEYS[5], ARGV[3])
  redis.call('SREM', KEYS[6], ARGV[5])
  if ARGV[12] ~= '' then
    redis.call('HSET', KEYS[8], 'entered', 'checkpoint', 'progress_at', now_ms(), 'step', ARGV[12], 'lease:depth', '')
    redis.call('HSETNX', KEYS[8], 'base_step', ARGV[12])
  elseif ARGV[13] ~= '0' then
    note_depth(KEYS[1], ARGV[1], tonumber(ARGV[13]), tonumber(ARGV[14]))
  end
end
redis.call('HSET', KEYS[3], 'c', ARGV[6], 'm', ARGV[7], 'p', ARGV[8], 'f', ARGV[9])
if ARGV[10] ~= '' then
  redis.call('HSET', KEYS[3], 'r', ARGV[10])
  redis.call('SADD', KEYS[7], ARGV[11])
end
for i = 15, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[4], ARGV[i])
  else
    redis.call('HSET', KEYS[4], ARGV[i], ARGV[i + 1])
  end
end
return 1
