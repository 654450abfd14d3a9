-- Save what a run has come to since it last did, all of it or nothing: what tasks wrote, checkpoints, events, records.
-- KEYS 1 the fence's hash  2.. the keys of the parts, one part's after another's
-- ARGV 1 fence's field ('' = not fenced)  2 its value  3.. for each part: its name (checkpoint, writes, events or
--      records), how many keys and how many arguments it has, its arguments; see the libraries put, writes, tell, note
-- Returns 1. Sent again it changes nothing.
--@include clock
--@include fence
--@include depth
--@include put
--@include writes
--@include tell
--@include note
if ARGV[1] ~= '' and not held(KEYS[1], ARGV[1], ARGV[2]) then return lease_lost() end
local fence = {key = KEYS[1], field = ARGV[1], value = ARGV[2]}
local key, arg = 2, 3
while arg <= #ARGV do
  local part, many_keys, many = ARGV[arg], tonumber(ARGV[arg + 1]), tonumber(ARGV[arg + 2])
  local keys, args = {}, {}
  for i = 1, many_keys do keys[i] = KEYS[key + i - 1] end
  for i = 1, many do args[i] = ARGV[arg + 2 + i] end
  if part == 'checkpoint' then save_checkpoint(fence, keys, args)
  elseif part == 'writes' then save_writes(keys, args)
  elseif part == 'events' then save_events(fence, keys, args)
  else save_records(fence, keys, args) end
  key, arg = key + many_keys, arg + 3 + many
end
return 1
