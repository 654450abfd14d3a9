-- place_of(run, hash, holder): where the run stands, for whoever has it or a branch of it in hand.
local function place_of(run, hash, holder)
  return (redis.call('HGET', run, 'step') or '') .. '/' .. (redis.call('HGET', hash, holder .. ':depth') or '')
end
-- count_death(run, hash, holder, field): one more worker died over the run, or over one of its branches. Those that died
-- before the graph came as far as it is now are forgotten: only what stands still and takes workers down is stopped.
-- A death that was a deadline's doing ('spared') is none. Returns the count.
local function count_death(run, hash, holder, field)
  if redis.call('HDEL', hash, holder .. ':spared') == 1 then return tonumber(redis.call('HGET', hash, field) or '0') end
  local place = place_of(run, hash, holder)
  if redis.call('HGET', hash, field .. '_at') ~= place then redis.call('HSET', hash, field .. '_at', place, field, 0) end
  return redis.call('HINCRBY', hash, field, 1)
end
-- count_branch_death(run, branches, branch): one death takes many branches, so the run has had as many in its superstep
-- as the branch that has had the most.
local function count_branch_death(run, branches, branch)
  local deaths = count_death(run, branches, branch, branch .. ':crashes')
  local place = place_of(run, run, 'lease')
  local known = redis.call('HMGET', run, 'crashes_at', 'crashes')
  if known[1] ~= place or deaths > tonumber(known[2]) then
    redis.call('HSET', run, 'crashes_at', place, 'crashes', deaths)
  end
end
