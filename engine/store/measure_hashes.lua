-- Say how much each field of some hashes takes, without sending the values.
-- KEYS 1 ... the hashes; one that is not there has no fields
-- Returns for each {field, bytes of its value, ...}
local told = {}
for i = 1, #KEYS do
  local sizes = {}
  for _, field in ipairs(redis.call('HKEYS', KEYS[i])) do
    sizes[#sizes + 1] = field
    sizes[#sizes + 1] = redis.call('HSTRLEN', KEYS[i], field)
  end
  told[i] = sizes
end
return told
