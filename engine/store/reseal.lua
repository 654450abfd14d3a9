-- Put a value in the place of the one it was made from, and only of that: what was written since stays.
-- KEYS 1 a hash, a list or a string
-- ARGV 1 'hash', 'list' or 'string'  then for each value: field or index ('' in a string), SHA-1 of what is there, value
-- Returns how many were put. Sent again it puts nothing more.
local put = 0
for i = 2, #ARGV, 3 do
  local at, was, value = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local now
  if ARGV[1] == 'hash' then now = redis.call('HGET', KEYS[1], at)
  elseif ARGV[1] == 'list' then now = redis.call('LINDEX', KEYS[1], at)
  else now = redis.call('GET', KEYS[1]) end
  if now and redis.sha1hex(now) == was then
    put = put + 1
    if ARGV[1] == 'hash' then redis.call('HSET', KEYS[1], at, value)
    elseif ARGV[1] == 'list' then redis.call('LSET', KEYS[1], at, value)
    else redis.call('SET', KEYS[1], value, 'KEEPTTL') end
  end
end
return put
