-- Find the values that a run left on its thread: what the thread shows now, or what leads back to them.
-- KEYS 1 thread  2 thread's results
-- ARGV 1 run id
-- Returns {values (packed), then what makes of them the values before them, and so on until those of the run}; {} when
-- they are not kept (any more).
local shown = redis.call('HMGET', KEYS[1], 'values', 'values_of')
local way = {shown[1] or ''}
if shown[2] == ARGV[1] then return way end
for _, entry in ipairs(redis.call('XREVRANGE', KEYS[2], '+', '-')) do
  local fields = entry[2]
  if fields[3] == 'v' then way = {fields[4]} else way[#way + 1] = fields[4] end
  if fields[2] == ARGV[1] then return way end
end
return {}
