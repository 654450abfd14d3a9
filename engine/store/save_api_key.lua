-- Record an API key, perhaps in the place of another one, which goes on working for a while.
-- KEYS 1 key  2 keys  3 the key whose place it takes, or KEYS[1] again
-- ARGV 1 id of the key  2 ms the other one goes on working  3 ms it works itself, 0: for ever  4.. field, value
-- Returns the key as a flat hash. Error API_KEY_NOT_FOUND when the other one is not there, or was revoked. The same
-- again when sent twice.
--@include clock
local at = now_ms()
if redis.call('EXISTS', KEYS[1]) == 1 then return redis.call('HGETALL', KEYS[1]) end
if KEYS[3] ~= KEYS[1] then
  local other = redis.call('HMGET', KEYS[3], 'digest', 'revoked_at', 'expires_at')
  if not other[1] or other[2] then return redis.error_reply('API_KEY_NOT_FOUND There is no such key, or it was revoked.') end
  local ends = at + tonumber(ARGV[2])
  if other[3] then ends = math.min(ends, tonumber(other[3])) end
  redis.call('HSET', KEYS[3], 'expires_at', ends, 'replaced_by', ARGV[1])
end
redis.call('HSET', KEYS[1], 'key_id', ARGV[1], 'created_at', at, unpack(ARGV, 4))
if tonumber(ARGV[3]) > 0 then redis.call('HSET', KEYS[1], 'expires_at', at + tonumber(ARGV[3])) end
redis.call('ZADD', KEYS[2], at, ARGV[1])
return redis.call('HGETALL', KEYS[1])
