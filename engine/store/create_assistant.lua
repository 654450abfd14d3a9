-- Make an assistant, at version 1.
-- KEYS 1 assistant  2 its versions  3 assistants
-- ARGV 1 assistant id  2 what it says as JSON  3 'raise' or 'do_nothing' when there is one already
-- Returns {assistant id, version, newest version, created at, updated at, JSON}. Error ASSISTANT_EXISTS.
--@include clock
--@include assistant
if redis.call('EXISTS', KEYS[1]) == 1 then
  if ARGV[3] ~= 'do_nothing' then return redis.error_reply('ASSISTANT_EXISTS An assistant with this id exists already.') end
  return assistant_at(KEYS[1])
end
local at = now_ms()
redis.call('HSET', KEYS[1], 'assistant_id', ARGV[1], 'version', 1, 'newest', 1, 'created_at', at, 'updated_at', at,
  'facts', ARGV[2])
redis.call('HSET', KEYS[2], 1, at .. ' ' .. ARGV[2])
redis.call('ZADD', KEYS[3], at, ARGV[1])
return assistant_at(KEYS[1])
