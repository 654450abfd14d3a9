-- drop_item(...): remove an item and every trace of it; a namespace without items is none.
local function drop_item(item, items, namespaces, expiring, namespace, key, name)
  redis.call('DEL', item)
  redis.call('ZREM', expiring, name)
  redis.call('ZREM', items, key)
  if redis.call('EXISTS', items) == 0 then redis.call('ZREM', namespaces, namespace) end
end
