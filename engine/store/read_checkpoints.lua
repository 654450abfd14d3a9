-- Several checkpoints of one namespace with their pending writes, and every channel value that any of them needs, once.
-- KEYS 1 channels of the namespace  2 ... the checkpoints
-- Returns {{{field, value, ...} of each checkpoint}, {channel field, channel value, ...}}; a checkpoint that is gone
-- is an empty list.
local found, values, seen = {}, {}, {}
for i = 2, #KEYS do
  local versions = redis.call('HGET', KEYS[i], 'f')
  found[i - 1] = versions and redis.call('HGETALL', KEYS[i]) or {}
  for channel, version in string.gmatch(versions or '', '([^%z]*)%z([^%z]*)%z') do
    local field = channel .. '\0' .. version
    if not seen[field] then
      seen[field] = true
      local value = redis.call('HGET', KEYS[1], field)
      if value then
        values[#values + 1] = field
        values[#values + 1] = value
      end
    end
  end
end
return {found, values}
