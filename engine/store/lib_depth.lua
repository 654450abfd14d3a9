-- note_depth(hash, holder, depth, step): how far graphs within the superstep in hand have come, as 'step.step...', one
-- for each level. It only grows, so that a graph that begins anew whenever its worker dies is no progress.
local function note_depth(hash, holder, depth, step)
  local field, kept, level = holder .. ':depth', {}, 0
  for known in string.gmatch(redis.call('HGET', hash, field) or '', '[^.]+') do
    level = level + 1
    if level == depth and tonumber(known) >= step then return end
    if level < depth then kept[level] = known end
  end
  if #kept < depth - 1 then return end
  kept[depth] = step
  redis.call('HSET', hash, field, table.concat(kept, '.'))
end
