-- Shows Voltlane's client link (versions 2 and 3) and backend link (versions 2 and 3) in Wireshark and tshark.
--
-- Install: copy this file to the folder "Personal Lua Plugins" of Help > About > Folders, or run
--     tshark -X lua_script:voltlane.lua -r capture.pcapng
-- The preferences name the TCP ports of client links and of backend links: 42000 and 42001, the edge's defaults. On other ports a
-- client link, and a backend link that asks for version 3, are found by their first bytes, unless another dissector claims them before.
--
-- Records of version 3 are encrypted. With the preference "Key log" they are opened; a debug build of `voltlane connect` writes one
-- where VOLTLANE_KEY_LOG says. Tags are not checked: this is a viewer.
--
-- The sections named below are those of SPEC.txt.

local client_link = Proto("voltlane", "Voltlane client link")
local backend_link = Proto("voltlane_link", "Voltlane backend link")

-- Wireshark 4.4 and later have Lua 5.4, earlier ones 5.2. All of them bring one of these.
local bits = rawget(_G, "bit") or rawget(_G, "bit32")

local HEADER = 4
local MOST = 8 * 1024 * 1024 + 64

-- 25.2
local CODES = {
    [0] = "goodbye", [101] = "going away", [104] = "edge restarts", [201] = "parked", [202] = "backend down",
    [203] = "source too fast", [204] = "busy", [206] = "not here", [301] = "gone", [302] = "expired",
    [303] = "ring full", [304] = "said goodbye", [305] = "numbers do not fit", [306] = "memory limit",
    [307] = "too many away", [310] = "stale", [311] = "ahead", [401] = "kicked", [402] = "taken over",
    [403] = "protocol error", [404] = "packet too long", [405] = "token refused", [406] = "version",
}

local function code_text(code)
    local name = CODES[code] or (code >= 500 and code <= 699 and "of the application") or "unknown"
    return string.format("%d (%s)", code, name)
end

---------------------------------------------------------------------------------------------------------------------- fields

local all_fields = {}
local function field(proto, make, name, label, ...)
    local made = make(proto .. "." .. name, label, ...)
    all_fields[proto] = all_fields[proto] or {}
    table.insert(all_fields[proto], made)
    return made
end

local C, L = "voltlane", "voltlane_link"
local f = {
    length = field(C, ProtoField.uint32, "length", "Length"),
    version = field(C, ProtoField.uint32, "version", "Version"),
    kind = field(C, ProtoField.string, "kind", "Kind"),
    id = field(C, ProtoField.uint64, "id", "Client id"),
    point = field(C, ProtoField.bytes, "point", "Public key"),
    sealed = field(C, ProtoField.bytes, "sealed", "Sealed"),
    features = field(C, ProtoField.uint32, "features", "Features", base.HEX),
    hint = field(C, ProtoField.bytes, "key_hint", "Key hint"),
    handle = field(C, ProtoField.bytes, "handle", "Handle"),
    nonce = field(C, ProtoField.bytes, "nonce", "Nonce"),
    extensions = field(C, ProtoField.bytes, "extensions", "Extensions"),
    code = field(C, ProtoField.uint16, "code", "Code"),
    wait = field(C, ProtoField.uint32, "wait", "Wait in ms"),
    packet = field(C, ProtoField.bytes, "packet", "Packet"),
    plain = field(C, ProtoField.bytes, "plain", "Opened"),
    item = field(C, ProtoField.string, "item", "Item"),
}
local g = {
    length = field(L, ProtoField.uint32, "length", "Length"),
    id = field(L, ProtoField.uint64, "id", "Client id"),
    group = field(L, ProtoField.uint64, "group", "Group"),
    flag = field(L, ProtoField.uint8, "flag", "Flag", base.HEX),
    kind = field(L, ProtoField.string, "kind", "Kind"),
    packet = field(L, ProtoField.bytes, "packet", "Packet"),
    text = field(L, ProtoField.string, "text", "Text"),
    token = field(L, ProtoField.bytes, "token", "Token"),
    code = field(L, ProtoField.uint16, "code", "Code"),
    version = field(L, ProtoField.uint8, "version", "Version"),
    features = field(L, ProtoField.uint32, "features", "Features", base.HEX),
    boot = field(L, ProtoField.bytes, "boot", "Boot"),
    run = field(L, ProtoField.bytes, "run", "Run"),
    acknowledged = field(L, ProtoField.uint64, "acknowledged", "Acknowledged"),
    received = field(L, ProtoField.uint64, "received", "Received"),
    sent = field(L, ProtoField.uint64, "sent", "Sent"),
    number = field(L, ProtoField.uint64, "number", "Number"),
    value = field(L, ProtoField.uint64, "value", "Value"),
    address4 = field(L, ProtoField.ipv4, "address", "Address"),
    address6 = field(L, ProtoField.ipv6, "address6", "Address"),
    port = field(L, ProtoField.uint16, "port", "Port"),
    carriage = field(L, ProtoField.uint8, "carriage", "Carriage", base.DEC,
        { [0] = "TCP", [1] = "TLS", [2] = "WebSocket", [3] = "WebSocket in TLS", [4] = "Unix socket" }),
    bytes = field(L, ProtoField.bytes, "bytes", "Bytes"),
}
client_link.fields = all_fields[C]
backend_link.fields = all_fields[L]

