-- One checkpoint with its channel values and pending writes.
-- KEYS 1 checkpoints of the namespace  2 channels of the namespace
--      3 the checkpoint, or, when ARGV 1 is '', the prefix of the namespace's checkpoints (the latest is read)
-- ARGV 1 checkpoint id or ''
-- Returns {id, {field, value, ...}, {channel value or nil, in the order of field f}}, or nil when there is none.
--@include checkpoint
local id, key = ARGV[1], KEYS[3]
if id == '' then
  id = redis.call('ZRANGE', KEYS[1], -1, -1)[1]
  if not id then return false end
  key = checkpoint_key(KEYS[3], id)
end
local versions = redis.call('HGET', key, 'f')
if not versions then return false end
return {id, redis.call('HGETALL', key), values_of(KEYS[2], versions)}
