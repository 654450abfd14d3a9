-- save_parts(k, a): save the parts whose keys begin after KEYS[k], and whose arguments after ARGV[a]: that one says for
-- each part its name (checkpoint, writes, events, records or fields), how many keys and how many arguments it has.
-- Needs the libraries clock, told, depth, put, writes, tell and note.
local function save_parts(k, a)
  for part, keys, many in string.gmatch(ARGV[a], '(%a+) (%d+) (%d+)') do
    keys = tonumber(keys)
    local last = a + many
    if part == 'checkpoint' then save_checkpoint(keys, k, a, last)
    elseif part == 'writes' then save_writes(keys, k, a, last)
    elseif part == 'events' then save_events(keys, k, a, last)
    elseif part == 'records' then save_records(k, a, last)
    else for i = a + 1, last, 2 do tell_run(ARGV[i], ARGV[i + 1]) end end
    k, a = k + keys, last
  end
end
