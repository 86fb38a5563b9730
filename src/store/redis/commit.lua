#!lua
-- One commit of one partition: all of it lands if every guard holds, or nothing does.
--
-- KEYS: the queue; the guarded records; the written records.
-- ARGV: now; the history that the caller knows ('' = it does not matter); how many replicas must
--   be connected; until when, by this server's clock, somebody waits for it; how many guards there
--   are; for each guard the revision that was read ('' = there was none); for each write the record
--   ('' = delete), its life in ms, when it is due ('' = never).
-- Answers 1: landed. 0: somebody was faster. 'late', 'moved' or 'alone': why nothing was done.
local now, history, guards = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[5])
-- A server that was frozen does not do on waking what the callers were told it had not.
local time = redis.call('TIME')
if time[1] * 1000 + time[2] / 1000 > tonumber(ARGV[4]) then return 'late' end
if history ~= '' then
  local info = redis.call('INFO', 'replication')
  if string.match(info, 'master_replid:(%x+)') ~= history then return 'moved' end
  local connected = string.match(info, 'connected_slaves:(%d+)')
  if tonumber(connected) < tonumber(ARGV[3]) then return 'alone' end
end

local function head(key) return redis.call('GETRANGE', key, 0, 72) end

-- The revision of a record that is there: not past its time, not of another history.
local function revision(head)
  if head == '' or tonumber(string.sub(head, 18, 31)) <= now then return '' end
  if string.sub(head, 33, 33) == 'b' and string.sub(head, 34, 73) ~= history then return '' end
  return string.sub(head, 2, 17)
end

local writes = #KEYS - 1 - guards
local function write(at)
  local place = 5 + guards + 3 * (at - 1)
  return KEYS[1 + guards + at], ARGV[place + 1], ARGV[place + 2], ARGV[place + 3]
end

for at = 1, guards do
  if revision(head(KEYS[1 + at])) ~= ARGV[5 + at] then
    -- A commit that was sent twice, since no answer came, finds its own revision.
    for at = 1, writes do
      local key, record = write(at)
      if record ~= '' then
        return string.sub(head(key), 2, 17) == string.sub(record, 2, 17) and 1 or 0
      end
    end
    return 0
  end
end

local tag = #KEYS[1] - 3
for at = 1, writes do
  local key, record, life, due = write(at)
  local old, name = head(key), string.sub(key, tag + 1)
  if string.sub(old, 32, 32) == 'd' then
    redis.call('ZREM', KEYS[1], string.sub(old, 18, 31) .. name)
  end
  if record == '' then
    redis.call('DEL', key)
  else
    redis.call('SET', key, record, 'PX', life)
    if due ~= '' then redis.call('ZADD', KEYS[1], due, string.sub(record, 18, 31) .. name) end
  end
end
return 1
