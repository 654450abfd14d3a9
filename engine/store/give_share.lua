-- Give a share of a limit back, or a place in its queue, or nothing; then give the room there is to who waits longest.
-- KEYS 1 limit  2 held  3 queue  4 seen  5 wakes
-- ARGV 1 holder or ''  2 waiter that leaves the queue or ''  3 ms for which nobody is to begin (the provider said so)
--      4 ms a share that is given to a waiter is reserved  5 channel on which those that wait in their processes are told
-- Returns {waiter, member to wake or '', ...} of those that have been given a share.
--@include clock
--@include limit
local at = now_ms()
if ARGV[1] ~= '' then redis.call('ZREM', KEYS[2], ARGV[1]) end
if ARGV[2] ~= '' then
  redis.call('ZREM', KEYS[2], ARGV[2])
  redis.call('ZREM', KEYS[3], ARGV[2])
  redis.call('ZREM', KEYS[4], ARGV[2])
  redis.call('HDEL', KEYS[5], ARGV[2], 'ticket:' .. ARGV[2], 'again:' .. ARGV[2], 'woken:' .. ARGV[2])
end
local blocked = tonumber(ARGV[3])
if blocked > 0 and at + blocked > tonumber(redis.call('HGET', KEYS[1], 'blocked_until') or '0') then
  redis.call('HSET', KEYS[1], 'blocked_until', at + blocked)
end
return serve(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], at, tonumber(ARGV[4]), ARGV[5])
