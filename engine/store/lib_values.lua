-- show_values(thread, results, values, kept, at, ttl_ms): the values (packed) that a thread shows from now on.
-- kept.run is whose result they are if its `end` refers to them, else ''. Those before are kept if an `end` refers to
-- them, for ttl_ms from now: as kept.back, which makes them from the new ones, if it was made for them (kept.before)
-- and the new ones are kept, too; else as they are.
local function show_values(thread, results, values, kept, at, ttl_ms)
  local before = redis.call('HGET', thread, 'values_of') or ''
  if before ~= '' then
    local entry = {'r', before, 'b', kept.back}
    if kept.run == '' or kept.before ~= before then entry = {'r', before, 'v', redis.call('HGET', thread, 'values')} end
    redis.call('XADD', results, 'MINID', '~', math.max(0, at - ttl_ms), '*', unpack(entry))
    redis.call('PEXPIRE', results, ttl_ms)
  end
  redis.call('HSET', thread, 'values', values, 'state_updated_at', at)
  if before ~= kept.run then redis.call('HSET', thread, 'values_of', kept.run) end
end
