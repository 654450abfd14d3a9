-- Lines: runs that wait for a worker, one line for each tenant of a queue, and the tenants by whose turn it is. There are
-- lines only while some tenant other than the default, some run with a priority, or one that was parked waits. Their keys are made from a
-- run's, because queue and tenant are known only here; all share the hash tag of the partition.
local function lines_of(run, queue)
  return string.match(run, '^(.-}):') .. ':lines:' .. queue
end
local function line_of(run, queue, tenant)
  return string.match(run, '^(.-}):') .. ':line:' .. queue .. ':' .. tenant
end
-- place_of(priority, at): where a run stands in its line: those of a higher priority first, then in order of time.
local function place_of(priority, at)
  return at - (tonumber(priority or '0') or 0) * 1e13
end
-- join_line_of(...): let a run that waits since `at` be found by wake-ups of other runs. What it was parked for is kept for
-- it for a moment only, so one that was parked (`at` is 0) goes before its tenant's others. join_line reads what is
-- needed of the run.
local function join_line_of(run, run_id, at, queue, tenant, priority)
  local lines = lines_of(run, queue)
  if at > 0 and tenant == '' and not priority and redis.call('EXISTS', lines) == 0 then return end
  redis.call('ZADD', line_of(run, queue, tenant), place_of(priority, at), run_id)
  redis.call('ZADD', lines, 'NX', at, tenant)
end
local function join_line(run, run_id, at)
  local of = redis.call('HMGET', run, 'queue', 'tenant', 'priority')
  join_line_of(run, run_id, at, of[1], of[2] or '', of[3])
end
