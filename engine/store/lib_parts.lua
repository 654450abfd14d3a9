-- begin_parts(run, step): what is noted of the fan-outs of one superstep is forgotten with the first note of another.
local function begin_parts(run, step)
  if redis.call('HGET', run, 'parts_of') == step then return end
  for _, field in ipairs(redis.call('HKEYS', run)) do
    if string.sub(field, 1, 5) == 'part:' or string.sub(field, 1, 4) == 'cut:' then redis.call('HDEL', run, field) end
  end
  redis.call('HSET', run, 'parts_of', step)
end
