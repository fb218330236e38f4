"""What Redis does for us as one step each, in Lua: every write that must be fenced.

The journal is a stream whose ids are positions; an entry holds ``total`` (of the events up to and
with it) and ``entry`` (see messages). ``epoch`` is the fence: the highest epoch that has begun.
What is published begins with a letter: an entry (E), a wish (W), or the leader's health (H), which
also names the journal's last position, so that who has missed that entry learns it in a second.
"""

_FENCE = """
local function epoch_of(position) return tonumber(string.match(position, '^%d+') or 0) end
local function before(one, other)
  local a, b = epoch_of(one), epoch_of(other)
  if a ~= b then return a < b end
  return tonumber(string.match(one, '%d+$') or 0) < tonumber(string.match(other, '%d+$') or 0)
end
local function last_of(journal)
  local last = redis.call('XREVRANGE', journal, '+', '-', 'COUNT', 1)[1]
  if last then return last[1], tonumber(last[2][2]) or 0 end
  return '', 0
end
local function fence_of(key) return tonumber(redis.call('GET', key) or 0) or 0 end
"""

APPEND = (
    _FENCE
    + """
-- KEYS journal, epoch, events. ARGV: position, previous, entry, number of events, events to keep
local at, total = last_of(KEYS[1])
if at == ARGV[1] then return {at, ''} end
local opens = string.match(ARGV[1], '%-0$') and before(at, ARGV[2])
if fence_of(KEYS[2]) > epoch_of(ARGV[1]) or not before(at, ARGV[1])
  or (at ~= ARGV[2] and not opens) then
  return {at, redis.call('GET', KEYS[2]) or ''}
end
total = total + ARGV[4]
redis.call('XADD', KEYS[1], ARGV[1], 'total', string.format('%.0f', total), 'entry', ARGV[3])
redis.call('SPUBLISH', KEYS[3], 'E' .. ARGV[3])
while true do
  local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  if total - (tonumber(first[2][2]) or 0) < tonumber(ARGV[5]) then return {ARGV[1], ''} end
  redis.call('XDEL', KEYS[1], first[1])
end
"""
)

SAVE = (
    _FENCE
    + """
-- KEYS journal, epoch, snapshots. ARGV: watermark, number of changed, channel and envelope of each,
-- then the channels that are gone
local at = last_of(KEYS[1])
local mine = epoch_of(ARGV[1])
if at == '' or mine < epoch_of(at) or mine < fence_of(KEYS[2]) or before(at, ARGV[1]) then
  return at
end
if string.match(ARGV[1], '%-0$') then redis.call('DEL', KEYS[3]) end
local changed = 2 + 2 * tonumber(ARGV[2])
for i = 3, changed, 2 do redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1]) end
for i = changed + 1, #ARGV do redis.call('HDEL', KEYS[3], ARGV[i]) end
redis.call('HSET', KEYS[3], 'watermark', ARGV[1])
return false
"""
)

TELL_HEALTH = (
    _FENCE
    + """
-- KEYS journal, epoch, health, events. ARGV: epoch, health, milliseconds it holds
if fence_of(KEYS[2]) > tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
redis.call('SPUBLISH', KEYS[4], 'H' .. last_of(KEYS[1]) .. '\\n' .. ARGV[2])
return 1
"""
)

TELL_WISH = """
-- KEYS wishes, events. ARGV: process, wish, milliseconds it holds
-- each wish with when it was told; what a step of the clock makes of that is put right when it is
-- told again
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local wishes = redis.call('HGETALL', KEYS[1])
for i = 1, #wishes, 2 do
  local age = now - tonumber(string.match(wishes[i + 1], '^%d+') or 0)
  if math.abs(age) > tonumber(ARGV[3]) then redis.call('HDEL', KEYS[1], wishes[i]) end
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now) .. ' ' .. ARGV[2])
redis.call('SPUBLISH', KEYS[2], 'W' .. ARGV[2])
return 1
"""

RAISE = """
-- KEYS epoch. ARGV: the highest epoch that a process knows
if (tonumber(redis.call('GET', KEYS[1]) or 0) or 0) >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1
"""

TAKE = (
    _FENCE
    + """
-- KEYS lease, epoch, journal, vacant.
-- ARGV: process, the highest epoch it knows, the text it may replace
local holder = redis.call('GET', KEYS[1]) or ''
local fence = fence_of(KEYS[2])
local at = last_of(KEYS[3])
local known = math.max(fence, tonumber(ARGV[2]))
local epoch = math.max(known, epoch_of(at))
if holder ~= ARGV[3] and string.match(holder, '^%S+') ~= ARGV[1] then
  if epoch > fence then redis.call('SET', KEYS[2], string.format('%.0f', epoch)) end
  return {holder, string.format('%.0f', epoch)}
end
local now = redis.call('TIME')
epoch = math.max(epoch + 1, now[1] * 1000 + math.floor(now[2] / 1000))
local text = string.format('%.0f', epoch)
redis.call('SET', KEYS[2], text)
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. text .. ' 0')
redis.call('DEL', KEYS[4])
return {'', text, at, known > epoch_of(at) and 1 or 0}
"""
)

RENEW = """
-- KEYS lease. ARGV: process and epoch, number of the renewal
local holder = redis.call('GET', KEYS[1]) or ''
if string.match(holder, '^%S+ %S+') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2])
return 1
"""

RELEASE = """
-- KEYS lease, vacant. ARGV: process and epoch, or the process alone for whatever epoch
local holder = redis.call('GET', KEYS[1]) or ''
if string.match(holder, '^%S+ %S+') ~= ARGV[1] and string.match(holder, '^%S+') ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], 'free')
redis.call('DEL', KEYS[2])
redis.call('LPUSH', KEYS[2], '1')
return 1
"""

LEAVE = """
-- KEYS tokens. ARGV: milliseconds between two in the long run, how many at once
-- what is kept is when the next would be due in the long run; it is never farther away than after
-- one burst, so that a clock that is set back makes nobody wait longer
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local due = tonumber(redis.call('GET', KEYS[1]) or 0) or 0
due = math.max(now, math.min(due, now + interval * burst))
local early = due - interval * (burst - 1) - now
if early <= 0 then due, early = due + interval, 0 end
redis.call('SET', KEYS[1], string.format('%.0f', due), 'PX', 2 * interval * burst)
return early
"""

TALLY = """
-- KEYS requests in even windows, in odd ones. ARGV: seconds in a window, client, requests
-- '#' holds the window's number: a client's name has no such sign
local time = redis.call('TIME')
local number = math.floor(time[1] / ARGV[1])
local now, before = KEYS[number % 2 + 1], KEYS[(number + 1) % 2 + 1]
local function is(key, wanted) return tonumber(redis.call('HGET', key, '#') or '') == wanted end
if not is(now, number) then
  redis.call('UNLINK', now)
  redis.call('HSET', now, '#', string.format('%.0f', number))
  redis.call('PEXPIRE', now, 2000 * ARGV[1])
end
local count = redis.call('HINCRBY', now, ARGV[2], ARGV[3])
local last = is(before, number - 1) and redis.call('HGET', before, ARGV[2])
return {time[1], time[2], count, last or 0}
"""

PROBE = """
-- KEYS probe, events. Whether what we do is allowed here; an empty message is heard by nobody
redis.call('SET', KEYS[1], '1', 'PX', 1000)
redis.call('SPUBLISH', KEYS[2], '')
return 1
"""
