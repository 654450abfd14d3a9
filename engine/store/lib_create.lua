-- create_run(keys, args): record a run, or refuse it, with the keys and arguments of the script create_run. Its errors:
-- THREAD_NOT_FOUND, THREAD_BUSY, IDEMPOTENCY_CONFLICT. Needs the libraries clock, tenant and line.
local function create_run(keys, args)
  local known = redis.call('HMGET', keys[1], 'phase', 'created_at', 'thread_metadata')
  if known[1] then return {known[1], tonumber(known[2]), args[1], known[3] or ''} end
  local at = now_ms()
  local keyed = keys[8] ~= keys[1]
  if keyed then
    local before = redis.call('HMGET', keys[8], 'run_id', 'digest')
    if before[1] and before[2] ~= args[8] then
      return redis.error_reply('IDEMPOTENCY_CONFLICT The Idempotency-Key was used for another request before.')
    end
    if before[1] then return {'', at, before[1], ''} end
  end
  local labels, graph = '', ''
  if redis.call('EXISTS', keys[2]) == 0 then
    if args[4] == '' then return redis.error_reply('THREAD_NOT_FOUND Thread not found.') end
    redis.call('HSET', keys[2], 'thread_id', args[2], 'created_at', at, 'metadata', args[6],
      'hidden', args[4] == 'hidden' and '1' or '')
    if args[7] ~= '' then redis.call('HSET', keys[2], 'tenant', args[7]) end
  else
    local thread = redis.call('HMGET', keys[2], 'hidden', 'tenant', 'metadata', 'graph_id')
    -- hidden: another run's own, or being deleted
    if thread[1] == '1' or (thread[2] or '') ~= args[7] then
      return redis.error_reply('THREAD_NOT_FOUND Thread not found.')
    end
    if thread[3] and thread[3] ~= '{}' then labels = thread[3] end
    graph = thread[4] or ''
  end
  local busy = redis.call('HEXISTS', keys[2], 'active') == 1 or redis.call('ZCARD', keys[4]) > 0
  if args[3] == 'reject' and (busy or tonumber(redis.call('HGET', keys[2], 'delayed') or '0') > 0) then
    return redis.error_reply('THREAD_BUSY The thread has a run in flight, and multitask_strategy is "reject".')
  end
  local phase = 'waiting'
  local delay = tonumber(args[5])
  if delay > 0 then
    phase = 'due'
    redis.call('ZADD', keys[6], at + delay, args[1])
    redis.call('HINCRBY', keys[2], 'delayed', 1)
    redis.call('HSET', keys[1], 'due_at', at + delay)
  elseif busy then
    phase = 'queued'
    redis.call('ZADD', keys[4], redis.call('HINCRBY', keys[2], 'arrivals', 1), args[1])
  else
    redis.call('HSET', keys[2], 'active', args[1])
    redis.call('ZADD', keys[5], at, args[1])
  end
  if labels ~= '' then args[#args + 1], args[#args + 2] = 'thread_metadata', labels end
  redis.call('HSET', keys[1], 'run_id', args[1], 'thread_id', args[2], 'strategy', args[3], 'phase', phase,
    'created_at', at, 'updated_at', at, unpack(args, 12))
  if args[7] ~= '' then redis.call('HSET', keys[1], 'tenant', args[7]) end
  if phase == 'waiting' then
    join_line(keys[1], args[1], at)
    if args[10] ~= '' then redis.call('LPUSH', keys[9], args[10]) end
  end
  redis.call('ZADD', keys[3], at, args[1])
  local shown = {'updated_at', at, 'config', args[11]}
  -- Who looks for threads of a graph finds a new one while its first run is under way; after that the runs' ends say it.
  for i = 12, graph == '' and 15 or 0 do shown[#shown + 1] = args[i] end
  redis.call('HSET', keys[2], unpack(shown))
  redis.call('ZADD', listing_of(keys[7], keys[2]), at, args[2])
  if keyed then
    redis.call('HSET', keys[8], 'run_id', args[1], 'digest', args[8])
    redis.call('PEXPIRE', keys[8], args[9])
  end
  return {phase, at, args[1], labels}
end
