-- show_values(thread, results, values, kept, at, ttl_ms): the values (packed) that a thread shows from now on, an open one
-- with values_of and edits. Needs the library hash.
-- kept.run is whose result they are if its `end` refers to them, else ''. Those before are kept if an `end` refers to
-- them, for ttl_ms from now: as kept.back, which makes them from the new ones, if it was made for them (kept.before)
-- and the new ones are kept, too; else as they are.
-- kept.edit is '' or nil when `values` are whole; else they are the edit of that number, from 1 on, which makes the new
-- ones from those before. Who calls has read under the run's lease that these are kept.before, with one edit less.
local function show_values(thread, results, values, kept, at, ttl_ms)
  local before, edits = thread.holds.values_of or '', {}
  for i = 1, tonumber(thread.holds.edits or '0') do edits[i] = 'values:' .. i end
  if before ~= '' then
    local entry = {'r', before, 'b', kept.back}
    if kept.run == '' or kept.before ~= before then
      entry = {'r', before, 'v', redis.call('HGET', thread.key, 'values')}
      for _, edit in ipairs(edits) do
        entry[#entry + 1] = 'e'
        entry[#entry + 1] = redis.call('HGET', thread.key, edit)
      end
    end
    redis.call('XADD', results, 'MINID', '~', math.max(0, at - ttl_ms), '*', unpack(entry))
    redis.call('PEXPIRE', results, ttl_ms)
  end
  if (kept.edit or '') ~= '' then
    set_in(thread, 'values:' .. kept.edit, values)
    set_in(thread, 'edits', kept.edit)
  else
    if #edits > 0 then drop_from(thread, 'edits', unpack(edits)) end
    set_in(thread, 'values', values)
  end
  set_in(thread, 'state_updated_at', at)
  if before ~= kept.run then set_in(thread, 'values_of', kept.run) end
end
