#!lua
-- Remembers which replication history a server is of, and since when: 0 if it never was another.
-- KEYS: where that is written. ARGV: the history that the server is of now; now.
local known = redis.call('GET', KEYS[1])
if known and string.sub(known, 1, 40) == ARGV[1] then return tonumber(string.sub(known, 42)) end
local since = known and ARGV[2] or '0'
redis.call('SET', KEYS[1], ARGV[1] .. ':' .. since)
return tonumber(since)
