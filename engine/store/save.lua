-- Save what a run has come to since it last did, all of it or nothing: what tasks wrote, checkpoints, events, records.
-- KEYS 1 the fence's hash  2.. the keys of the parts, one part's after another's
-- ARGV 1 fence's field ('' = not fenced)  2 its value  3.. the parts, see the library save
-- Returns 1. Sent again it changes nothing.
--@include clock
--@include fence
--@include depth
--@include put
--@include writes
--@include tell
--@include note
--@include save
if ARGV[1] ~= '' and not held(KEYS[1], ARGV[1], ARGV[2]) then return lease_lost() end
save_parts({key = KEYS[1], field = ARGV[1], value = ARGV[2]}, 2, 3)
return 1
