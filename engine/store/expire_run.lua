-- End a run whose deadline has passed, whoever has it in hand: a worker that does is fenced off.
-- KEYS 1 run  2 thread  3 thread's queue  4 leases  5 waiting  6 due  7 ended  8 events  9 branches  10 deadlines
--      11 dead letters  12 webhook  13 webhooks  14 failed webhooks
-- ARGV 1 run id  2 ms a worker that has it in hand is given to end it itself  3 ms the events are kept
--      4 prefix of run keys  5 report for the `end` event as JSON  6 error as JSON
--      7 ms after which recovery wakes the run's webhook, '' without one
-- Returns {1 when it was ended here else 0, next run id or '', its queue or ''}.
--@include clock
--@include branches
--@include line
--@include hash
--@include thread
--@include tenant
--@include webhook
local at = now_ms()
local run = open_hash(KEYS[1], 'phase', 'deadline_at', 'graph_id', 'assistant_id', 'fingerprint')
local phase, deadline = run.holds.phase, tonumber(run.holds.deadline_at or '0')
local in_hand = phase == 'leased' or phase == 'cancelling'
if not phase or not (in_hand or phase == 'waiting' or phase == 'due' or phase == 'parked' or phase == 'dispatched') then
  redis.call('ZREM', KEYS[10], ARGV[1])
  return {0, '', ''}
end
if deadline == 0 or at < deadline + (in_hand and tonumber(ARGV[2]) or 0) then return {0, '', ''} end
redis.call('HDEL', KEYS[1], 'lease', 'owner')
set_in(run, 'error', ARGV[6])
drop_branches(KEYS[9], KEYS[4], KEYS[5], ARGV[1], KEYS[6])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('ZREM', KEYS[6], ARGV[1])
redis.call('ZREM', KEYS[10], ARGV[1])
bury(KEYS[11], KEYS[1], ARGV[1], at)
local thread = open_thread(KEYS[2])
set_in(thread, 'updated_at', at)
leave(thread, run, 'error', ARGV[6], '{}')
local following = admit_next(thread, KEYS[3], KEYS[5], ARGV[4], ARGV[1], at)
write_hash(thread)
settle(run, KEYS[8], KEYS[7], ARGV[1], 'timed_out', ARGV[5], at, tonumber(ARGV[3]))
redis.call('ZREM', KEYS[7], ARGV[1])  -- kept as long as dead letters are
if ARGV[7] ~= '' then
  remember(KEYS[12], KEYS[2])
  owe(KEYS[1], KEYS[13], KEYS[14], ARGV[1], at, tonumber(ARGV[7]))
end
return {1, following[1] or '', following[2] or ''}
