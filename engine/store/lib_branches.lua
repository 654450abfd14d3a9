-- drop_branches(...): forget the branches of a run, and their places among the leases and the waiting.
local function drop_branches(branches, leases, waiting, run_id)
  for _, field in ipairs(redis.call('HKEYS', branches)) do
    if not string.find(field, ':', 1, true) then
      redis.call('ZREM', leases, run_id .. '/' .. field)
      redis.call('ZREM', waiting, run_id .. '/' .. field)
    end
  end
  redis.call('DEL', branches)
end
