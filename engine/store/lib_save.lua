-- save_parts(fence, key, arg): save the parts that are described by KEYS and ARGV from these positions on. Each part is its
-- name (checkpoint, writes, events, records or fields), how many keys and how many arguments it has, and its arguments.
-- Needs the libraries clock, depth, put, writes, tell and note.
local function save_parts(fence, key, arg)
  while arg <= #ARGV do
    local part, many_keys, many = ARGV[arg], tonumber(ARGV[arg + 1]), tonumber(ARGV[arg + 2])
    local keys, args = {}, {}
    for i = 1, many_keys do keys[i] = KEYS[key + i - 1] end
    for i = 1, many do args[i] = ARGV[arg + 2 + i] end
    if part == 'checkpoint' then save_checkpoint(fence, keys, args)
    elseif part == 'writes' then save_writes(keys, args)
    elseif part == 'events' then save_events(fence, keys, args)
    elseif part == 'fields' then redis.call('HSET', keys[1], unpack(args))
    else save_records(fence, keys, args) end
    key, arg = key + many_keys, arg + 3 + many
  end
end
