-- Delete an item, if there is one.
-- KEYS 1 item  2 keys of the namespace  3 namespaces  4 items that expire
-- ARGV 1 namespace  2 key  3 name of the item
-- Returns 1.
--@include item
drop_item(KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], ARGV[2], ARGV[3])
return 1
