-- Store what a task wrote, under the checkpoint it ran on.
-- KEYS 1 the fence's hash  2 the checkpoint  3 loose  4 the run  5 the checkpoint whose waiting answer was taken
--      (1, 4 and 5 repeat another key when not used)
-- ARGV 1 fence's field ('' = not fenced)  2 its value  3 member of loose
--      4 'progress': tell the run  'entered': and that its input is saved  '' = neither
--      5 the field of that answer in 5, '' = none  6 the field below that says who took it: when it changes, 5 goes
--      7, 8 ... field and value: a field that begins with w is kept when it is there, one with x is replaced
-- Returns 1. Sent again it changes nothing.
--@include clock
--@include fence
if ARGV[1] ~= '' and not held(KEYS[1], ARGV[1], ARGV[2]) then return lease_lost() end
local changed = false
for i = 7, #ARGV, 2 do
  if string.byte(ARGV[i]) == 119 then
    if redis.call('HSETNX', KEYS[2], ARGV[i], ARGV[i + 1]) == 1 then changed = true end
  elseif redis.call('HGET', KEYS[2], ARGV[i]) ~= ARGV[i + 1] then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
    if ARGV[5] ~= '' and ARGV[i] == ARGV[6] then redis.call('HDEL', KEYS[5], ARGV[5]) end
    changed = true
  end
end
if changed and redis.call('HEXISTS', KEYS[2], 'c') == 0 then redis.call('SADD', KEYS[3], ARGV[3]) end
if ARGV[4] == '' then return 1 end
if changed then redis.call('HSET', KEYS[4], 'progress_at', now_ms()) end
if ARGV[4] == 'entered' and redis.call('HGET', KEYS[4], 'entered') ~= 'checkpoint' then
  redis.call('HSET', KEYS[4], 'entered', 'writes')
end
return 1
