-- now(): the server's wall clock in ms. Scripts never take time from their callers: those clocks differ.
local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end
