-- Leave out of some threads those that cannot have the labels that are asked for, so that their records need not be read.
-- KEYS 1 the partition's threads
-- ARGV 1 prefix of thread keys  2 labels as JSON: words and whole numbers by name  3.. thread ids
-- Returns the ids of the others, in their order: of one whose labels cannot be read that is not known, so it stays.
local wanted = cjson.decode(ARGV[2])
local function may_have(labels)
  for name, value in pairs(wanted) do
    if labels[name] ~= value then return false end
  end
  return true
end
local left = {}
for i = 3, #ARGV do
  local stored = redis.call('HMGET', ARGV[1] .. ARGV[i], 'metadata', 'graph_id', 'assistant_id')
  local readable, labels = pcall(cjson.decode, stored[1] or '{}')
  if readable and stored[2] and stored[2] ~= '' then
    labels.graph_id, labels.assistant_id = stored[2], stored[3] or ''
  end
  if not readable or may_have(labels) then left[#left + 1] = ARGV[i] end
end
return left
