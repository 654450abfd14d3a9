-- save_records(k, a, last): append to a run's ledger.
-- KEYS k+ 1 records
-- ARGV a+ 1 most records to keep, '' = none is to go now  2.. each record as JSON
-- Needs the library clock.
local function save_records(k, a, last)
  local records = KEYS[k + 1]
  for i = a + 2, last do
    local id = redis.call('XADD', records, '*', 'r', ARGV[i])
    clock = clock or tonumber(string.match(id, '^%d+'))  -- an id begins with the time: to ask for that costs more
  end
  if ARGV[a + 1] ~= '' then redis.call('XTRIM', records, 'MAXLEN', '~', ARGV[a + 1]) end
end
