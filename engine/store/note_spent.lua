-- Count what a run has spent, with its thread, and forget the calls that spent it. Money is spent whoever has the run in
-- hand by now: no lease is asked for. Told twice (its reply was lost), it counts twice.
-- KEYS 1 run  2 thread  3 the run's calls under way  4 the thread's
-- ARGV 1 how many pairs follow, then for each pair: kind, amount; then for each call that has ended its id
-- Returns {the run's amount, the thread's, ...} in the order of the pairs.
local answer = {}
local has = {redis.call('EXISTS', KEYS[1]) == 1, redis.call('EXISTS', KEYS[2]) == 1}
local pairs_end = 1 + 2 * tonumber(ARGV[1])
for i = 2, pairs_end, 2 do
  for n = 1, 2 do
    answer[#answer + 1] = has[n] and redis.call('HINCRBYFLOAT', KEYS[n], 'spent:' .. ARGV[i], ARGV[i + 1]) or ARGV[i + 1]
  end
end
for i = pairs_end + 1, #ARGV do
  redis.call('HDEL', KEYS[3], ARGV[i])
  redis.call('HDEL', KEYS[4], ARGV[i])
end
return answer
