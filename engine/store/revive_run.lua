-- Take a dead letter up again, or a run that is parked because a node's attempts are used up: the same run goes on from
-- its last checkpoint.
-- KEYS 1 run  2 thread  3 waiting  4 ended  5 dead letters  6 events  7 due
-- ARGV 1 run id  2 what its tasks are to be taken to have returned, as JSON by task id
--      3 '1' when a changed graph is accepted as it is
-- Returns {1, its queue}; {0, ''} when it is not a dead letter (any more). Errors RUN_NOT_FOUND, THREAD_BUSY when
-- another run has its thread. The `end` its readers have seen is taken out of its stream: the next one counts.
--@include clock
--@include tenant
local phase = redis.call('HGET', KEYS[1], 'phase')
if not phase then return redis.error_reply('RUN_NOT_FOUND Run not found.') end
local parked = phase == 'parked'
  and string.find(redis.call('HGET', KEYS[1], 'parked') or '', '"why":"exhausted"', 1, true)
if not parked and not redis.call('ZSCORE', KEYS[5], ARGV[1]) then return {0, ''} end
if (redis.call('HGET', KEYS[2], 'active') or ARGV[1]) ~= ARGV[1] then
  return redis.error_reply('THREAD_BUSY Another run has the thread; replay this one when that has ended.')
end
local at = now_ms()
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.find(field, '^attempts:') or string.find(field, '^again:') or string.find(field, '^part:')
    or string.find(field, '^cut:') or string.find(field, '^round:') then redis.call('HDEL', KEYS[1], field) end
end
redis.call('HDEL', KEYS[1], 'error', 'ended_at', 'deadline_at', 'crashes', 'crashes_at', 'cancel')
redis.call('HSET', KEYS[1], 'phase', 'waiting', 'updated_at', at, 'came_from', 'crash', 'supplied', ARGV[2])
if ARGV[3] == '1' then
  redis.call('HDEL', KEYS[1], 'fingerprint')
  redis.call('HDEL', KEYS[2], 'fingerprint')
end
redis.call('HINCRBY', KEYS[1], 'replays', 1)
redis.call('HSET', KEYS[2], 'active', ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[7], ARGV[1])
dig_up(KEYS[5], KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[3], at, ARGV[1])
local last = redis.call('XREVRANGE', KEYS[6], '+', '-', 'COUNT', 1)[1]
if last and last[2][2] == 'end' then redis.call('XDEL', KEYS[6], last[1]) end
redis.call('PERSIST', KEYS[6])
return {1, redis.call('HGET', KEYS[1], 'queue')}
