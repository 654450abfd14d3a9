-- Change fields of a thread if it still is as it was read: metadata is merged outside and must not lose a race.
-- KEYS 1 thread  2 threads
-- ARGV 1 thread id  2 the metadata it was read with, as JSON  3 its labels from now on, see the library
--      label  4.. field, value
-- Returns the thread as a flat hash, or nil when its metadata has changed since. Error THREAD_NOT_FOUND.
--@include clock
--@include tenant
--@include label
local metadata = redis.call('HGET', KEYS[1], 'metadata')
if not metadata then return redis.error_reply('THREAD_NOT_FOUND Thread not found.') end
if metadata ~= ARGV[2] then return false end
local at = now_ms()
redis.call('HSET', KEYS[1], 'updated_at', at, unpack(ARGV, 4))
local tenant = redis.call('HGET', KEYS[1], 'tenant')
label(KEYS[1], tenant, ARGV[1], ARGV[3])
redis.call('ZADD', listing_for(KEYS[2], tenant), at, ARGV[1])
return redis.call('HGETALL', KEYS[1])
