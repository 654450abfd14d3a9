-- Become, or stay, the process that runs recovery.
-- KEYS 1 leader
-- ARGV 1 this process  2 ms the office lasts
-- Returns {1 when this process leads else 0, ms now}.
--@include clock
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {0, now_ms()} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {1, now_ms()}
