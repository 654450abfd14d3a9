-- A member of `leases` and `waiting` is a run id, or <run id>/<branch>. Their keys are made from `run_prefix`, because
-- which runs are concerned is known only here; all share the hash tag of the partition.
local function keys_of(member, run_prefix)
  local run_id, branch = string.match(member, '^([^/]+)/(.+)$')
  local run = run_prefix .. (run_id or member)
  return run, branch, run .. ':branches'
end
local function queue_of(member, run_prefix)
  local run, branch, branches = keys_of(member, run_prefix)
  if branch then return redis.call('HGET', branches, branch .. ':queue') end
  return redis.call('HGET', run, 'queue')
end
-- mark_rewoken(...): two wake-ups of this member may be on their way from now on; see claim_run.
local function mark_rewoken(member, run_prefix)
  local run, branch, branches = keys_of(member, run_prefix)
  if branch then redis.call('HSET', branches, branch .. ':rewoken', 1)
  else redis.call('HSET', run, 'rewoken', 1) end
end