local malformed = ProtoExpert.new("voltlane.malformed", "Malformed", expert.group.MALFORMED, expert.severity.ERROR)
local locked = ProtoExpert.new("voltlane.locked", "No key for this record", expert.group.DECRYPTION, expert.severity.CHAT)
client_link.experts = { malformed, locked }
local link_malformed = ProtoExpert.new("voltlane_link.malformed", "Malformed", expert.group.MALFORMED, expert.severity.ERROR)
backend_link.experts = { link_malformed }

client_link.prefs.ports = Pref.range("Ports of client links", "42000", "Connections on these TCP ports, beside those found by their first bytes", 65535)
client_link.prefs.key_log = Pref.string("Key log", "", "File with the keys of records of version 3")
backend_link.prefs.ports = Pref.range("Ports of backend links", "42001", "Connections on these TCP ports, beside those found by their first bytes", 65535)

------------------------------------------------------------------------------------------------------------ XChaCha20 (20.1)

local cipher = {}
if bits then
    local bxor, rol = bits.bxor, bits.rol or bits.lrotate
    local function word(text, at)
        local a, b, c, d = text:byte(at, at + 3)
        return a + b * 0x100 + c * 0x10000 + d * 0x1000000
    end
    local function quarter(s, a, b, c, d)
        s[a] = (s[a] + s[b]) % 0x100000000; s[d] = rol(bxor(s[d], s[a]), 16) % 0x100000000
        s[c] = (s[c] + s[d]) % 0x100000000; s[b] = rol(bxor(s[b], s[c]), 12) % 0x100000000
        s[a] = (s[a] + s[b]) % 0x100000000; s[d] = rol(bxor(s[d], s[a]), 8) % 0x100000000
        s[c] = (s[c] + s[d]) % 0x100000000; s[b] = rol(bxor(s[b], s[c]), 7) % 0x100000000
    end
    local function rounds(s)
        for _ = 1, 10 do
            quarter(s, 1, 5, 9, 13); quarter(s, 2, 6, 10, 14); quarter(s, 3, 7, 11, 15); quarter(s, 4, 8, 12, 16)
            quarter(s, 1, 6, 11, 16); quarter(s, 2, 7, 12, 13); quarter(s, 3, 8, 9, 14); quarter(s, 4, 5, 10, 15)
        end
        return s
    end
    local function state(key, tail)
        local s = { 0x61707865, 0x3320646e, 0x79622d32, 0x6b206574 }
        for i = 0, 7 do s[5 + i] = word(key, 1 + 4 * i) end
        for i = 0, 3 do s[13 + i] = word(tail, 1 + 4 * i) end
        return s
    end
    local function le32(n)
        return string.char(n % 256, math.floor(n / 0x100) % 256, math.floor(n / 0x10000) % 256, math.floor(n / 0x1000000) % 256)
    end
    -- HChaCha20: the key under which all records of one secret are sealed (20.5(c)).
    function cipher.subkey(key, prefix)
        local s, out = rounds(state(key, prefix)), {}
        for _, i in ipairs { 1, 2, 3, 4, 13, 14, 15, 16 } do out[#out + 1] = le32(s[i]) end
        return table.concat(out)
    end
    -- The plain bytes of the record with this count. Block 0 is the tag's key, so the text begins with block 1.
    function cipher.open(subkey, count, text)
        local out, nonce = {}, le32(0) .. le32(count % 0x100000000) .. le32(math.floor(count / 0x100000000))
        for at = 1, #text, 64 do
            local first = state(subkey, le32((at - 1) / 64 + 1) .. nonce)
            local mixed = {}
            for i = 1, 16 do mixed[i] = first[i] end
            rounds(mixed)
            local pad = {}
            for i = 1, 16 do pad[i] = le32((first[i] + mixed[i]) % 0x100000000) end
            pad = table.concat(pad)
            for i = at, math.min(at + 63, #text) do
                out[#out + 1] = string.char(bxor(text:byte(i), pad:byte(i - at + 1)) % 256)
            end
        end
        return table.concat(out)
    end
end

local function from_hex(text)
    return (text:gsub("%x%x", function(two) return string.char(tonumber(two, 16)) end))
end

-- Lines of a key log: VOLTLANE_3 EARLY|UP|DOWN context secret. The context is E_c of Hello for a join, r_c of Claim for a resume.
-- The secret has the 48 bytes of 20.5(a). All of it is in hexadecimal.
local keys, keys_of = {}, nil
local function key_of(label, context)
    local path = client_link.prefs.key_log
    if path ~= keys_of then
        keys, keys_of = {}, path
    end
    local name = label .. " " .. context
    if keys[name] == nil and path ~= "" and bits then
        local file = io.open(path, "r")
        if file then
            for line in file:lines() do
                local which, about, secret = line:match("^VOLTLANE_3 (%u+) (%x+) (%x+)%s*$")
                if which and #secret == 96 then
                    local bytes = from_hex(secret)
                    keys[which .. " " .. about:lower()] = cipher.subkey(bytes:sub(1, 32), bytes:sub(33, 48))
                end
            end
            file:close()
        end
    end
    return keys[name]
end

--------------------------------------------------------------------------------------------------------------- what is known

local stream_of = Field.new("tcp.stream")
-- By stream: the version, who the client is, how far each direction is. By frame and offset: what was found the first time, since
-- Wireshark shows frames again in any order.
local streams, seen = {}, {}

function client_link.init()
    streams, seen, keys, keys_of = {}, {}, {}, nil
end

local function stream(pinfo)
    local number = stream_of()
    number = number and number.value or 0
    streams[number] = streams[number] or { up = {}, down = {} }
    return streams[number]
end

local function add_info(pinfo, text)
    local info = tostring(pinfo.cols.info)
    if pinfo.private.voltlane_frame ~= tostring(pinfo.number) then
        pinfo.private.voltlane_frame = tostring(pinfo.number)
        pinfo.cols.info = text
    elseif #info < 200 then
        pinfo.cols.info:append(", " .. text)
    end
end

-- 3.1. Returns the value and the bytes it took; nothing if it is cut or not a varint.
local function varint(text, at)
    local first = text:byte(at)
    if not first then return nil end
    if first < 251 then return first, 1 end
    local width = ({ [251] = 2, [252] = 4, [253] = 8 })[first]
    if not width or #text < at + width then return nil end
    local value = 0
    for i = width, 1, -1 do value = value * 256 + text:byte(at + i) end
    return value, 1 + width
end

------------------------------------------------------------------------------------------------------- items (21.3), as text

-- Types with the names of their fields: v a varint, s a byte string, 1 a byte.
local ITEMS = {
    [1] = { "TOKEN", { "s" } }, [2] = { "EARLY_END", {} }, [3] = { "ACK", { "v" }, { "count" } }, [4] = { "ACK_NOW", {} },
    [5] = { "PART", { "s" } }, [6] = { "GAP", { "v", "v", "v" }, { "count", "bytes", "reason" } },
    [7] = { "SUPERSEDED", { "v" }, { "count" } }, [8] = { "LATEST", { "1", "s" }, { "key" } }, [9] = { "VOLATILE", { "s" } },
    [10] = { "SKIPPED", { "v" }, { "count" } },
    [11] = { "RESUMED", { "v", "v", "v", "v", "s" }, { "until", "up received", "away ms", "cause", "marks" } },
    [12] = { "PING", { "8" } }, [13] = { "PONG", { "8" } },
    [14] = { "GOAWAY", { "v", "v", "v", "v", "1" }, { "code", "earliest ms", "latest ms", "drain ms", "address" } },
}

-- Reads one item at `at`. Returns its name, its text, and where the next one begins; nothing if it is not well-formed.
local function item(text, at)
    local head, took = varint(text, at)
    if not head then return nil end
    at = at + took
    if head % 2 == 0 then
        if #text + 1 < at + head / 2 then return nil end
        return "packet", string.format("packet of %d bytes", head / 2), at + head / 2, at, head / 2
    end
    local kind = (head - 1) / 2
    if kind == 0 then return "PAD", string.format("PAD to the end, %d bytes", #text + 1 - at), #text + 1 end
    if kind >= 32 then
        local length, more = varint(text, at)
        if not length or #text + 1 < at + more + length then return nil end
        return "ignored", string.format("item of type %d, ignored", kind), at + more + length
    end
    local known = ITEMS[kind]
    if kind == 15 then known = { "CLOSE", { "v", "v", "v", "v" }, { "code", "wait ms", "jitter ms", "detail" } } end
    if not known then return nil end
    local said, start, size = {}, nil, nil
    for i, form in ipairs(known[2]) do
        local label = known[3] and known[3][i]
        if form == "v" then
            local value, more = varint(text, at)
            if not value then return nil end
            at = at + more
            said[#said + 1] = label .. " " .. (label == "code" and code_text(value) or string.format("%.0f", value))
        elseif form == "s" then
            local length, more = varint(text, at)
            if not length or #text + 1 < at + more + length then return nil end
            said[#said + 1] = label == "marks" and string.format(length == 8 and "%d mark" or "%d marks", length / 8) or string.format("%d bytes", length)
            start, size = at + more, length
            at = at + more + length
        else
            local width = tonumber(form)
            if #text + 1 < at + width then return nil end
            if label then said[#said + 1] = label .. " " .. text:byte(at) end
            at = at + width
        end
    end
    if kind == 15 then
        local counts = {}
        for _ = 1, 14 do
            local value, more = varint(text, at)
            if not value then return nil end
            counts[#counts + 1] = string.format("%.0f", value)
            at = at + more
        end
        local length, more = varint(text, at)
        if not length or #text + 1 < at + more + length then return nil end
        said[#said + 1] = "ledger up " .. table.concat(counts, " ", 1, 7) .. ", down " .. table.concat(counts, " ", 8, 14)
        if length > 0 then said[#said + 1] = string.format("%q", text:sub(at + more, at + more + length - 1)) end
        at = at + more + length
    end
    local about = table.concat(said, ", ")
    return known[1], about == "" and known[1] or known[1] .. ": " .. about, at, start, size
end

local function items(text)
    local all, at = {}, 1
    while at <= #text do
        local name, about, next_at, start, size = item(text, at)
        if not name then return all, at end
        all[#all + 1] = { name = name, text = about, at = at, size = next_at - at, start = start, bytes = size }
        at = next_at
    end
    return all, nil
end

--------------------------------------------------------------------------------------------------------------- client link

local PACKETS = { [0] = "Ping", "ProtocolVersion", "PubKey", "ClientId", "Challenge", "ChallengeResponse" }

-- Says what a frame is and moves the stream's state. Runs once for each frame, in order.
local function meet(state, is_up, body)
    local way = is_up and state.up or state.down
    local first = body:byte(1)
    if is_up and not state.version then
        if first ~= 1 then return { kind = "unexpected", bad = true } end
        local version = varint(body, 2)
        state.version = version
        return { kind = "ProtocolVersion", packet = true }
    end
    if way.established then
        if state.version ~= 3 then return { kind = "data" } end
        local count = way.count
        way.count = count + 1
        local found = { kind = "record" }
        if not way.label or not state.context then return found end
        local key = key_of(way.label, state.context)
        if key and #body >= 16 then
            local plain = cipher.open(key, count, body:sub(1, -17))
            local list, cut = items(plain)
            if cut and #list == 0 and #plain > 0 then
                found.misfit = true
            else
                found.plain, found.items, found.cut = plain, list, cut
                for _, each in ipairs(list) do
                    if each.name == "EARLY_END" then way.label, way.count = "UP", 0 end
                end
            end
        end
        return found
    end
    if state.version == 3 then
        local kinds = is_up and { [0x10] = "Hello", [0x12] = "Claim" } or { [0x11] = "Welcome", [0x13] = "Answer", [0x14] = "Busy" }
        local kind = kinds[first]
        if not kind then return { kind = "unexpected", bad = true } end
        way.established, way.count, way.label = true, 0, is_up and "UP" or "DOWN"
        if kind == "Hello" then
            state.context = body:sub(10, 42):gsub(".", function(c) return string.format("%02x", c:byte()) end)
        elseif kind == "Claim" then
            way.label = "EARLY"
            state.context = body:sub(22, 45):gsub(".", function(c) return string.format("%02x", c:byte()) end)
        end
        return { kind = kind, opening = true }
    end
    local kind = first and PACKETS[first]
    if not kind then return { kind = "unexpected", bad = true } end
    if is_up then
        way.established = kind == "PubKey" or kind == "Ping"
    else
        way.established = kind == "ClientId" or kind == "Ping"
    end
    return { kind = kind, packet = true }
end

-- Layouts of 19: field, offset, length; a negative length counts from the end.
local OPENING = {
    Hello = { { f.features, 1, 4, true }, { f.hint, 5, 4 }, { f.point, 9, 33 }, { f.extensions, 42, 0 } },
    Welcome = { { f.point, 1, 33 }, { f.point, 34, 33 }, { f.sealed, 67, 0 } },
    Claim = { { f.hint, 1, 4 }, { f.handle, 5, 16 }, { f.nonce, 21, 24 }, { f.sealed, 45, 64 }, { f.extensions, 109, 0 } },
    Answer = { { f.nonce, 1, 24 }, { f.sealed, 25, 0 } },
    Busy = { { f.code, 1, 2, true }, { f.wait, 3, 4, true } },
}

local function show_opening(tree, body, kind)
    for _, one in ipairs(OPENING[kind]) do
        local which, at, length, little = one[1], one[2], one[3], one[4]
        if length == 0 then length = body:len() - at end
        if length > 0 and at + length <= body:len() then
            if little then tree:add_le(which, body(at, length)) else tree:add(which, body(at, length)) end
        elseif at > body:len() or length > 0 then
            tree:add_proto_expert_info(malformed, kind .. " is too short")
            return
        end
    end
end

local function show_packet(tree, body, kind)
    if kind == "ProtocolVersion" then
        tree:add(f.version, body(1), (varint(body:raw(), 2)) or 0)
    elseif kind == "ClientId" then
        local marker = body:len() > 1 and body(1, 1):uint() or 255
        local width = ({ [251] = 2, [252] = 4, [253] = 8 })[marker]
        if marker < 251 then
            tree:add(f.id, body(1, 1), UInt64.new(marker))
        elseif width and body:len() >= 2 + width then
            tree:add_le(f.id, body(2, width))
        else
            tree:add_proto_expert_info(malformed, "The integer is cut")
        end
    elseif kind ~= "Ping" and body:len() > 2 then
        tree:add(kind == "PubKey" and f.point or f.sealed, body(2))
    end
end

local function show_items(tree, found, body)
    local plain = ByteArray.new(found.plain, true):tvb("Opened record")
    local below = #found.plain > 0 and tree:add(f.plain, plain()) or tree
    for _, each in ipairs(found.items) do
        local row = below:add(f.item, plain(each.at - 1, each.size), each.text)
        if each.start and each.bytes > 0 then row:add(f.packet, plain(each.start - 1, each.bytes)) end
    end
    if found.cut then tree:add_proto_expert_info(malformed, "An item that is not well-formed") end
end

local function client_frame(buffer, pinfo, tree)
    local state, body = stream(pinfo), buffer(HEADER)
    if not state.client then state.client = pinfo.src_port end
    local is_up = pinfo.src_port == state.client
    local name = pinfo.number .. ":" .. buffer:offset()
    local found = seen[name]
    if not found then
        found = meet(state, is_up, buffer:len() > HEADER and buffer:raw(HEADER) or "")
        seen[name] = found
    end
    local size = buffer:len() - HEADER
    local about = found.kind
    if found.kind == "data" then
        about = string.format("packet of %d bytes", size)
    elseif found.items then
        local names = {}
        for _, each in ipairs(found.items) do names[#names + 1] = each.text end
        about = "record: " .. (#names > 0 and table.concat(names, "; ") or "empty")
    elseif found.kind == "record" then
        about = string.format("record of %d bytes", size)
    end
    pinfo.cols.protocol = "Voltlane"
    add_info(pinfo, (is_up and "up " or "down ") .. about)
    local row = tree:add(client_link, buffer(), string.format("Voltlane, %s, %s", is_up and "up" or "down", about))
    row:add_le(f.length, buffer(0, HEADER))
    row:add(f.kind, buffer(HEADER), found.kind)
    if found.bad then
        row:add_proto_expert_info(malformed, "This packet is not expected here")
    elseif found.opening then
        show_opening(row, body:tvb(), found.kind)
    elseif found.packet then
        show_packet(row, body:tvb(), found.kind)
    elseif found.items then
        show_items(row, found, body)
    elseif found.kind == "record" then
        row:add_proto_expert_info(locked, found.misfit and "The key of the log does not fit" or "No key for this record")
        if size > 0 then row:add(f.sealed, body) end
    elseif size > 0 then
        row:add(f.packet, body)
    end
    return buffer:len()
end

-------------------------------------------------------------------------------------------------------- backend link (7, 33)

local FLAGS = {
    [0x00] = "DATA", [0x01] = "Failure", [0x02] = "Kick", [0x03] = "Resumed", [0x10] = "ASK", [0x11] = "GRANT", [0x12] = "LINK_ACK",
    [0x13] = "JOINED", [0x14] = "AWAY", [0x15] = "RESUMED", [0x16] = "ENDED", [0x17] = "GAP", [0x18] = "SETTLED", [0x19] = "ADOPT", [0x1a] = "REFUSED",
    [0x1b] = "TOKEN", [0x1c] = "OWN", [0x1d] = "CHALLENGE", [0x2d] = "PROOF", [0x20] = "VOLATILE", [0x21] = "LATEST", [0x22] = "GROUP_SEND", [0x23] = "GROUP_ADD",
    [0x24] = "GROUP_REMOVE", [0x25] = "GROUP_END", [0x26] = "KICK", [0x27] = "POLICY", [0x28] = "GOAWAY", [0x29] = "PAUSE", [0x2a] = "GO_ON",
    [0x2b] = "ADOPTED", [0x2c] = "DISOWNED",
}

local function named(label) return { "value", label } end
local LEDGER = { "numbered", "acknowledged", "superseded", "gapped", "open and sent", "open and unsent", "skipped" }
-- What the data of a flag holds, in order: a field (or a label of a number) and its bytes. The rest of the body may end it early.
local LAYOUT = {
    [0x00] = { { g.packet } }, [0x01] = { { g.text } },
    [0x10] = { { g.version, 1 }, { g.features, 4 }, { g.boot, 16 }, { g.run, 8 }, { g.received, 8 }, { g.acknowledged, 8 }, { g.sent, 8 },
        { named "Longest body", 4 } },
    [0x11] = { { g.version, 1 }, { g.features, 4 }, { g.boot, 16 }, { named "Home", 2 }, { named "Term", 4 }, { g.run, 8 },
        { named "Continues run", 8 }, { g.received, 8 }, { named "Groups of a session", 2 }, { named "Sessions that live", 4 } },
    [0x12] = { { g.acknowledged, 8 }, { g.sent, 8 } },
    [0x13] = { { g.version, 1 }, { g.carriage, 1 }, { "address" }, { named "Exporter", 32 }, { g.token } },
    [0x14] = { { g.code, 2 }, { named "Time left in ms", 4 } },
    [0x15] = { { named "Counter", 8 }, { named "Away in ms", 8 }, { named "Packets of the replay", 8 }, { g.carriage, 1 }, { "address" } },
    [0x16] = { { g.code, 2 }, { "ledger", "up" }, { "ledger", "down" }, { g.text } },
    [0x17] = { { named "Direction", 1 }, { g.number, 8 }, { named "Count", 8 }, { named "Bytes lost", 8 }, { named "Reason", 1 } },
    [0x18] = { { "settled" } },
    [0x19] = { { named "Counter", 8 }, { named "Down received", 8 }, { named "Up acknowledged", 8 }, { g.carriage, 1 }, { "address" } },
    [0x1a] = { { named "Flag of the refused frame", 1 }, { named "Reason", 1 } },
    [0x1b] = { { g.token } },
    [0x1c] = { { named "Counter", 8 }, { named "Next up", 8 }, { named "Numbered down", 8 }, { named "Settled down", 8 }, { named "State", 1 }, { g.text } },
    [0x20] = { { g.packet } },
    [0x21] = { { named "Key", 1 }, { g.packet } },
    [0x22] = { { named "Class", 1 }, { named "Key", 1 }, { "left out" }, { g.packet } },
    [0x23] = { { "ids" } }, [0x24] = { { "ids" } },
    [0x26] = { { g.code, 2 }, { named "Wait in ms", 4 }, { g.text } },
    [0x27] = { { named "Window in s", 4 }, { named "Bytes of the ring", 4 }, { named "When there is no room", 1 }, { g.text } },
    [0x28] = { { g.code, 2 }, { named "Earliest in ms", 4 }, { named "Latest in ms", 4 }, { named "Drain in ms", 4 } },
    [0x2b] = { { named "Counter", 8 }, { named "Next up", 8 }, { named "Numbered down", 8 }, { named "Until", 8 } },
    [0x2c] = { { named "Counter that it answers", 8 }, { named "Known counter", 8 }, { g.code, 2 } },
}

local BIG = { [g.boot] = true, [g.run] = true, [g.token] = true, [g.packet] = true, [g.text] = true }

-- The most ids of a list that are shown one by one.
local SHOWN = 100

local function show_ids(row, data, at, count)
    for i = 0, math.min(count, SHOWN) - 1 do row:add_le(g.id, data(at + 8 * i, 8)) end
    if count > SHOWN then row:add(g.bytes, data(at + 8 * SHOWN)):set_text(string.format("and %d more", count - SHOWN)) end
end

local function show_link(row, data, flag)
    local at = 0
    local function left() return data and data:len() - at or 0 end
    local function need(bytes)
        if left() >= bytes then return true end
        row:add_proto_expert_info(link_malformed, (FLAGS[flag] or "The frame") .. " is too short")
        return false
    end
    for _, part in ipairs(LAYOUT[flag] or {}) do
        local which, size = part[1], part[2]
        if which == "address" then
            if not need(19) then return end
            local family = data(at, 1):uint()
            if family == 4 then row:add(g.address4, data(at + 1, 4)) elseif family == 6 then row:add(g.address6, data(at + 1, 16)) end
            row:add_le(g.port, data(at + 17, 2))
            at = at + 19
        elseif which == "ledger" then
            if not need(56) then return end
            local below = row:add(g.bytes, data(at, 56)):set_text("Ledger " .. size)
            for i, label in ipairs(LEDGER) do
                local span = data(at + 8 * (i - 1), 8)
                below:add_le(g.value, span):set_text(label .. ": " .. tostring(span:le_uint64()))
            end
            at = at + 56
        elseif which == "settled" then
            if left() % 16 ~= 0 then row:add_proto_expert_info(link_malformed, "SETTLED ends within a pair") return end
            for i = 0, math.min(left() / 16, SHOWN) - 1 do
                row:add_le(g.id, data(at + 16 * i, 8))
                row:add_le(g.number, data(at + 16 * i + 8, 8))
            end
            return
        elseif which == "ids" then
            if left() % 8 ~= 0 then row:add_proto_expert_info(link_malformed, "The list ends within an id") return end
            show_ids(row, data, at, left() / 8)
            return
        elseif which == "left out" then
            if not need(1) then return end
            local count = data(at, 1):uint()
            at = at + 1
            if not need(8 * count) then return end
            show_ids(row, data, at, count)
            at = at + 8 * count
        elseif not size then
            if left() > 0 then row:add(which, data(at)) end
            return
        else
            if not need(size) then return end
            local span = data(at, size)
            if type(which) == "table" then
                local value = size <= 8 and (size > 4 and tostring(span:le_uint64()) or tostring(span:le_uint())) or tostring(span:bytes()):lower()
                row:add(g.bytes, span):set_text(which[2] .. ": " .. value)
            elseif BIG[which] then
                row:add(which, span)
            else
                local shown = row:add_le(which, span)
                if which == g.code then shown:set_text("Code: " .. code_text(span:le_uint())) end
            end
            at = at + size
        end
    end
end

local ABOUT_GROUPS = { [0x22] = true, [0x23] = true, [0x24] = true, [0x25] = true }

local function link_frame(buffer, pinfo, tree)
    pinfo.cols.protocol = "Voltlane link"
    local size = buffer:len() - HEADER
    if size < 9 then
        local row = tree:add(backend_link, buffer(), "Voltlane link, malformed")
        row:add_proto_expert_info(link_malformed, "A tagged packet has at least 9 bytes")
        add_info(pinfo, "malformed")
        return buffer:len()
    end
    local flag = buffer(HEADER + 8, 1):uint()
    local id = buffer(HEADER, 8):le_uint64()
    local name = FLAGS[flag] or string.format("flag 0x%02x", flag)
    local about = string.format("%s of %s", name, tostring(id))
    if id == UInt64.new(0) then about = name end
    if flag == 0 then about = string.format("packet of %d bytes of %s", size - 9, tostring(id)) end
    add_info(pinfo, about)
    local row = tree:add(backend_link, buffer(), "Voltlane link, " .. about)
    row:add_le(g.length, buffer(0, HEADER))
    row:add_le(ABOUT_GROUPS[flag] and g.group or g.id, buffer(HEADER, 8))
    row:add(g.flag, buffer(HEADER + 8, 1))
    row:add(g.kind, buffer(HEADER + 8, 1), name)
    show_link(row, size > 9 and buffer(HEADER + 9) or nil, flag)
    return buffer:len()
end

------------------------------------------------------------------------------------------------------------- registration

local function length_of(buffer, _, at)
    local length = buffer(at, HEADER):le_uint()
    -- A length that no receiver takes (2.2): the stream is no longer framed. What is there is shown as one frame.
    if length > MOST then return buffer:len() - at end
    return HEADER + length
end

function client_link.dissector(buffer, pinfo, tree)
    return dissect_tcp_pdus(buffer, tree, HEADER, length_of, client_frame)
end

function backend_link.dissector(buffer, pinfo, tree)
    return dissect_tcp_pdus(buffer, tree, HEADER, length_of, link_frame)
end

-- ProtocolVersion(2) or (3) is the first frame of each client.
client_link:register_heuristic("tcp", function(buffer, pinfo, tree)
    if buffer:len() < 6 or buffer(0, 4):le_uint() ~= 2 or buffer(4, 1):uint() ~= 1 then return false end
    local version = buffer(5, 1):uint()
    if version ~= 2 and version ~= 3 then return false end
    client_link.dissector(buffer, pinfo, tree)
    pinfo.conversation = client_link
    return true
end)

-- ASK is the first frame of a backend that asks for version 3 (34.1).
backend_link:register_heuristic("tcp", function(buffer, pinfo, tree)
    if buffer:len() < 14 or buffer(4, 8):le_uint64() ~= UInt64.new(0) or buffer(12, 1):uint() ~= 0x10 then return false end
    local length = buffer(0, 4):le_uint()
    if length < 66 or length > 4096 or buffer(13, 1):uint() < 3 then return false end
    backend_link.dissector(buffer, pinfo, tree)
    pinfo.conversation = backend_link
    return true
end)

local tcp_ports = DissectorTable.get("tcp.port")
tcp_ports:add_for_decode_as(client_link)
tcp_ports:add_for_decode_as(backend_link)

local function ports_of(proto)
    local now = proto.prefs.ports
    tcp_ports:add(now, proto)
    return function()
        if proto.prefs.ports == now then return end
        if now ~= "" then tcp_ports:remove(now, proto) end
        now = proto.prefs.ports
        if now ~= "" then tcp_ports:add(now, proto) end
    end
end
local client_ports, link_ports = ports_of(client_link), ports_of(backend_link)
function client_link.prefs_changed() client_ports() end
function backend_link.prefs_changed() link_ports() end
