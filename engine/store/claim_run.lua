-- Take the lease of a run that waits for a worker.
-- KEYS 1 run  2 leases  3 waiting  4 branches  5 deadlines
-- ARGV 1 run id  2 owner  3 nonce (one for each delivery of a wake-up, so that a lost reply can be asked for again)
--      4 length of the lease in ms
-- Returns {ms now, the run as a flat hash, its branches as a flat hash, ms of the wake-up} or nil: somebody else has
-- it, or it is over. The ms of the wake-up are 0 when it cannot be told which one led here: of a run that was woken
-- again there may be two, and the older would be taken for the newer.
--@include clock
local state = redis.call('HMGET', KEYS[1], 'phase', 'nonce', 'lease', 'rewoken')
local at = now_ms()
local woken = not state[4] and redis.call('ZSCORE', KEYS[3], ARGV[1])
if not (state[3] and state[2] == ARGV[3]) then
  if state[1] ~= 'waiting' then return false end
  local token = redis.call('HINCRBY', KEYS[1], 'token', 1)
  redis.call('HSETNX', KEYS[1], 'started_at', at)
  redis.call('HSET', KEYS[1], 'phase', 'leased', 'lease', token, 'owner', ARGV[2], 'nonce', ARGV[3], 'updated_at', at)
  redis.call('ZADD', KEYS[2], at + tonumber(ARGV[4]), ARGV[1])
  redis.call('ZREM', KEYS[3], ARGV[1])
  local timeout = redis.call('HGET', KEYS[1], 'timeout_ms')
  if timeout and redis.call('HSETNX', KEYS[1], 'deadline_at', at + tonumber(timeout)) == 1 then
    redis.call('ZADD', KEYS[5], at + tonumber(timeout), ARGV[1])
  end
end
return {at, redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[4]), tonumber(woken or 0)}
