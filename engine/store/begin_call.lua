-- Let one more call of a model or a tool begin, when the budgets leave room for it whatever those under way come to: so no
-- budget is overshot by more than the call that begins last.
-- KEYS 1 account, 2 its calls under way, then for each further account the same two
-- ARGV 1 id of the call  2 ms after which a call that nobody speaks for is over  3 kind it is counted as, or ''
--      4 tokens it takes at most  5 what it costs at most  6 '1' to make accounts that are not there
--      7 number of fields to answer, then for each: its name; then for each account the number of its limits and for
--      each of those kind, limit
-- Returns {'' | 'wait' | 'reached', number of the account, kind, spent, limit, then for each account its fields}. Asked
-- again for a call that has begun, it only speaks for it.
--@include clock
local at = now_ms()
local call, kind = ARGV[1], ARGV[3]
local fields, position = {}, 8 + tonumber(ARGV[7])
for i = 8, position - 1 do fields[#fields + 1] = ARGV[i] end
local verdict, begun = {'', '', '', '', ''}, false
for i = 1, #KEYS, 2 do
  local under_way = {tokens = 0, cost = 0}
  local calls = redis.call('HGETALL', KEYS[i + 1])
  for n = 1, #calls, 2 do
    local ends, tokens, cost = string.match(calls[n + 1], '(%S+) (%S+) (%S+)')
    if calls[n] == call then begun = true
    elseif tonumber(ends) < at then redis.call('HDEL', KEYS[i + 1], calls[n])
    else under_way = {tokens = under_way.tokens + tokens, cost = under_way.cost + cost} end
  end
  local limits = tonumber(ARGV[position])
  for n = position + 1, position + 2 * limits, 2 do
    local what = ARGV[n]
    local known = redis.call('HMGET', KEYS[i], 'spent:' .. what, 'granted:' .. what)
    local spent, most = tonumber(known[1] or '0'), tonumber(ARGV[n + 1]) + tonumber(known[2] or '0')
    local told = {'reached', (i + 1) / 2, what, known[1] or '0', tostring(most)}
    if under_way[what] then
      if spent >= most then verdict = told
      elseif spent + under_way[what] >= most and verdict[1] == '' then verdict[1] = 'wait' end
    elseif what == kind and spent >= most then verdict = told end
  end
  position = position + 1 + 2 * limits
end
if begun then verdict = {'', '', '', '', ''} end
for i = 1, #KEYS, 2 do
  local here = ARGV[6] == '1' or redis.call('EXISTS', KEYS[i]) == 1
  if verdict[1] == '' and here then
    if kind ~= '' and not begun then redis.call('HINCRBYFLOAT', KEYS[i], 'spent:' .. kind, 1) end
    redis.call('HSET', KEYS[i + 1], call, string.format('%.0f', at + ARGV[2]) .. ' ' .. ARGV[4] .. ' ' .. ARGV[5])
    redis.call('PEXPIRE', KEYS[i + 1], ARGV[2])
  end
  for _, amount in ipairs(redis.call('HMGET', KEYS[i], unpack(fields))) do verdict[#verdict + 1] = amount or '0' end
end
return verdict
