-- save_checkpoint(fence, keys, args): store a checkpoint, its new channel values, and that its run has come this far.
-- keys 1 checkpoints of the namespace  2 the checkpoint  3 channels of the namespace  4 namespaces  5 loose
--      6 checkpoints of the run  7 the run   (6 and 7 repeat 2 when not used)
-- args 1 namespace  2 checkpoint id  3 member of loose  4 body  5 metadata  6 parent id or ''
--      7 channels and versions (see checkpoints.py)  8 run id or ''  9 member of 6
--      10 step of the run, '' = the run is not to be told  11 depth of a graph within the run's, 0 = none  12 its step
--      13 how many of the following are values  14, 15 ... field of 3 and value, then the fields of versions that have none
-- Done again it changes nothing: a checkpoint that is there already does not tell its run anew. Needs the libraries
-- clock and depth.
local function save_checkpoint(fence, keys, args)
  if redis.call('ZADD', keys[1], 0, args[2]) == 1 then
    redis.call('SADD', keys[4], args[1])
    redis.call('SREM', keys[5], args[3])
    if args[10] ~= '' then
      redis.call('HSET', keys[7], 'entered', 'checkpoint', 'progress_at', now_ms(), 'step', args[10], 'lease:depth', '')
      redis.call('HSETNX', keys[7], 'base_step', args[10])
    elseif args[11] ~= '0' then
      note_depth(fence.key, fence.field, tonumber(args[11]), tonumber(args[12]))
    end
  end
  if args[8] == '' then
    redis.call('HSET', keys[2], 'c', args[4], 'm', args[5], 'p', args[6], 'f', args[7])
  else
    redis.call('HSET', keys[2], 'c', args[4], 'm', args[5], 'p', args[6], 'f', args[7], 'r', args[8])
    redis.call('SADD', keys[6], args[9])
  end
  -- A thousand at a time: more than a few thousand arguments are too many for one call.
  local last = 13 + tonumber(args[13])
  for i = 14, last, 1000 do redis.call('HSET', keys[3], unpack(args, i, math.min(i + 999, last))) end
  for i = last + 1, #args, 1000 do redis.call('HDEL', keys[3], unpack(args, i, math.min(i + 999, #args))) end
end
