-- Note that the process which held a branch (or a run) is dead, and end its lease now, for recovery to reap.
-- KEYS 1 run  2 branches  3 leases
-- ARGV 1 member of the leases  2 field of what it was to be killed for  3 that field as it was read
--      4 the same with how it died  5 '1' when it was killed for a deadline: that is the node's failure, no crash,
--      and recovery is to know it
-- Returns 1, or 0 when somebody else has begun since.
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
if redis.call('ZADD', KEYS[3], 'XX', 'CH', 0, ARGV[1]) == 1 and ARGV[5] == '1' then
  local branch = string.match(ARGV[1], '/(.+)$')
  if branch then redis.call('HSET', KEYS[2], branch .. ':spared', 1)
  else redis.call('HSET', KEYS[1], 'lease:spared', 1) end
end
return 1
