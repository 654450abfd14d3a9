-- Count the tasks of a fan-out that have answered; once they are enough, the time of the rest begins.
-- KEYS 1 the hash the fence is in  2 run  3 branches  4 cuts
-- ARGV 1 field of the fence  2 token  3 run id  4 superstep  5 key of the fan-out  6 how many are enough
--      7 ms that the rest gets  8 ... ids of tasks that have answered
-- Returns in how many ms the rest is cut off, or nil: not enough have answered. Counted twice is counted once.
-- What branches know is put together in the branches' hash. It may be ahead of what is saved: whoever cuts off looks.
--@include clock
--@include fence
--@include parts
if not held(KEYS[1], ARGV[1], ARGV[2]) then return lease_lost() end
local answered = #ARGV - 7
if answered < tonumber(ARGV[6]) then
  local counter = 'answers:' .. ARGV[5]
  for i = 8, #ARGV do
    if redis.call('HSETNX', KEYS[3], 'answered:' .. ARGV[i], 1) == 1 then redis.call('HINCRBY', KEYS[3], counter, 1) end
  end
  answered = tonumber(redis.call('HGET', KEYS[3], counter) or '0')
  if answered < tonumber(ARGV[6]) then return false end
end
local at = now_ms()
begin_parts(KEYS[2], ARGV[4])
local cut = 'cut:' .. ARGV[5]
redis.call('HSETNX', KEYS[2], cut, at + tonumber(ARGV[7]))
local ends = tonumber(redis.call('HGET', KEYS[2], cut))
if redis.call('HGET', KEYS[2], 'phase') == 'dispatched' then redis.call('ZADD', KEYS[4], 'LT', ends, ARGV[3]) end
return ends - at
