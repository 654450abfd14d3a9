-- Let a run that is past its keeping stay as long again.
-- KEYS 1 ended  2 dead letters
-- ARGV 1 run id
-- Returns how many of the two it is in.
--@include clock
local at = now_ms()
local kept = 0
for i = 1, 2 do
  if redis.call('ZADD', KEYS[i], 'XX', 'CH', at, ARGV[1]) == 1 then kept = kept + 1 end
end
return kept
