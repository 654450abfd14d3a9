-- listing_for(...): a listing of the partition as a tenant sees it; listing_of(...): as that one does which `owner` (a
-- thread, a run) belongs to. That of the default tenant is the listing itself. The name is made here, where the owner is known; it shares the hash tag.
local function listing_for(listing, tenant)
  return tenant and tenant ~= '' and listing .. ':' .. tenant or listing
end
local function listing_of(listing, owner)
  return listing_for(listing, redis.call('HGET', owner, 'tenant'))
end
-- bury(...), dig_up(...): a dead letter stands in the listing of all, by which it is pruned, and in its tenant's, also in
-- the default tenant's.
local function bury(dead, run, run_id, at)
  redis.call('ZADD', dead, at, run_id)
  redis.call('ZADD', dead .. ':' .. (redis.call('HGET', run, 'tenant') or ''), at, run_id)
end
local function dig_up(dead, run, run_id)
  local removed = redis.call('ZREM', dead, run_id)
  redis.call('ZREM', dead .. ':' .. (redis.call('HGET', run, 'tenant') or ''), run_id)
  return removed
end
