-- Find the threads that may have some labels, with the ms of their last change.
-- KEYS 1 the tenant's threads  2 threads with more labels than are kept  3.. threads with each of the labels
-- ARGV 1 most threads to look at
-- Returns {thread id, ms, ...} in no order, or nil: of each of the labels there are more. What is not among 1 is left out.
local fewest, sets = math.huge, {unpack(KEYS, 3)}
for _, set in ipairs(sets) do fewest = math.min(fewest, redis.call('SCARD', set)) end
if fewest + redis.call('SCARD', KEYS[2]) > tonumber(ARGV[1]) then return false end
local found = {}
local function add(ids)
  for first = 1, #ids, 1000 do
    local some = {unpack(ids, first, math.min(first + 999, #ids))}
    for i, ms in ipairs(redis.call('ZMSCORE', KEYS[1], unpack(some))) do
      if ms then found[#found + 1], found[#found + 2] = some[i], ms end
    end
  end
end
add(redis.call('SINTER', unpack(sets)))
add(redis.call('SMEMBERS', KEYS[2]))
return found
