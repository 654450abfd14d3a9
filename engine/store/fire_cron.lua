-- Fire a cron: start its run and set its next time in one step, so that each time is fired once, whoever crashes.
-- KEYS 1 cron  2 due crons  3.. the keys of create_run
-- ARGV 1 cron id  2 ms it was to fire at  3 ms it fires next or ''  4.. the arguments of create_run
-- Returns what create_run does, the same again when sent twice; {'refused', why} when no run could be started; {} when
-- it has fired already, or does not fire then any more.
--@include clock
--@include tenant
--@include line
--@include hash
--@include label
--@include create
local known = redis.call('HMGET', KEYS[1], 'next_at', 'last_run_id')
if known[2] == ARGV[4] then return create_run({unpack(KEYS, 3)}, {unpack(ARGV, 4)}) end
if known[1] ~= ARGV[2] then return {} end
redis.call('HSET', KEYS[1], 'next_at', ARGV[3])
if ARGV[3] == '' then redis.call('ZREM', KEYS[2], ARGV[1]) else redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1]) end
local started = create_run({unpack(KEYS, 3)}, {unpack(ARGV, 4)})
if started.err then
  redis.call('HSET', KEYS[1], 'problem', started.err)
  return {'refused', started.err}
end
redis.call('HINCRBY', KEYS[1], 'fired', 1)
redis.call('HSET', KEYS[1], 'last_run_id', ARGV[4], 'problem', '')
return started
