-- Let an API key work no longer. Its record stays, so that a log that names it can be understood.
-- KEYS 1 key
-- Returns the key as a flat hash; revoking it again changes nothing. Error API_KEY_NOT_FOUND.
--@include clock
if redis.call('EXISTS', KEYS[1]) == 0 then return redis.error_reply('API_KEY_NOT_FOUND There is no such key.') end
redis.call('HSETNX', KEYS[1], 'revoked_at', now_ms())
return redis.call('HGETALL', KEYS[1])
