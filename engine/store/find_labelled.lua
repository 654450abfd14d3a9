-- Find the threads that may have a label, with the ms of their last change.
-- KEYS 1 threads with the label  2 threads with more labels than are kept  3 the tenant's threads
-- Returns {thread id, ms, ...} in no order; what is not among 3 is left out.
local found, ids = {}, redis.call('SUNION', KEYS[1], KEYS[2])
for first = 1, #ids, 1000 do
  local some = {unpack(ids, first, math.min(first + 999, #ids))}
  for i, ms in ipairs(redis.call('ZMSCORE', KEYS[3], unpack(some))) do
    if ms then found[#found + 1], found[#found + 2] = some[i], ms end
  end
end
return found
