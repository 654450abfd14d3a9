-- Forget an assistant and its versions. Runs that were made with it hold what they need of it.
-- KEYS 1 assistant  2 its versions  3 assistants
-- ARGV 1 assistant id
-- Returns 1. Deleting it again does nothing.
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
return 1
