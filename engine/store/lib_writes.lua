-- save_writes(keys, k, a, last): store what a task wrote, under the checkpoint it ran on.
-- KEYS k+ 1 the checkpoint  2 loose (when the checkpoint may not be there yet, or with 3)
--      3 the checkpoint whose waiting answer was taken (if one was)
-- ARGV a+ 1 '' or what the run is told: 'progress', 'entered' that its input is saved, too
--      with key 2: 2 member of loose   with key 3: 3 the field of that answer  4 the field below that says who took it:
--      when it changes, 3 goes
--      then field and value: a field that begins with w is kept when it is there, one with x is replaced
-- Done again it changes nothing. Needs the libraries clock and told.
local function save_writes(keys, k, a, last)
  local key, first, changed = KEYS[k + 1], a + (keys == 1 and 2 or keys == 2 and 3 or 5), false
  -- A thousand at a time: more than a few thousand arguments are too many for one call.
  for from = first, last, 1000 do
    local fields, fresh, latest = {}, {}, {}  -- a field may come twice
    for i = from, math.min(from + 999, last), 2 do fields[#fields + 1] = ARGV[i] end
    for n, stored in ipairs(redis.call('HMGET', key, unpack(fields))) do
      local field, value = fields[n], ARGV[from + 2 * n - 1]
      stored = latest[field] or stored
      if not stored or (string.byte(field) ~= 119 and stored ~= value) then
        fresh[#fresh + 1], fresh[#fresh + 2], latest[field] = field, value, value
        if keys == 3 and field == ARGV[a + 4] then redis.call('HDEL', KEYS[k + 3], ARGV[a + 3]) end
      end
    end
    if #fresh > 0 then
      redis.call('HSET', key, unpack(fresh))
      changed = true
    end
  end
  if keys > 1 and changed and redis.call('HEXISTS', key, 'c') == 0 then redis.call('SADD', KEYS[k + 2], ARGV[a + 2]) end
  local tell = ARGV[a + 1]
  if tell ~= '' and changed then tell_progress() end
  if tell == 'entered' and not input_saved and redis.call('HGET', run_key, 'entered') ~= 'checkpoint' then tell_run('entered', 'writes') end
end
