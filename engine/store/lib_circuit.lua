-- A circuit as engine/breaker.py knows it; its functions decide what these decide.
local function load_circuit(key)
  local of = redis.call('HMGET', key, 'mode', 'epoch', 'since', 'until', 'window', 'probes', 'passed', 'forced')
  local function list(text) return text and text ~= '' and cjson.decode(text) or {} end
  return {mode = of[1] or 'closed', epoch = tonumber(of[2] or '0'), since = tonumber(of[3] or '0'),
    ends = tonumber(of[4] or '0'), window = list(of[5]), probes = list(of[6]), passed = tonumber(of[7] or '0'),
    forced = of[8] == '1'}
end
local function save_circuit(key, s)
  local function text(list) return #list > 0 and cjson.encode(list) or '' end
  redis.call('HSET', key, 'mode', s.mode, 'epoch', s.epoch, 'since', s.since, 'until', s.ends,
    'window', text(s.window), 'probes', text(s.probes), 'passed', s.passed, 'forced', s.forced and '1' or '')
end
-- turn(...): the circuit in another mode, and everybody told. Answers it, and the members to wake that are parked.
local function turn(key, waiting, log, s, mode, ends, forced, why, by, at, channel)
  local new = {mode = mode, epoch = s.epoch + 1, since = at, ends = ends, window = {}, probes = {}, passed = 0,
    forced = forced}
  save_circuit(key, new)
  redis.call('HSET', key, 'why', why, 'by', by)
  redis.call('XADD', log, 'MAXLEN', '~', 100, '*', 'from', s.mode, 'to', mode, 'forced', forced and '1' or '',
    'why', why, 'by', by, 'at', at)
  redis.call('PUBLISH', channel, string.match(key, '{circuit:(.*)}$'))
  local members = {}
  if mode == 'closed' then
    local popped = redis.call('ZPOPMIN', waiting, 1000)
    for i = 1, #popped, 2 do members[#members + 1] = popped[i] end
  end
  return new, members
end
