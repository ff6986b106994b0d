"""What a Redis server does with many rows in one step, in its own language."""

from __future__ import annotations

from feature_service.packed.guard import FIRST, LAST
from feature_service.packed.layout import VERSION

#: `times` of a row: event and created, each by halves, signed high and unsigned low, as Lua's numbers are
#: doubles; nothing of what `guard.sort_key` takes for no row.
_TIMES = b"""
local parse = struct.unpack
local function times(row)
  if not row or #row < 32 then return nil end
  local version, flags, _, reserved, _, _, low, high, created_low, created_high =
    parse('<I1I1I2I4I4I4I4i4I4i4', row)
  if version ~= %d or flags ~= 0 or reserved ~= 0 or high < %d or high > %d then return nil end
  return high, low, created_high, created_low
end
""" % (VERSION, FIRST, LAST)

#: Of each key (new row, ms to keep it or ""): written unless the stored one's (event, created) is greater.
PUT = (
    _TIMES
    + b"""
local written = 0
local stored = redis.call('MGET', unpack(KEYS))
for i, key in ipairs(KEYS) do
  local new = ARGV[2 * i - 1]
  local newer = true
  local oh, ol, ph, pl = times(stored[i])
  if oh then
    local nh, nl, mh, ml = times(new)
    if not nh then newer = false
    elseif nh ~= oh then newer = nh > oh
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
)

#: Sets the expiry of rows as PUT would now. Arguments: now, retention and the longest expiry, in ms, then of
#: each key its view's ttl in ms, or "" to keep it for good.
HOLD = (
    _TIMES
    + b"""
local now, retention, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
for i, key in ipairs(KEYS) do
  local ttl = ARGV[3 + i]
  if ttl == '' then
    redis.call('PERSIST', key)
  else
    local head = redis.pcall('GETRANGE', key, 0, 31)
    local high, low
    if type(head) == 'string' then high, low = times(head) end
    if high then
      local left = (high * 4294967296 + low) / 1000 + tonumber(ttl) - now
      local keep = math.min(math.max(math.max(left, 0) + retention, 1), longest)
      redis.call('PEXPIRE', key, string.format('%.0f', keep))
    end
  end
end
return 0
"""
)
