-- Renew the shares of a limit that one process holds, and the places of those that wait in it.
-- KEYS 1 held  2 seen
-- ARGV 1 ms a sign of life lasts  2 how many holders follow, then for each holder its name, then for each waiter its name
-- A place is never shortened: its waiter may have parked since its process said that it waits.
-- Returns how many shares are not held any more.
--@include clock
local ends, lost = now_ms() + tonumber(ARGV[1]), 0
local holders = tonumber(ARGV[2])
for i = 3, #ARGV do
  if i - 2 > holders then redis.call('ZADD', KEYS[2], 'XX', 'GT', ends, ARGV[i])
  elseif redis.call('ZSCORE', KEYS[1], ARGV[i]) then redis.call('ZADD', KEYS[1], ends, ARGV[i])
  else lost = lost + 1 end
end
return lost
