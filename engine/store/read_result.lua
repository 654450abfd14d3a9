-- Find the values that a run left on its thread: what the thread shows now, or what leads back to them.
-- KEYS 1 thread  2 thread's results
-- ARGV 1 run id
-- Returns {values (packed), {the edits that make of them the values of a run}, {what makes of these the values before
-- them, and so on until those of the run}}; {} when they are not kept (any more).
local shown = redis.call('HMGET', KEYS[1], 'values', 'values_of', 'edits')
local values, edits, way = shown[1] or '', {}, {}
for i = 1, tonumber(shown[3] or '0') do edits[i] = redis.call('HGET', KEYS[1], 'values:' .. i) end
if shown[2] == ARGV[1] then return {values, edits, way} end
for _, entry in ipairs(redis.call('XREVRANGE', KEYS[2], '+', '-')) do
  local fields = entry[2]
  if fields[3] == 'v' then
    values, edits, way = fields[4], {}, {}
    for i = 6, #fields, 2 do edits[#edits + 1] = fields[i] end
  else way[#way + 1] = fields[4] end
  if fields[2] == ARGV[1] then return {values, edits, way} end
end
return {}
