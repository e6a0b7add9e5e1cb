-- The calls of an edge of Voltlane at its engine (SPEC 43.8). The first thing in each answer is the token of the call.
-- KEYS: the record of the home, or for a list what all of them begin with; the last revision; the homes.
-- ARGV: token, call, and for a write: revision that is expected, value, home, milliseconds for which it is kept.
local token, call = ARGV[1], ARGV[2]
if call == 'read' then
  local record = redis.call('HMGET', KEYS[1], 'rev', 'value')
  return {token, record[1], record[2]}
end
if call == 'list' then
  local answer = {token}
  for _, home in ipairs(redis.call('SMEMBERS', KEYS[3])) do
    local record = redis.call('HMGET', KEYS[1] .. home, 'rev', 'value')
    if record[1] then
      answer[#answer + 1] = home
      answer[#answer + 1] = record[1]
      answer[#answer + 1] = record[2]
    end
  end
  return answer
end
local known = redis.call('HGET', KEYS[1], 'rev') or '0'
if known ~= ARGV[3] then
  return {token, 0}
end
local revision = redis.call('INCR', KEYS[2])
if revision <= tonumber(known) then
  -- The last revision was lost.
  revision = tonumber(known) + 1
  redis.call('SET', KEYS[2], string.format('%d', revision))
end
redis.call('HSET', KEYS[1], 'rev', string.format('%d', revision), 'value', ARGV[4])
redis.call('SADD', KEYS[3], ARGV[5])
for _, key in ipairs(KEYS) do
  redis.call('PEXPIRE', key, ARGV[6])
end
return {token, revision}
