#!lua
-- Any number of commits, each of which lands whole, if all that it read is as it was, or not at
-- all. No two of them have a key in common.
--
-- KEYS: the keys of the first commit, of the second, and so on; then queues, which are written.
-- ARGV: now; the history that the caller knows ('' = it does not matter); until when, by this
--   server's clock, somebody waits for it; how many replicas must be connected where a commit
--   says so; then for each commit
--     how many keys it has, negative if replicas must be connected, and for each of its keys
--       the revision that was read, in 16 digits (NONE: there was no record; ANY: whatever is
--       there), with the time after it when the written record is due;
--       the record that is written ('' = none, '-' = it is deleted);
--       how long it stays, in milliseconds.
-- Answers a mark for each commit: 1 landed, 0 somebody was faster, a: too few replicas. Or 'late'
-- or 'moved': why nothing was done.
local now, history = tonumber(ARGV[1]), ARGV[2]
-- A server that was frozen does not do on waking what the callers were told it had not.
local time = redis.call('TIME')
if time[1] * 1000 + time[2] / 1000 > tonumber(ARGV[3]) then return 'late' end
local connected = 0
if history ~= '' then
  local info = redis.call('INFO', 'replication')
  if string.match(info, 'master_replid:(%x+)') ~= history then return 'moved' end
  connected = tonumber(string.match(info, 'connected_slaves:(%d+)'))
end

local call, sub, byte = redis.call, string.sub, string.byte
local NONE, ANY = '----------------', '****************'

-- What is there now, by the place of its key.
local found = {}
for first = 1, #KEYS, 1000 do
  local last = math.min(first + 999, #KEYS)
  local records = call('MGET', unpack(KEYS, first, last))
  for at = first, last do found[at] = records[at - first + 1] end
end

-- The revision of a record that is there: not past its time, not of another history.
local function revision(record)
  if not record or tonumber(sub(record, 18, 31)) <= now then return NONE end
  if byte(record, 33) == 98 and sub(record, 34, 73) ~= history then return NONE end
  return sub(record, 2, 17)
end

local function write(name, old, record, life, due)
  local queued = old and byte(old, 32) == 100
  local queue, member
  if queued or due ~= '' then
    local tag = string.find(name, '}', 1, true) + 1
    queue, member = sub(name, 1, tag) .. 'due', sub(name, tag + 1)
  end
  if queued then call('ZREM', queue, sub(old, 18, 31) .. member) end
  if record == '-' then
    call('DEL', name)
    return
  end
  call('SET', name, record, 'PX', life)
  if due ~= '' then call('ZADD', queue, due, sub(record, 18, 31) .. member) end
end

-- `key` and `arg` are the places before the commit's first key and argument.
local function commit(count, key, arg)
  for at = 1, count do
    local read = sub(ARGV[arg + 3 * at - 2], 1, 16)
    if read ~= ANY and read ~= revision(found[key + at]) then
      -- What was sent twice, since no answer came, finds its own revision.
      for own = 1, count do
        local record, there = ARGV[arg + 3 * own - 1], found[key + own]
        if #record > 1 and there and sub(there, 2, 17) == sub(record, 2, 17) then return '1' end
      end
      return '0'
    end
  end
  for at = 1, count do
    local place = arg + 3 * at
    local record = ARGV[place - 1]
    if record ~= '' then
      write(KEYS[key + at], found[key + at], record, ARGV[place], sub(ARGV[place - 2], 17))
    end
  end
  return '1'
end

local marks, key, arg, replicas = {}, 0, 5, tonumber(ARGV[4])
while arg <= #ARGV do
  local count = tonumber(ARGV[arg])
  local alone = count < 0 and connected < replicas
  count = math.abs(count)
  marks[#marks + 1] = alone and 'a' or commit(count, key, arg)
  key, arg = key + count, arg + 3 * count + 1
end
return table.concat(marks)
