-- Ask a circuit whether a call may be made. A caller that is told to wait may leave the name of what is to be woken.
-- KEYS 1 circuit  2 waiting  3 log
-- ARGV 1 caller  2 ms it stays open  3 how many may try when it is half open  4 its thresholds as JSON, to be shown
--      5 member to wake once it is closed, '' for none  6 ms the member waits  7 channel
-- Returns {1 when it may call else 0, epoch, 1 when the call is to try the circuit else 0, ms to wait, mode, ms now,
-- mode it was in before when that was another, else ''}. Asking twice is the same as once.
--@include clock
--@include circuit
local at, caller, probes = now_ms(), ARGV[1], tonumber(ARGV[3])
local s, before = load_circuit(KEYS[1]), ''
local function answer(may, probe, wait)
  if may == 0 and ARGV[5] ~= '' then
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', at)
    redis.call('ZADD', KEYS[2], at + tonumber(ARGV[6]), ARGV[5])
  end
  return {may, s.epoch, probe, wait, s.mode, at, before}
end
redis.call('HSET', KEYS[1], 'thresholds', ARGV[4])
if s.mode == 'closed' then return answer(1, 0, 0) end
if s.forced then return answer(0, 0, 0) end
if s.mode == 'open' then
  if at < s.ends then return answer(0, 0, s.ends - at) end
  before = s.mode
  s = turn(KEYS[1], KEYS[2], KEYS[3], s, 'half_open', 0, false, 'it was open for long enough', '', at, ARGV[7])
end
for _, probe in ipairs(s.probes) do
  if probe[1] == caller then return answer(1, 1, 0) end
end
if #s.probes + s.passed >= probes then
  local live = {}
  for _, probe in ipairs(s.probes) do
    if probe[2] > at then live[#live + 1] = probe end
  end
  if #live + s.passed >= probes then return answer(0, 0, tonumber(ARGV[2])) end
  s.probes = live
end
s.probes[#s.probes + 1] = {caller, at + tonumber(ARGV[2])}
save_circuit(KEYS[1], s)
return answer(1, 1, 0)
