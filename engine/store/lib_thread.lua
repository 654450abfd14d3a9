-- open_thread(key, ...): a thread to be handed on, with what that needs of it, and these fields. Needs the library hash.
local function open_thread(key, ...)
  return open_hash(key, 'active', 'fingerprint', 'degraded', ...)
end
-- admit_next(...): hand the thread, an open one, to the run that waits behind `run_id`, if that one had it.
-- Returns {next run id, its queue} or {}. The next run's key is made from `run_prefix`: it is known only here, and it
-- shares the hash tag of all the others. Needs the libraries hash and line.
local function admit_next(thread, thread_queue, waiting, run_prefix, run_id, at)
  if thread.holds.active ~= run_id then return {} end
  local popped = redis.call('ZPOPMIN', thread_queue)
  if #popped == 0 then
    drop_from(thread, 'active')
    return {}
  end
  local following = run_prefix .. popped[1]
  set_in(thread, 'active', popped[1])
  redis.call('HSET', following, 'phase', 'waiting', 'updated_at', at)
  redis.call('ZADD', waiting, at, popped[1])
  join_line(following, popped[1], at)
  return {popped[1], redis.call('HGET', following, 'queue')}
end
-- leave(...): how an ended run leaves its thread, both open; of the run graph_id, assistant_id and fingerprint. One that is rolled back leaves it idle, with the state from before.
-- What it did without is left to the run that goes on with it. One that never ran leaves the graph's version as it was.
local function leave(thread, run, rest, error, interrupts)
  set_in(thread, 'rest', rest)
  set_in(thread, 'error', error)
  set_in(thread, 'interrupts', interrupts)
  set_in(thread, 'graph_id', run.holds.graph_id or '')
  set_in(thread, 'assistant_id', run.holds.assistant_id or '')
  set_in(thread, 'fingerprint', run.holds.fingerprint or thread.holds.fingerprint or '')
  local without = {}
  if rest == 'interrupted' then
    for _, field in ipairs(redis.call('HKEYS', run.key)) do
      if string.sub(field, 1, 9) == 'degraded:' then without[#without + 1] = redis.call('HGET', run.key, field) end
    end
  end
  if #without > 0 then set_in(thread, 'degraded', '[' .. table.concat(without, ',') .. ']')
  elseif thread.holds.degraded then drop_from(thread, 'degraded') end
end
-- tell_end(events, run_id, id, report): tell whoever waits for this run's end alone, through the channel of its
-- partition and its maker, whom the last two digits of its id name: the run, and its last event, unless that is large;
-- then who waits reads it. A channel is no key; its name begins as that of the run's events does.
local function tell_end(events, run_id, id, report)
  local told = #report <= 8192 and run_id .. ' ' .. id .. ' ' .. report or run_id
  redis.call('PUBLISH', string.match(events, '^.-:{%d+}:') .. 'ends:' .. string.sub(run_id, -2), told)
end
-- settle(...): write that a run has ended, an open one, with all that is set in it, and tell whoever waits for it: the
-- stream's last entry is `end`.
local function settle(run, events, ended, run_id, phase, report, at, events_ttl_ms)
  set_in(run, 'phase', phase)
  set_in(run, 'ended_at', at)
  set_in(run, 'updated_at', at)
  write_hash(run)
  redis.call('ZADD', ended, at, run_id)
  local id = redis.call('XADD', events, '*', 'e', 'end', 'd', report)
  redis.call('PEXPIRE', events, events_ttl_ms)
  redis.call('PUBLISH', events, 'end')
  tell_end(events, run_id, id, report)
end
