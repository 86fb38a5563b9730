-- Sends prepared requests, each once, and counts what came back by its `code`.
--
--   wrk … -s replay.lua http://127.0.0.1:PORT -- PREFIX plain|count|drain
--
-- Thread n reads PREFIX.n, one request per line:   /path            a GET
--                                                  /path<TAB>form   a POST with that form
-- The file is read as it is sent, so a million requests cost no memory here. A thread that has come to the end of its
-- file leaves PREFIX.n.end behind and stops; the driver then ends wrk, and the time is counted up to there.
--   plain   only wrk's own counts: the answers are not looked at
--   count   every answer is counted: by `code` of a JSON body, else by its HTTP status
--   spread  like count, and each request says that it comes from another address
--   drain   like count, and at the end nothing is left unanswered: for preparing, where each request matters

local threads = {}

function setup(thread)
    thread:set("id", #threads)
    table.insert(threads, thread)
end

function init(args)
    prefix, mode = args[1], args[2]
    answers, sent, judged, fillers = {}, 0, 0, 0
    verified = id ~= 0 -- wrk asks thread 0 for one request that it never sends: no line is spent on that
    next_line = io.lines(prefix .. "." .. id)
    get_tail = " HTTP/1.1\r\nHost: " .. wrk.host .. "\r\n\r\n"
    post_tail = " HTTP/1.1\r\nHost: " .. wrk.host
        .. "\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: "
    if mode == "plain" then response = nil end
    math.randomseed(os.time() * 7 + id)
end

local function finish()
    if not ended then
        ended = true
        io.open(prefix .. "." .. id .. ".end", "w"):close()
    end
    wrk.thread:stop()
end

function request()
    if not verified then
        verified = true
        return "GET /" .. get_tail
    end
    local line = next_line and next_line()
    if not line then
        next_line = nil
        fillers = fillers + 1
        if mode ~= "drain" or judged >= sent or fillers > 20000 then finish() end
        return "GET /health/live" .. get_tail
    end
    sent = sent + 1
    local tab = line:find("\t", 1, true)
    if mode == "spread" then
        local from = string.format("\r\nX-Forwarded-For: 10.%d.%d.%d", math.random(0, 255), math.random(0, 255), math.random(0, 255))
        return "GET " .. line .. get_tail:gsub("\r\nHost", from .. "\r\nHost", 1)
    end
    if not tab then return "GET " .. line .. get_tail end
    local body = line:sub(tab + 1)
    return "POST " .. line:sub(1, tab - 1) .. post_tail .. #body .. "\r\n\r\n" .. body
end

function response(status, headers, body)
    local code = body:match('^{.-"code"%s*:%s*"?([%w_-]+)')
    if code then judged = judged + 1 else code = "http-" .. status end
    answers[code] = (answers[code] or 0) + 1
end

function done(summary, latency)
    local total, parts = {}, {}
    for _, thread in ipairs(threads) do
        for code, count in pairs(thread:get("answers")) do total[code] = (total[code] or 0) + count end
    end
    for code, count in pairs(total) do table.insert(parts, string.format('"%s":%d', code, count)) end
    local errors = summary.errors
    io.write(string.format(
        '\nRESULT {"seconds":%.6f,"requests":%d,"bytes":%d,"p50_ms":%.3f,"p90_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f,'
            .. '"errors":{"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d},"answers":{%s}}\n',
        summary.duration / 1e6, summary.requests, summary.bytes,
        latency:percentile(50) / 1000, latency:percentile(90) / 1000, latency:percentile(99) / 1000,
        latency.max / 1000, errors.connect, errors.read, errors.write, errors.timeout, errors.status,
        table.concat(parts, ",")))
end
