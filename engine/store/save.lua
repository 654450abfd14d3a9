-- Save what a run has come to since it last did, all of it or nothing: what tasks wrote, checkpoints, events, records.
-- KEYS 1 the fence's hash  2 the run's hash, or 1 again when it is told nothing  3.. the keys of the parts, one part's
--      after another's
-- ARGV 1 fence's field ('' = not fenced)  2 its value  3 number of this save among those under this fence, '' = none
--      4.. the parts, see the library save
-- Returns 1. Sent again it changes nothing: `saved:<field>:<value>` in the fence's hash is the number of the last save, and
-- what has no number may hold only checkpoints and writes, which are the same again. SAVE_MISSING, and nothing is saved,
-- when the save before it has not come: a store that could not take that one may take this one.
--@include clock
--@include fence
--@include told
--@include depth
--@include put
--@include writes
--@include tell
--@include note
--@include save
local saved = 'saved:' .. ARGV[1] .. ':' .. ARGV[2]
if ARGV[1] ~= '' then
  local known = redis.call('HMGET', KEYS[1], ARGV[1], saved)
  if (known[1] or '') ~= ARGV[2] then return lease_lost() end
  if ARGV[3] ~= '' then
    local last, this = tonumber(known[2] or '0'), tonumber(ARGV[3])
    if last >= this then return 1 end
    if last + 1 < this then return redis.error_reply('SAVE_MISSING The save before this one has not come.') end
    if KEYS[1] == KEYS[2] then tell_run(saved, ARGV[3]) else redis.call('HSET', KEYS[1], saved, ARGV[3]) end
  end
end
fence_key, fence_field, run_key = KEYS[1], ARGV[1], KEYS[2]
save_parts(2, 4)
if #told > 0 then redis.call('HSET', KEYS[2], unpack(told)) end
return 1
