-- An operator keeps a circuit open or closed, or lets it begin anew, closed.
-- KEYS 1 circuit  2 waiting  3 log
-- ARGV 1 mode (open | closed)  2 '1' to keep it so, '' to let it begin anew  3 why  4 who  5 channel
-- Returns {member to wake, ...} of what waited for it to close.
--@include clock
--@include circuit
local s = load_circuit(KEYS[1])
local _, members = turn(KEYS[1], KEYS[2], KEYS[3], s, ARGV[1], 0, ARGV[2] == '1', ARGV[3], ARGV[4], now_ms(), ARGV[5])
return members
