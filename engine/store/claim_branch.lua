-- Take the lease of one branch of a dispatched superstep.
-- KEYS 1 run  2 branches  3 leases  4 waiting  5 due
-- ARGV 1 run id  2 branch  3 nonce  4 length of the lease in ms
-- Returns {ms now, token, tasks as JSON, the run as a flat hash, ms of the wake-up or 0 (see claim_run),
-- what the last holder was to be killed for or nil} or nil: somebody else has it, or it is over.
--@include clock
local state = redis.call('HMGET', KEYS[2], ARGV[2], ARGV[2] .. ':nonce', ARGV[2] .. ':tasks', ARGV[2] .. ':rewoken')
local at = now_ms()
local token = state[1]
local member = ARGV[1] .. '/' .. ARGV[2]
local woken = not state[4] and redis.call('ZSCORE', KEYS[4], member)
if not (token and token ~= 'done' and state[2] == ARGV[3]) then
  if token ~= '' or redis.call('HGET', KEYS[1], 'phase') ~= 'dispatched' then return false end
  token = redis.call('HINCRBY', KEYS[1], 'token', 1)
  redis.call('HSET', KEYS[2], ARGV[2], token, ARGV[2] .. ':nonce', ARGV[3])
  redis.call('ZADD', KEYS[3], at + tonumber(ARGV[4]), member)
  redis.call('ZREM', KEYS[4], member)
  redis.call('ZREM', KEYS[5], member)
end
local run = redis.call('HGETALL', KEYS[1])
redis.call('HDEL', KEYS[1], 'parked:' .. ARGV[2])
return {at, tonumber(token), state[3], run, tonumber(woken or 0),
  redis.call('HGET', KEYS[2], ARGV[2] .. ':doom')}
