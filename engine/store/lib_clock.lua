-- now(): the server's wall clock in ms, the same throughout a script. Scripts never take time from their callers: those
-- clocks differ.
local clock
local function now_ms()
  if not clock then
    local t = redis.call('TIME')
    clock = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
  end
  return clock
end
