-- drop_branches(...): forget the branches of a run, and their places among the leases, the waiting and, where some may
-- be parked, what is due.
local function drop_branches(branches, leases, waiting, run_id, due)
  local fields = redis.call('HKEYS', branches)
  if #fields == 0 then return end
  for _, field in ipairs(fields) do
    if not string.find(field, ':', 1, true) then
      redis.call('ZREM', leases, run_id .. '/' .. field)
      redis.call('ZREM', waiting, run_id .. '/' .. field)
      if due then redis.call('ZREM', due, run_id .. '/' .. field) end
    end
  end
  redis.call('DEL', branches)
end
