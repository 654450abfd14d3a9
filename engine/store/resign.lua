-- Lay down the office of leader, if this process has it, so that another takes over at once.
-- KEYS 1 leader
-- ARGV 1 this process
-- Returns 1 when it had it else 0.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
