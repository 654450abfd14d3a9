-- Read an item; perhaps its time to live begins anew.
-- KEYS 1 item  2 items that expire
-- ARGV 1 name of the item  2 '1' to let its time to live begin anew
-- Returns {value, created at, updated at, ms to live} or nil.
--@include clock
local item = redis.call('HMGET', KEYS[1], 'value', 'created_at', 'updated_at', 'ttl_ms')
if not item[1] then return false end
local ttl = tonumber(item[4])
if ARGV[2] == '1' and ttl > 0 then
  local ends = now_ms() + ttl
  redis.call('PEXPIREAT', KEYS[1], ends)
  redis.call('ZADD', KEYS[2], ends, ARGV[1])
end
return item
