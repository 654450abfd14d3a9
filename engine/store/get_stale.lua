-- Read the last good result of a node.
-- KEYS 1 the result
-- Returns {ms since it was kept, the result as stored} or nil.
--@include clock
local kept = redis.call('GET', KEYS[1])
if not kept then return false end
local at, value = string.match(kept, '^(%d+) (.*)$')
return {now_ms() - tonumber(at), value}
