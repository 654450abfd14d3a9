-- assistant_at(key): an assistant as its readers take it.
local function assistant_at(key)
  return redis.call('HMGET', key, 'assistant_id', 'version', 'newest', 'created_at', 'updated_at', 'facts')
end
