-- save_checkpoint(keys, k, a, last): store a checkpoint, its new channel values, and that its run has come this far.
-- KEYS k+ 1 checkpoints of the namespace  2 the checkpoint  3 channels of the namespace
--      when it may be the first that a slice puts in its namespace, or had writes:
--      4 namespaces  5 loose  6 checkpoints of the run (2 again when it is in none)
-- ARGV a+ 1 checkpoint id  2 body  3 metadata  4 parent id or ''  5 channels and versions (see checkpoints.py)
--      6 run id or ''
--      7 who is told: '' = nobody  'run' = the run  'first' = the run, that its input is saved, too  a number = the fence,
--      of a graph so deep within the run's  8 its step  9 how many of the following are values
--      10, 11 ... field of 3 and value, then the fields of versions that have none, at last with keys 4 to 6 the
--      namespace, the member of loose and that of 6
-- Done again it changes nothing: a checkpoint that is there already does not tell its run anew. Needs the libraries
-- clock, depth and told.
local function save_checkpoint(keys, k, a, last)
  local key, tell = KEYS[k + 2], ARGV[a + 7]
  if redis.call('ZADD', KEYS[k + 1], 0, ARGV[a + 1]) == 1 then
    if keys == 6 then
      redis.call('SADD', KEYS[k + 4], ARGV[last - 2])
      redis.call('SREM', KEYS[k + 5], ARGV[last - 1])
    end
    if tell == 'run' or tell == 'first' then
      tell_progress()
      tell_run('step', ARGV[a + 8])
      if tell == 'first' then
        tell_run('entered', 'checkpoint')
        input_saved = true
        tell_run('lease:depth', '')
        redis.call('HSETNX', run_key, 'base_step', ARGV[a + 8])
      end
    elseif tell ~= '' then note_depth(fence_key, fence_field, tonumber(tell), tonumber(ARGV[a + 8])) end
  end
  if ARGV[a + 6] == '' then
    redis.call('HSET', key, 'c', ARGV[a + 2], 'm', ARGV[a + 3], 'p', ARGV[a + 4], 'f', ARGV[a + 5])
  else
    redis.call('HSET', key, 'c', ARGV[a + 2], 'm', ARGV[a + 3], 'p', ARGV[a + 4], 'f', ARGV[a + 5], 'r', ARGV[a + 6])
    if keys == 6 then redis.call('SADD', KEYS[k + 6], ARGV[last]) end
  end
  -- A thousand at a time: more than a few thousand arguments are too many for one call.
  local first, fields = a + 10 + tonumber(ARGV[a + 9]), keys == 6 and last - 3 or last
  for i = a + 10, first - 1, 1000 do redis.call('HSET', KEYS[k + 3], unpack(ARGV, i, math.min(i + 999, first - 1))) end
  for i = first, fields, 1000 do redis.call('HDEL', KEYS[k + 3], unpack(ARGV, i, math.min(i + 999, fields))) end
end
