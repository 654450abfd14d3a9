-- save_records(k, a, last): append to a run's ledger.
-- KEYS k+ 1 records
-- ARGV a+ 1 most records to keep  2.. each record as JSON
local function save_records(k, a, last)
  for i = a + 2, last do redis.call('XADD', KEYS[k + 1], 'MAXLEN', '~', ARGV[a + 1], '*', 'r', ARGV[i]) end
end
