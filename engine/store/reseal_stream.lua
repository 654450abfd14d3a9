-- Write a stream anew with the same ids, since its entries cannot be changed. Its readers go on where they were.
-- KEYS 1 stream
-- ARGV 1 id of its newest entry  2 how many it has  then each entry: id, number of words, words
-- Returns 1, or 0 when it has changed since it was read, or is gone; then nothing is done.
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('XLEN', KEYS[1]) ~= tonumber(ARGV[2]) then return 0 end
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if not newest or newest[1] ~= ARGV[1] then return 0 end
local info, last = redis.call('XINFO', 'STREAM', KEYS[1]), nil
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then last = info[i + 1] end
end
local ttl = redis.call('PTTL', KEYS[1])
redis.call('DEL', KEYS[1])
local i = 3
while i <= #ARGV do
  local words = tonumber(ARGV[i + 1])
  redis.call('XADD', KEYS[1], ARGV[i], unpack(ARGV, i + 2, i + 1 + words))
  i = i + 2 + words
end
redis.call('XSETID', KEYS[1], last)
if ttl > 0 then redis.call('PEXPIRE', KEYS[1], ttl) end
return 1
