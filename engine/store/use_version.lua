-- Put one of an assistant's versions in force.
-- KEYS 1 assistant  2 its versions
-- ARGV 1 version
-- Returns {assistant id, version, newest version, created at, updated at, JSON}. Error ASSISTANT_NOT_FOUND, also when it
-- has no such version.
--@include clock
--@include assistant
local version = redis.call('HGET', KEYS[2], ARGV[1])
if not version then return redis.error_reply('ASSISTANT_NOT_FOUND Assistant or version not found.') end
local facts = string.sub(version, string.find(version, ' ', 1, true) + 1)
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'updated_at', now_ms(), 'facts', facts)
return assistant_at(KEYS[1])
