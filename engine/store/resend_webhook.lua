-- Deliver the webhook of an ended run anew, whatever came of it before.
-- KEYS 1 run  2 thread  3 webhook  4 webhooks  5 failed webhooks
-- ARGV 1 run id  2 ms after which recovery sends the wake-up
-- Returns 1. Errors RUN_NOT_FOUND; INVALID_TRANSITION when the run has not ended.
--@include clock
--@include webhook
if redis.call('EXISTS', KEYS[1]) == 0 then return redis.error_reply('RUN_NOT_FOUND Run not found.') end
if redis.call('HEXISTS', KEYS[1], 'ended_at') == 0 then
  return redis.error_reply('INVALID_TRANSITION The run has not ended: its webhook is told when it does.')
end
if redis.call('EXISTS', KEYS[3]) == 0 then remember(KEYS[3], KEYS[2]) end
owe(KEYS[1], KEYS[4], KEYS[5], ARGV[1], now_ms(), tonumber(ARGV[2]))
return 1
