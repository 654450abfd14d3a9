-- held(key, field, value): whether HGET key field equals value; a field that is not set equals ''.
local function held(key, field, value)
  return (redis.call('HGET', key, field) or '') == value
end
local function lease_lost()
  return redis.error_reply('LEASE_LOST The lease of this run belongs to someone else now.')
end
