-- checkpoint_key(prefix, id): the key of a checkpoint that was found by reading. The prefix came in KEYS, so the key has
-- its hash tag. This is the one place where a key is made in a script of checkpoints.
local function checkpoint_key(prefix, id)
  return prefix .. id
end
-- values_of(channels, versions): what is stored for 'channel NUL version NUL channel NUL version ...', in that order.
local function values_of(channels, versions)
  local values, fields = {}, {}
  local function read()
    if #fields == 0 then return end
    for _, value in ipairs(redis.call('HMGET', channels, unpack(fields))) do values[#values + 1] = value end
    fields = {}
  end
  for channel, version in string.gmatch(versions, '([^%z]*)%z([^%z]*)%z') do
    fields[#fields + 1] = channel .. '\0' .. version
    if #fields == 1000 then read() end
  end
  read()
  return values
end
