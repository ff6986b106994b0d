"""What a Redis server does with many rows in one step, in its own language."""

from __future__ import annotations

#: Of each key (new row, ms to keep it or ""): written unless the stored one's (event, created) is greater.
#: The times are compared by halves, signed high and unsigned low, as Lua's numbers are doubles.
PUT = b"""
local parse = struct.unpack
local written = 0
local stored = redis.call('MGET', unpack(KEYS))
for i, key in ipairs(KEYS) do
  local new = ARGV[2 * i - 1]
  local old = stored[i]
  local newer = true
  if old and #old >= 32 then
    local ol, oh, pl, ph = parse('<I4i4I4i4', old, 17)
    local nl, nh, ml, mh = parse('<I4i4I4i4', new, 17)
    if nh ~= oh then newer = nh > oh
    elseif nl ~= ol then newer = nl > ol
    elseif mh ~= ph then newer = mh > ph
    else newer = ml >= pl end
  end
  if newer then
    local keep = ARGV[2 * i]
    if keep == '' then redis.call('SET', key, new) else redis.call('SET', key, new, 'PX', keep) end
    written = written + 1
  end
end
return written
"""

#: Sets the expiry of rows as PUT would now. Arguments: now, retention and the longest expiry, in ms, then of
#: each key its view's ttl in ms, or "" to keep it for good.
HOLD = b"""
local parse = struct.unpack
local now, retention, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
for i, key in ipairs(KEYS) do
  local ttl = ARGV[3 + i]
  if ttl == '' then
    redis.call('PERSIST', key)
  else
    local event = redis.pcall('GETRANGE', key, 16, 23)
    if type(event) == 'string' and #event == 8 then
      local low, high = parse('<I4i4', event)
      local left = (high * 4294967296 + low) / 1000 + tonumber(ttl) - now
      local keep = math.min(math.max(math.max(left, 0) + retention, 1), longest)
      redis.call('PEXPIRE', key, string.format('%.0f', keep))
    end
  end
end
return 0
"""
