-- Give an assistant a new version, if it still is as it was read: metadata is merged outside and must not lose a race.
-- KEYS 1 assistant  2 its versions
-- ARGV 1 newest version it was read with  2 JSON it was read with  3 what it says now as JSON  4 a word for this edit
-- Returns {assistant id, version, newest version, created at, updated at, JSON}, or nil when it has changed since.
-- Error ASSISTANT_NOT_FOUND. The same edit a second time changes nothing.
--@include clock
--@include assistant
local now = redis.call('HMGET', KEYS[1], 'newest', 'facts', 'edit')
if not now[1] then return redis.error_reply('ASSISTANT_NOT_FOUND Assistant not found.') end
if now[3] == ARGV[4] then return assistant_at(KEYS[1]) end
if now[1] ~= ARGV[1] or now[2] ~= ARGV[2] then return false end
local at, version = now_ms(), tonumber(now[1]) + 1
redis.call('HSET', KEYS[1], 'version', version, 'newest', version, 'updated_at', at, 'facts', ARGV[3], 'edit', ARGV[4])
redis.call('HSET', KEYS[2], version, at .. ' ' .. ARGV[3])
return assistant_at(KEYS[1])
