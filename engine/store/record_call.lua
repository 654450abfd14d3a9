-- Tell a circuit what a call came to. Told twice (its reply was lost), a call of a closed circuit counts twice.
-- KEYS 1 circuit  2 waiting  3 log
-- ARGV 1 caller  2 epoch it was admitted in  3 result (ok | error | slow | void)  4 share of errors at which it opens
--      5 share of slow calls above which it opens  6 calls it takes  7 length of the window in ms  8 ms it stays open
--      9 how many have to succeed when it is half open  10 channel
-- Returns {mode, epoch, ms now, mode it was in before when that was another, else '', why, members to wake ...}.
--@include clock
--@include circuit
local at, caller, result = now_ms(), ARGV[1], ARGV[3]
local window_ms, open_ms = tonumber(ARGV[7]), tonumber(ARGV[8])
local s, before, why, members = load_circuit(KEYS[1]), '', '', {}
local function change(mode, ends, because)
  before, why = s.mode, because
  s, members = turn(KEYS[1], KEYS[2], KEYS[3], s, mode, ends, false, because, '', at, ARGV[10])
end
local function try_out()
  local left = {}
  for _, probe in ipairs(s.probes) do
    if probe[1] ~= caller then left[#left + 1] = probe end
  end
  if #left == #s.probes then return end
  if result == 'error' or result == 'slow' then
    return change('open', at + open_ms, result == 'error' and 'a trial call failed' or 'a trial call was slow')
  end
  s.probes, s.passed = left, s.passed + (result == 'ok' and 1 or 0)
  if s.passed >= tonumber(ARGV[9]) then return change('closed', 0, s.passed .. ' trial calls succeeded') end
  save_circuit(KEYS[1], s)
end
local function count()
  local length = math.max(1, math.floor(window_ms / 10))
  local begins, kept = at - at % length, {}
  for _, part in ipairs(s.window) do
    if part[1] > at - window_ms then kept[#kept + 1] = part end
  end
  if #kept == 0 or kept[#kept][1] ~= begins then kept[#kept + 1] = {begins, 0, 0, 0} end
  local last = kept[#kept]
  last[2] = last[2] + 1
  if result == 'error' then last[3] = last[3] + 1 end
  if result == 'slow' then last[4] = last[4] + 1 end
  local calls, errors, slow = 0, 0, 0
  for _, part in ipairs(kept) do calls, errors, slow = calls + part[2], errors + part[3], slow + part[4] end
  if calls >= tonumber(ARGV[6]) then
    local of = ' of ' .. calls .. ' calls '
    if errors >= tonumber(ARGV[4]) * calls then return change('open', at + open_ms, errors .. of .. 'failed') end
    if slow > tonumber(ARGV[5]) * calls then return change('open', at + open_ms, slow .. of .. 'were slower than their SLA') end
  end
  s.window = kept
  save_circuit(KEYS[1], s)
end
if not s.forced and tonumber(ARGV[2]) == s.epoch then
  if s.mode == 'half_open' then try_out()
  elseif s.mode == 'closed' and result ~= 'void' then count() end
end
local answer = {s.mode, s.epoch, at, before, why}
for _, member in ipairs(members) do answer[#answer + 1] = member end
return answer
