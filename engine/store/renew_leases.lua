-- Renew the leases that one process holds in one partition.
-- KEYS 1 leases, then for each lease: 2i the hash its fence is in, 2i+1 the run
-- ARGV 1 length of a lease in ms, then for each lease: member of `leases`, field of the fence, token
-- Returns for each lease 0 lost, 1 renewed, 2 renewed and its run is to be cancelled.
--@include clock
--@include fence
local ends = now_ms() + tonumber(ARGV[1])
local answers = {}
for i = 1, (#KEYS - 1) / 2 do
  local member, field, token = ARGV[3 * i - 1], ARGV[3 * i], ARGV[3 * i + 1]
  if held(KEYS[2 * i], field, token) then
    redis.call('ZADD', KEYS[1], ends, member)
    answers[i] = redis.call('HEXISTS', KEYS[2 * i + 1], 'cancel') == 1 and 2 or 1
  else
    answers[i] = 0
  end
end
return answers
