-- save_parts(k, a): save the parts whose keys begin after KEYS[k], and whose arguments after ARGV[a]: that one is a JSON list
-- of each part's name (checkpoint, writes, events, records or fields) and how many keys and how many arguments it has.
-- Needs the libraries clock, told, depth, put, writes, tell and note.
local function save_parts(k, a)
  local parts = cjson.decode(ARGV[a])
  for i = 1, #parts, 3 do
    local part, keys, last = parts[i], parts[i + 1], a + parts[i + 2]
    if part == 'checkpoint' then save_checkpoint(keys, k, a, last)
    elseif part == 'writes' then save_writes(keys, k, a, last)
    elseif part == 'events' then save_events(keys, k, a, last)
    elseif part == 'records' then save_records(k, a, last)
    else for field = a + 1, last, 2 do tell_run(ARGV[field], ARGV[field + 1]) end end
    k, a = k + keys, last
  end
end
