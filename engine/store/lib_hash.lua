-- open_hash(key, ...): a hash that several steps of a script read and change: these fields are read, once. What `set_in` sets
-- is seen there at once, and written by write_hash, all of it in one command.
local function open_hash(key, ...)
  local hash = {key = key, holds = {}, fresh = {}}
  local values = redis.call('HMGET', key, ...)
  for i, field in ipairs({...}) do hash.holds[field] = values[i] end
  return hash
end
local function set_in(hash, field, value)
  hash.holds[field], hash.fresh[field] = value, value
end
local function write_hash(hash)
  local words = {}
  for field, value in pairs(hash.fresh) do words[#words + 1], words[#words + 2] = field, value end
  if #words > 0 then redis.call('HSET', hash.key, unpack(words)) end
  hash.fresh = {}
end
-- drop_from(hash, ...): remove these fields at once, also from what is yet to be written.
local function drop_from(hash, ...)
  redis.call('HDEL', hash.key, ...)
  for _, field in ipairs({...}) do hash.holds[field], hash.fresh[field] = false, nil end
end
