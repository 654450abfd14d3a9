-- Ask for the end of a run. What no worker has in hand ends here and now; a worker is told and ends its run itself.
-- KEYS 1 run  2 thread  3 thread's queue  4 leases  5 waiting  6 due  7 ended  8 events  9 branches
--      10 roll-backs  11 deadlines  12 webhook  13 webhooks  14 failed webhooks
-- ARGV 1 run id  2 action (interrupt | rollback; a roll-back that was asked for stays one)  3 ms the events are kept
--      4 prefix of run keys  5 report for the `end` event as JSON  6 channel on which workers listen
--      7 ms after which recovery wakes the run's webhook, '' without one  8 error for the thread as JSON
-- Returns {'cancelled' | 'cancelling' | 'rolling back', next run id or '', its queue or ''}; it is the caller's to
-- finish a roll-back.
-- Errors RUN_NOT_FOUND; INVALID_TRANSITION when it is over already.
--@include clock
--@include branches
--@include line
--@include hash
--@include thread
--@include webhook
local run = open_hash(KEYS[1], 'phase', 'started_at', 'cancel', 'graph_id', 'assistant_id', 'fingerprint')
local phase, started_at, asked = run.holds.phase, run.holds.started_at, run.holds.cancel
if not phase then return redis.error_reply('RUN_NOT_FOUND Run not found.') end
local action = asked == 'rollback' and 'rollback' or ARGV[2]
local ended = action == 'rollback' and 'rolling back' or 'cancelled'
if phase == 'cancelled' and asked == action then return {ended, '', ''} end
local at = now_ms()
if phase == 'leased' or phase == 'cancelling' then
  if phase == 'leased' or asked ~= action then
    redis.call('HSET', KEYS[1], 'phase', 'cancelling', 'cancel', action, 'updated_at', at)
  end
  redis.call('PUBLISH', ARGV[6], ARGV[1])
  return {'cancelling', '', ''}
end
if not (phase == 'queued' or phase == 'due' or phase == 'parked' or phase == 'waiting' or phase == 'dispatched') then
  return redis.error_reply('INVALID_TRANSITION The run is over already (' .. phase .. ').')
end
if phase == 'due' and redis.call('HGET', KEYS[2], 'active') ~= ARGV[1] then redis.call('HINCRBY', KEYS[2], 'delayed', -1) end
set_in(run, 'cancel', action)
drop_branches(KEYS[9], KEYS[4], KEYS[5], ARGV[1], KEYS[6])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('ZREM', KEYS[6], ARGV[1])
redis.call('ZREM', KEYS[11], ARGV[1])
local thread = open_thread(KEYS[2])
set_in(thread, 'updated_at', at)
-- Cut off between two slices, the graph has something left to do. One that never began leaves the thread as it was.
if started_at and action ~= 'rollback' then leave(thread, run, 'interrupted', ARGV[8], '{}') end
local following = {}
if action == 'rollback' then
  redis.call('ZADD', KEYS[10], at, ARGV[1])
  set_in(thread, 'rest', 'idle')
  set_in(thread, 'error', '')
else
  following = admit_next(thread, KEYS[3], KEYS[5], ARGV[4], ARGV[1], at)
end
write_hash(thread)
settle(run, KEYS[8], KEYS[7], ARGV[1], 'cancelled', ARGV[5], at, tonumber(ARGV[3]))
if ARGV[7] ~= '' and action ~= 'rollback' then
  remember(KEYS[12], KEYS[2])
  owe(KEYS[1], KEYS[13], KEYS[14], ARGV[1], at, tonumber(ARGV[7]))
end
return {ended, following[1] or '', following[2] or ''}
