-- save_writes(keys, args): store what a task wrote, under the checkpoint it ran on.
-- keys 1 the checkpoint  2 loose  3 the run  4 the checkpoint whose waiting answer was taken   (3 and 4 repeat 1 when not
--      used)
-- args 1 member of loose  2 'progress': tell the run  'entered': and that its input is saved  '' = neither
--      3 the field of that answer in 4, '' = none  4 the field below that says who took it: when it changes, 3 goes
--      5, 6 ... field and value: a field that begins with w is kept when it is there, one with x is replaced
-- Done again it changes nothing. Needs the library clock.
local function save_writes(keys, args)
  local changed = false
  for i = 5, #args, 2 do
    if string.byte(args[i]) == 119 then
      if redis.call('HSETNX', keys[1], args[i], args[i + 1]) == 1 then changed = true end
    elseif redis.call('HGET', keys[1], args[i]) ~= args[i + 1] then
      redis.call('HSET', keys[1], args[i], args[i + 1])
      if args[3] ~= '' and args[i] == args[4] then redis.call('HDEL', keys[4], args[3]) end
      changed = true
    end
  end
  if changed and redis.call('HEXISTS', keys[1], 'c') == 0 then redis.call('SADD', keys[2], args[1]) end
  if args[2] == '' then return end
  if changed then redis.call('HSET', keys[3], 'progress_at', now_ms()) end
  if args[2] == 'entered' and redis.call('HGET', keys[3], 'entered') ~= 'checkpoint' then
    redis.call('HSET', keys[3], 'entered', 'writes')
  end
end
