-- open_run(key, ...): a run to be let go of, with what that needs of it, and these fields. Needs the library hash.
local function open_run(key, ...)
  return open_hash(key, 'lease', 'released', 'cancel', 'slices', 'phase', ...)
end
-- release(...): let go of a run's lease. 'released' keeps the token, so that a repeated script knows its own work;
-- 'came_from' tells the next slice how the last one ended.
local function release(run, leases, run_id, token, phase, at)
  set_in(run, 'phase', phase)
  set_in(run, 'updated_at', at)
  set_in(run, 'released', token)
  set_in(run, 'came_from', phase)
  set_in(run, 'slices', tonumber(run.holds.slices or '0') + 1)
  drop_from(run, 'lease', 'owner', 'saved:lease:' .. token)
  redis.call('ZREM', leases, run_id)
end
