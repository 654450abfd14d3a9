-- Remove what is left of items whose time to live is over. Redis frees an item itself by itself; its namespace goes on
-- listing it until somebody sweeps.
-- KEYS 1 items that expire  2 namespaces
-- ARGV 1 most items to remove  2 what keys of items begin with  3 what lists of a namespace's keys begin with
-- Returns how many were removed. The two keys of an item are made here, from its name: they share the hash tag.
--@include clock
--@include item
local over = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms(), 'LIMIT', 0, ARGV[1])
for _, name in ipairs(over) do
  local cut = string.find(name, '\0\0', 1, true)
  local namespace, key = string.sub(name, 1, cut - 1), string.sub(name, cut + 2)
  drop_item(ARGV[2] .. name, ARGV[3] .. namespace, KEYS[2], KEYS[1], namespace, key, name)
end
return #over
