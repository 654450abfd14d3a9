-- label(thread, tenant, thread_id, labels): put a thread into the sets of its labels, and out of those it was in: 'labels'
-- of its hash names them. Names of sets with spaces between them, '' = none. The keys are made from the thread's, because
-- labels and tenant are known only here; all share the hash tag of the partition.
local function label(thread, tenant, thread_id, labels)
  local before = redis.call('HGET', thread, 'labels') or ''
  if before == labels then return end
  local prefix = string.match(thread, '^(.-}):') .. ':labels:' .. (tenant or '') .. ':'
  for name in string.gmatch(before, '[^ ]+') do redis.call('SREM', prefix .. name, thread_id) end
  for name in string.gmatch(labels, '[^ ]+') do redis.call('SADD', prefix .. name, thread_id) end
  if labels == '' then redis.call('HDEL', thread, 'labels') else redis.call('HSET', thread, 'labels', labels) end
end
