-- End a run that is in hand: what it has not saved yet, final phase, the thread's new face, the last event, and the next
-- run of the thread.
-- KEYS 1 run  2 thread  3 thread's queue  4 leases  5 waiting  6 ended  7 threads  8 events  9 branches
--      10 roll-backs  11 deadlines  12 dead letters  13 webhook  14 webhooks  15 failed webhooks  16 asking
--      17 thread's results  18.. the keys of what is saved, one part's after another's
-- ARGV 1 run id  2 token  3 phase  4 status the thread is left with
--      5 error as JSON or ''; of a cancelled run for its thread alone  6 values (packed) or ''
--      7 interrupts as JSON  8 report for the `end` event as JSON  9 ms the events are kept  10 prefix of run keys
--      11 '1' to keep the thread for the roll-back that follows (delete_run then admits the next run); so it is, too,
--      when a roll-back was asked for since the caller looked, and recovery finishes that
--      12 '1' when the run becomes a dead letter  13 ms after which recovery wakes the run's webhook, '' without one
--      14 '1' when somebody is to be told that it asks a person  15 run id if the `end` refers to the values on its thread,
--      else ''  16 the run whose values 17 makes from these, or ''  17 that, see the library values
--      18 number of the edit that 6 is, or '' when they are whole  19.. what is saved, see the library save
-- Returns {next run id, its queue} or {}; {} too when it was ended by this token before.
--@include clock
--@include fence
--@include hash
--@include told
--@include release
--@include branches
--@include line
--@include thread
--@include tenant
--@include webhook
--@include depth
--@include put
--@include writes
--@include tell
--@include note
--@include save
--@include values
local run = open_run(KEYS[1], 'thread_id', 'tenant', 'deadline_at', 'graph_id', 'assistant_id', 'fingerprint')
if run.holds.lease ~= ARGV[2] then return run.holds.released == ARGV[2] and {} or lease_lost() end
local at, thread = now_ms(), open_thread(KEYS[2], 'values_of', 'edits')
fence_key, fence_field, run_key = KEYS[1], 'lease', KEYS[1]
save_parts(17, 19)
for i = 1, #told, 2 do set_in(run, told[i], told[i + 1]) end
release(run, KEYS[4], ARGV[1], ARGV[2], ARGV[3], at)
if ARGV[5] ~= '' and ARGV[3] ~= 'cancelled' then set_in(run, 'error', ARGV[5]) end
drop_branches(KEYS[9], KEYS[4], KEYS[5], ARGV[1])
if run.holds.deadline_at then redis.call('ZREM', KEYS[11], ARGV[1]) end
if ARGV[12] == '1' then bury(KEYS[12], KEYS[1], ARGV[1], at) end
redis.call('ZADD', listing_for(KEYS[7], run.holds.tenant), at, run.holds.thread_id)
set_in(thread, 'updated_at', at)
local following = {}
local rolls_back = ARGV[11] == '1' or (ARGV[3] == 'cancelled' and run.holds.cancel == 'rollback')
if rolls_back then
  redis.call('ZADD', KEYS[10], at, ARGV[1])
  set_in(thread, 'rest', 'idle')
  set_in(thread, 'error', '')
else
  leave(thread, run, ARGV[4], ARGV[5], ARGV[7])
  if ARGV[6] ~= '' then
    local kept = {run = ARGV[15], before = ARGV[16], back = ARGV[17], edit = ARGV[18]}
    show_values(thread, KEYS[17], ARGV[6], kept, at, tonumber(ARGV[9]))
  end
  following = admit_next(thread, KEYS[3], KEYS[5], ARGV[10], ARGV[1], at)
end
write_hash(thread)
settle(run, KEYS[8], KEYS[6], ARGV[1], ARGV[3], ARGV[8], at, tonumber(ARGV[9]))
if ARGV[12] == '1' then redis.call('ZREM', KEYS[6], ARGV[1]) end  -- kept as long as dead letters are
if ARGV[14] == '1' then redis.call('ZADD', KEYS[16], at, ARGV[1]) end
if ARGV[13] ~= '' and not rolls_back then
  remember(KEYS[13], KEYS[2])
  owe(KEYS[1], KEYS[14], KEYS[15], ARGV[1], at, tonumber(ARGV[13]))
end
return following
