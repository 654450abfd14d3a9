-- Walk from a checkpoint to its ancestors for what some channels were written, up to where each has a stored value.
-- KEYS 1 checkpoints of the namespace  2 channels of the namespace  3 prefix of the namespace's checkpoints
-- ARGV 1 'from': start with the parent of ARGV 2 ('' = of the latest)  'at': start with ARGV 2 itself
--      2 checkpoint id or ''  3 the last ancestor to visit, '' for none: what is above it is known
--      4 how many ancestors to visit at most  5 ... the channels
-- Returns {where to go on or '', {{{write's field, write, ...}, {channel, value, ...}} of each ancestor, nearest first},
-- 1 when it came to that last one}.
-- Ends when each channel has its value, and at a parent that is not there.
--@include checkpoint
local wanted, left = {}, 0
for i = 5, #ARGV do
  if not wanted[ARGV[i]] then left = left + 1 end
  wanted[ARGV[i]] = true
end
local id = ARGV[2]
if ARGV[1] == 'from' then
  if id == '' then id = redis.call('ZRANGE', KEYS[1], -1, -1)[1] or '' end
  id = redis.call('HGET', checkpoint_key(KEYS[3], id), 'p') or ''
end
local ancestors = {}
while id ~= '' and left > 0 and #ancestors < tonumber(ARGV[4]) do
  local fields, versions, parent = redis.call('HGETALL', checkpoint_key(KEYS[3], id)), nil, ''
  local writes, values = {}, {}
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == 'f' then versions = value
    elseif name == 'p' then parent = value
    elseif #name > 1 and wanted[string.match(value, '^[^%z]*')] then
      writes[#writes + 1] = name
      writes[#writes + 1] = value
    end
  end
  if not versions then return {'', ancestors, 0} end
  for channel, version in string.gmatch(versions, '([^%z]*)%z([^%z]*)%z') do
    local value = wanted[channel] and redis.call('HGET', KEYS[2], channel .. '\0' .. version)
    if value then
      values[#values + 1] = channel
      values[#values + 1] = value
      wanted[channel], left = nil, left - 1
    end
  end
  ancestors[#ancestors + 1] = {writes, values}
  if id == ARGV[3] then return {'', ancestors, 1} end
  id = parent
end
return {left > 0 and id or '', ancestors, 0}
