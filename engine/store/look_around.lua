-- See what recovery has to do in a partition: most often nothing.
-- KEYS 1 due  2 cuts  3 leases  4 webhooks  5 deadlines  6 waiting
-- ARGV 1 ms after which a wake-up is too young to be lost
-- Returns for each key 1 when something in it has had its time, else 0.
--@include clock
local found, at = {}, now_ms()
for i, key in ipairs(KEYS) do
  found[i] = #redis.call('ZRANGEBYSCORE', key, '-inf', i == 6 and ARGV[1] or at, 'LIMIT', 0, 1)
end
return found
