-- save_checkpoint(keys, k, a, last): store a checkpoint, its new channel values, and that its run has come this far.
-- KEYS k+ 1 checkpoints of the namespace  2 the checkpoint  3 channels of the namespace  4 checkpoints of the run (2 again
--      when it is in none)  5 namespaces  6 loose (these two when it may be the first of its namespace, or had writes)
-- ARGV a+ 1 checkpoint id  2 body  3 metadata  4 parent id or ''  5 channels and versions (see checkpoints.py)
--      6 run id or ''  7 member of 4
--      8 who is told: '' = nobody  'run' = the run  'first' = the run, that its input is saved, too  a number = the fence,
--      of a graph so deep within the run's  9 its step  10 how many of the following are values
--      11, 12 ... field of 3 and value, then the fields of versions that have none, at last with keys 5 and 6 the
--      namespace and the member of loose
-- Done again it changes nothing: a checkpoint that is there already does not tell its run anew. Needs the libraries
-- clock, depth and told.
local function save_checkpoint(keys, k, a, last)
  local key, tell = KEYS[k + 2], ARGV[a + 8]
  if redis.call('ZADD', KEYS[k + 1], 0, ARGV[a + 1]) == 1 then
    if keys == 6 then
      redis.call('SADD', KEYS[k + 5], ARGV[last - 1])
      redis.call('SREM', KEYS[k + 6], ARGV[last])
    end
    if tell == 'run' or tell == 'first' then
      tell_run('progress_at', now_ms())
      tell_run('step', ARGV[a + 9])
      if tell == 'first' then
        tell_run('entered', 'checkpoint')
        input_saved = true
        tell_run('lease:depth', '')
        redis.call('HSETNX', run_key, 'base_step', ARGV[a + 9])
      end
    elseif tell ~= '' then note_depth(fence_key, fence_field, tonumber(tell), tonumber(ARGV[a + 9])) end
  end
  if ARGV[a + 6] == '' then
    redis.call('HSET', key, 'c', ARGV[a + 2], 'm', ARGV[a + 3], 'p', ARGV[a + 4], 'f', ARGV[a + 5])
  else
    redis.call('HSET', key, 'c', ARGV[a + 2], 'm', ARGV[a + 3], 'p', ARGV[a + 4], 'f', ARGV[a + 5], 'r', ARGV[a + 6])
    redis.call('SADD', KEYS[k + 4], ARGV[a + 7])
  end
  -- A thousand at a time: more than a few thousand arguments are too many for one call.
  local first, fields = a + 11 + tonumber(ARGV[a + 10]), keys == 6 and last - 2 or last
  for i = a + 11, first - 1, 1000 do redis.call('HSET', KEYS[k + 3], unpack(ARGV, i, math.min(i + 999, first - 1))) end
  for i = first, fields, 1000 do redis.call('HDEL', KEYS[k + 3], unpack(ARGV, i, math.min(i + 999, fields))) end
end
