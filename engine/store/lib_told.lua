-- The hash and the field of the fence that something is saved under, and the hash of the run: for what saves parts.
local fence_key, fence_field, run_key
-- tell_run(field, value): what the run's hash is to say once everything is saved; written together. `input_saved`: that a
-- checkpoint holds its input is among that.
local told, input_saved = {}, false
local function tell_run(field, value)
  local n = #told
  told[n + 1], told[n + 2] = field, value
end
-- tell_progress(): that the run has come further, once in a script. Needs the library clock.
local progressed = false
local function tell_progress()
  if not progressed then tell_run('progress_at', now_ms()) end
  progressed = true
end
