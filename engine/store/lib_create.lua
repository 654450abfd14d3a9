-- create_run(keys, args): record a run, or refuse it, with the keys and arguments of the script create_run. Its errors:
-- THREAD_NOT_FOUND, THREAD_BUSY, IDEMPOTENCY_CONFLICT. Needs the libraries clock, tenant, line, hash and
-- label.
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
  local thread = open_hash(keys[2], 'thread_id', 'hidden', 'tenant', 'metadata', 'graph_id', 'active', 'delayed')
  local there, labels, busy = thread.holds, '', false
  local is_new = not there.thread_id
  if is_new then
    if args[4] == '' then return redis.error_reply('THREAD_NOT_FOUND Thread not found.') end
    set_in(thread, 'thread_id', args[2])
    set_in(thread, 'created_at', at)
    set_in(thread, 'metadata', args[6])
    set_in(thread, 'hidden', args[4] == 'hidden' and '1' or '')
    if args[7] ~= '' then set_in(thread, 'tenant', args[7]) end
  else
    -- hidden: another run's own, or being deleted
    if there.hidden == '1' or (there.tenant or '') ~= args[7] then
      return redis.error_reply('THREAD_NOT_FOUND Thread not found.')
    end
    if there.metadata and there.metadata ~= '{}' then labels = there.metadata end
    busy = there.active or redis.call('ZCARD', keys[4]) > 0
    if args[3] == 'reject' and (busy or tonumber(there.delayed or '0') > 0) then
      return redis.error_reply('THREAD_BUSY The thread has a run in flight, and multitask_strategy is "reject".')
    end
  end
  local phase, given = 'waiting', {}
  for i = 13, #args, 2 do given[args[i]] = args[i + 1] end
  local delay = tonumber(args[5])
  if delay > 0 then
    phase, given.due_at = 'due', at + delay
    redis.call('ZADD', keys[6], at + delay, args[1])
    redis.call('HINCRBY', keys[2], 'delayed', 1)
  elseif busy then
    phase = 'queued'
    redis.call('ZADD', keys[4], redis.call('HINCRBY', keys[2], 'arrivals', 1), args[1])
  else
    set_in(thread, 'active', args[1])
    redis.call('ZADD', keys[5], at, args[1])
  end
  if labels ~= '' then given.thread_metadata = labels end
  if args[7] ~= '' then given.tenant = args[7] end
  local words = {'run_id', args[1], 'thread_id', args[2], 'strategy', args[3], 'phase', phase, 'created_at', at,
    'updated_at', at}
  for field, value in pairs(given) do words[#words + 1], words[#words + 2] = field, value end
  redis.call('HSET', keys[1], unpack(words))
  if phase == 'waiting' then
    join_line_of(keys[1], args[1], at, given.queue, args[7], given.priority)
    if args[10] ~= '' then redis.call('LPUSH', keys[9], args[10]) end
  end
  redis.call('ZADD', keys[3], at, args[1])
  set_in(thread, 'updated_at', at)
  set_in(thread, 'config', args[11])
  -- Who looks for threads of a graph finds a new one while its first run is under way; after that the runs' ends say it.
  if (there.graph_id or '') == '' then
    set_in(thread, 'graph_id', given.graph_id)
    set_in(thread, 'assistant_id', given.assistant_id)
  end
  write_hash(thread)
  if is_new and args[12] ~= '' then label(keys[2], args[7], args[2], args[12]) end
  redis.call('ZADD', listing_for(keys[7], there.tenant), at, args[2])
  if keyed then
    redis.call('HSET', keys[8], 'run_id', args[1], 'digest', args[8])
    redis.call('PEXPIRE', keys[8], args[9])
  end
  return {phase, at, args[1], labels}
end
