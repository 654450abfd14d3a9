-- Record a cron, new or edited.
-- KEYS 1 cron  2 crons  3 due crons  4 its thread's crons
-- ARGV 1 cron id  2 revision it had when it was read, 0 for a new one  3 what it says, as JSON
--      4 ms it fires next, '' for never, '=' for as it is  5 why it does not fire any more or ''
--      6 '1' when it has a thread
-- Returns the cron as field, value, ...; {} when it was changed or deleted in the meantime. The same when sent twice.
--@include clock
local revision = tonumber(redis.call('HGET', KEYS[1], 'revision') or '0')
local wanted = tonumber(ARGV[2])
local at = now_ms()
if revision == wanted + 1 and redis.call('HGET', KEYS[1], 'facts') == ARGV[3] then
  return redis.call('HGETALL', KEYS[1])
end
if revision ~= wanted then return {} end
if revision == 0 then
  redis.call('HSET', KEYS[1], 'cron_id', ARGV[1], 'created_at', at)
  redis.call('ZADD', KEYS[2], at, ARGV[1])
  if ARGV[6] == '1' then redis.call('SADD', KEYS[4], ARGV[1]) end
end
redis.call('HSET', KEYS[1], 'revision', wanted + 1, 'facts', ARGV[3], 'updated_at', at, 'problem', ARGV[5])
if ARGV[4] ~= '=' then
  redis.call('HSET', KEYS[1], 'next_at', ARGV[4])
  if ARGV[4] == '' then redis.call('ZREM', KEYS[3], ARGV[1]) else redis.call('ZADD', KEYS[3], ARGV[4], ARGV[1]) end
end
return redis.call('HGETALL', KEYS[1])
