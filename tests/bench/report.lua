-- wrk's side of the load: each request is new. Its argument is a file of templates: how many, how many reports each
-- holds; then of each its length and its bytes. In a template ten '#' stand where a report's number goes, ten '~' where
-- it goes backwards, ten '$' where its case's goes (five reports a case); all in the order of the reports.
local ffi = require("ffi")
local PER_CASE = 5
local templates, size, number, turn = {}, 1, 0, 0

local function places(text, mark)
  local found, from = {}, 1
  while true do
    local first, last = text:find(mark:rep(10), from, true)
    if not first then return found end
    found[#found + 1] = first - 1
    from = last + 1
  end
end

-- The digits of a number, its last one at `last`.
local function write(buffer, first, last, value)
  for place = last, first, last < first and 1 or -1 do
    buffer[place] = 48 + value % 10
    value = math.floor(value / 10)
  end
end

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  local count = file:read("*n")
  size = file:read("*n")
  for n = 1, count do
    local length = file:read("*n")
    file:read(1)
    local text = file:read(length)
    local buffer = ffi.new("uint8_t[?]", length)
    ffi.copy(buffer, text, length)
    templates[n] = { buffer = buffer, length = length, numbers = places(text, "#"),
      backwards = places(text, "~"), cases = places(text, "$") }
  end
  file:close()
end

function request()
  local one = templates[turn + 1]
  turn = (turn + 1) % #templates
  for n, at in ipairs(one.numbers) do write(one.buffer, at, at + 9, number + n - 1) end
  for n, at in ipairs(one.backwards) do write(one.buffer, at + 9, at, number + n - 1) end
  for n, at in ipairs(one.cases) do write(one.buffer, at, at + 9, math.floor((number + n - 1) / PER_CASE)) end
  number = number + size
  return ffi.string(one.buffer, one.length)
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"answers": %d, "refused": %d, "broken": %d, "seconds": %f, "p50": %f, "p99": %f}\n',
    summary.requests, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    summary.duration / 1e6, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
