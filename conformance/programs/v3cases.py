"""Plays the cases of a client (sim/cases/v3/client*.txt) on the client of v3client.py, in virtual time: v3cases.py FILE...

sim/cases/README.md describes their lines. Prints each case that fails, and how many were played.
"""

import functools
import re
import struct
import sys

import v3client as v3
from v3client import Lane, agree, expand, extract, frame, private_key, public_bytes, seal, sha256, unseal, varint

# The randoms of cases are fixed, so their keys come again and again.
v3.hchacha20 = functools.lru_cache(4096)(v3.hchacha20)

RUN = b"\x77" * 8
FIRST_ID = 0x0102030405060708
UNIT = {"us": 0.001, "ms": 1, "s": 1000, "h": 3_600_000}


class Failed(Exception):
    pass


def expect(is_right, what):
    if not is_right:
        raise Failed(what)


# -- the language


def words(line):
    """Splits at blanks outside of quotes and brackets; # begins a comment."""
    found, word, closing = [], "", None
    for character in line:
        if closing is None and character == "#" and not word:
            break
        if closing is None and character == " ":
            if word:
                found.append(word)
            word = ""
            continue
        if closing is None:
            closing = {'"': '"', "[": "]"}.get(character)
        elif character == closing:
            closing = None
        word += character
    return found + [word] if word else found


def read_cases(path):
    """Yields (name, configuration, steps) of each case, once for each of its values."""
    case = None
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            line = words(line.rstrip("\n"))
            if not line:
                continue
            if line[0] == "case":
                if case:
                    yield from expanded(case)
                case = {"name": line[1], "config": [], "each": None, "steps": []}
            elif line[0] == "each":
                case["each"] = line[1], line[3:]
            elif line[0] == "config":
                case["config"].append((line[1], " ".join(line[3:])))
            elif line[0] not in ("spec", "row", "core", "uncut"):
                case["steps"].append((number, line))
    if case:
        yield from expanded(case)


def expanded(case):
    name, values = case["each"] or ("", [""])
    for value in values:

        def put(text):
            return text.replace("$" + name, value) if name else text

        config = {key: put(text) for key, text in case["config"]}
        steps = [(number, [put(word) for word in line]) for number, line in case["steps"]]
        yield f"{case['name']} {value}", config, steps


def literal(word):
    """The bytes of "text" or [hex], with an optional *N; None for another word."""
    match = re.fullmatch(r'(?:"([^"]*)"|\[([0-9a-fA-F_ ]*)\])(?:\*(\d+))?', word)
    if not match:
        return None
    text, digits, times = match.groups()
    one = text.encode() if text is not None else bytes.fromhex(digits.replace("_", "").replace(" ", ""))
    return one * int(times or 1)


def opening_word(word):
    """NAME:ARGUMENT,OPTION=VALUE,.../CHANGE=N/... as (name, argument, options, changes)."""
    head, *changes = word.split("/")
    head, *options = head.split(",")
    name, _, argument = head.partition(":")
    return name, argument, dict(option.split("=", 1) for option in options), changes


def spoil(body, changes):
    for change in changes:
        what, amount = change.split("=")
        amount = int(amount, 0)
        if what == "flip":
            body = bytearray(body)
            body[amount // 8] ^= 1 << amount % 8
        elif what == "cut":
            body = body[:amount]
        else:
            body = body + bytes(amount)
    return bytes(body)


def encode(word):
    """The bytes of an item, and how many numbers it takes."""
    if word.startswith("times:"):
        _, times, one = word.split(":", 2)
        one, numbers = encode(one)
        return one * int(times), numbers * int(times)
    data = literal(word)
    if data is not None:
        return v3.packet_item(data), 1
    name, _, rest = word.partition(":")
    if name == "raw":
        return literal(rest), 0
    if name == "pad":
        return b"\x01" + bytes(int(rest) - 1), 0
    if name in ("early_end", "ack_now"):
        return v3.item(name), 0
    if name in ("ack", "skipped", "superseded"):
        return v3.item(name, int(rest, 0)), int(rest, 0) * (name == "superseded")
    if name in ("token", "part", "volatile"):
        return v3.item(name, literal(rest)), 0
    if name == "gap":
        fields = [int(field, 0) for field in rest.split(":")]
        return v3.item(name, *fields), fields[0]
    if name == "latest":
        key, data = rest.split(":", 1)
        return v3.item(name) + bytes([int(key)]) + varint(len(literal(data))) + literal(data), 1
    if name in ("ping", "pong"):
        return v3.item(name) + literal(rest), 0
    if name == "goaway":
        return v3.item(name, *[int(field, 0) for field in rest.split(":")]) + b"\0", 0
    if name == "close":
        code, *options = rest.split(",")
        options = dict(option.split("=", 1) for option in options)
        times = [int(options.get(field, "0"), 0) for field in ("wait", "jitter", "detail")]
        return v3.close_item(int(code, 0), *times, text=literal(options.get("text", '""'))), 0
    if name == "item":
        kind, data = rest.split(":", 1)
        return varint(2 * int(kind, 0) + 1) + varint(len(literal(data))) + literal(data), 0
    raise Failed(f"{word} is no item")


# -- the edge


class Line:
    """The edge's end of a connection."""

    def __init__(self):
        self.hello = self.claim = self.opener = self.sealer = self.up = None
        self.next_up = self.next_down = 1
        self.told_up = self.acked = 0
        self.come, self.last = [], b""


class World:
    def __init__(self, config, chunk):
        self.config, self.chunk, self.draws, self.ids = config, chunk, 0, 0
        self.keys = {"edge": private_key(b"\x11" * 32), "other": private_key(b"\x22" * 32)}
        pin = public_bytes(self.keys[config["pin"]]) if "pin" in config else None
        token = literal(config.get("token", '""'))
        longest = int(config.get("longest", str(8 << 20)))
        self.client = v3.Client(pin, token, longest, config.get("takes_over") == "true")
        self.buffer, self.events, self.line, self.session = b"", [], Line(), None
        self.marks = {"join": bytes(8), "foreign": b"\xff" * 8}

    def random(self, length):
        self.draws += 1
        return bytes([0x32 + self.draws]) * length

    def settle(self):
        client = self.client
        for _ in range(1000):
            wire = client.written()
            self.buffer += wire
            for event in client.events:
                self.events.append(self.tell(*event))
            client.events.clear()
            if client.wants_close:
                client.wants_close = False
                client.closed()
            if not wire:
                return
        raise Failed("there is always more to do")

    @staticmethod
    def tell(name, *fields):
        if name == "packet":
            return fields[1]
        if name == "connected":
            return name
        if name == "end":
            return f"end:{fields[0]}".replace(" ", "_")
        if name == "resumed":
            return f"resumed:{fields[0]}:{fields[1]}"
        return ":".join([name, *map(str, fields)])

    def deliver(self, data):
        for at in range(0, len(data), self.chunk):
            self.client.feed(data[at : at + self.chunk])
            self.settle()

    def wait(self, time):
        end = self.client.now + time
        while self.client.now < end:
            # Only what is so at the end is looked at.
            step = max(1, (end - self.client.now) // 50)
            self.client.timeout(min(self.client.now + step, end))
            self.settle()
            if self.client.wants_connect():
                self.client.now = end

    # What the client sends.

    def body(self):
        if len(self.buffer) < 4:
            return None
        length = struct.unpack("<I", self.buffer[:4])[0]
        if len(self.buffer) < 4 + length:
            return None
        body, self.buffer = self.buffer[4 : 4 + length], self.buffer[4 + length :]
        return body

    def item(self):
        """The next item; ("empty",) for a record without one; None if there is nothing."""
        while not self.line.come:
            body = self.body()
            if body is None:
                return None
            expect(self.line.opener is not None, f"{body.hex()} came")
            self.record(body)
        return self.line.come.pop(0)

    def record(self, body):
        line = self.line
        plain = line.opener.open(line.next_up, body)
        expect(plain is not None, "a record that does not open")
        items = list(v3.read_items(plain, False))
        if not items:
            line.come.append(("empty",))
        for one in items:
            line.next_up += one[0] == "packet"
            self.session["received"] = max(self.session["received"], line.next_up - 1)
            if one[0] == "ack":
                line.acked += one[1]
            elif one[0] not in ("ack_now", "pad", "ignored"):
                line.come.append(one)
        if ("early_end",) in items:
            line.opener, line.next_up = Lane(line.up), max(line.told_up, line.next_up - 1) + 1
            self.session["accepted"] = self.session["accepted"][-1:]

    def sends(self, word):
        name, argument, options, _ = opening_word(word) if literal(word) is None else ("", "", {}, [])
        if word == "nothing":
            one = self.item()
            return expect(one is None, f"{one} came")
        if name == "version":
            body = self.body()
            return expect(body == b"\x01" + varint(int(argument)), f"{body} came")
        if name == "hello":
            return self.hello(options)
        if name == "claim":
            return self.claim(options)
        if name == "joined":
            joined = b""
            while (one := self.item()) and one[0] == "part":
                joined += one[1]
            return expect(one == ("packet", literal(argument)[len(joined) :]), f"{one and one[0]} came after {len(joined)}")
        one = self.item()
        expect(one is not None, "nothing came")
        if name == "close":
            expect(one[0] == "close" and one[1] == int(argument), f"{one} came")
            return expect("detail" not in options or one[4] == int(options["detail"]), f"{one} came")
        if word in ("empty", "ping"):
            return expect(one[0] == word, f"{one} came")
        wanted = next(iter(v3.read_items(encode(word)[0], False)))
        expect(one == wanted, f"{one} came")

    def hello(self, options):
        body = self.body()
        expect(body is not None and body[0] == 0x10 and len(body) >= 42, f"{body} came")
        features = struct.unpack("<I", body[1:5])[0]
        expect(features & 0xFFFFFF == 0 and features.bit_count() == 1, "the features")
        expect("hint" not in options or body[5:9] == literal(options["hint"]), "the hint")
        if "longest" in options:
            expect(body[42:] == b"\x01\x04" + struct.pack("<I", int(options["longest"])), "the extension")
        self.line.hello = body

    def claim(self, options):
        body, session = self.body(), self.session
        expect(body is not None and body[0] == 0x12 and len(body) == 109, f"{body} came")
        key = expand(session["claim_key"], b"seal")
        plain = unseal(key, body[21:45], body[:45], body[45:])
        expect(plain is not None, "a Claim that does not open")
        counter, life, run, first, received, reserved = struct.unpack("<QQ8sQQQ", plain)
        expect((life, run, reserved) == (0, RUN, 0), "a field of the Claim")
        found = {"counter": counter, "first": first, "received": received}
        for option, value in options.items():
            expect(found[option] == int(value), f"{option} is {found[option]}")
        tc = sha256(b"voltlane 3 resume", body)
        while len(session["chain"]) < counter:
            session["chain"].append(expand(session["chain"][-1], b"next"))
        secret = session["chain"][counter - 1]
        self.marks[str(counter)] = tc[:8]
        line = self.line
        line.opener, line.next_up = Lane(expand(secret, b"early" + tc)), first
        line.claim = tc, secret, received

    # What the edge sends.

    def packet(self, word):
        name, argument, options, changes = opening_word(word) if literal(word) is None else ("", "", {}, [])
        if name == "welcome":
            body = self.welcome(argument)
        elif name == "answer":
            body = self.answer(int(argument), {key: int(value, 0) for key, value in options.items()}, changes)
        elif name == "busy":
            body = b"\x14" + struct.pack("<HI", int(argument), int(options.get("wait", "0"), 0))
        elif name == "frame":
            return frame(literal(argument))
        elif name == "len":
            return struct.pack("<I", int(argument))
        elif name == "key":
            return frame(b"\x02" + varint(len(literal(argument))) + literal(argument))
        else:
            return literal(word)
        return frame(spoil(body, changes))

    def welcome(self, whose):
        edge, ephemeral = self.keys[whose or "edge"], private_key(self.random(32))
        point, public, hello = public_bytes(ephemeral), public_bytes(edge), self.line.hello
        th = sha256(b"voltlane 3 join", hello, point, public)
        shared = agree(ephemeral, hello[9:42]) + agree(edge, hello[9:42])
        prk = extract(b"voltlane 3 k256 xchacha20poly1305 sha256", shared)

        def setting(name, usual):
            return int(str(self.config.get("welcome." + name, usual)), 0)

        claim_key = bytes([0xC0 + self.ids]) * 32
        plain = struct.pack("<Q", FIRST_ID + self.ids) + claim_key + b"\xa1" * 16 + RUN
        plain += struct.pack("<Q", setting("reserved", 0))
        usual = {"features": 0, "longest": 1 << 20, "ring_packets": 8192, "ring_bytes": 1 << 20, "window": 300}
        plain += b"".join(struct.pack("<I", setting(*one)) for one in usual.items())
        plain += struct.pack("<HH", setting("ack_delay", 250), setting("keep_alive", 20))
        plain += b"\xee" * setting("more", 0)
        self.ids += 1
        self.session = {
            "claim_key": claim_key,
            "chain": [expand(prk, b"rs1" + th)],
            "received": 0,
            "sent": 0,
            "accepted": [bytes(8)],
        }
        line = self.line
        line.opener, line.sealer = Lane(expand(prk, b"up" + th)), Lane(expand(prk, b"down" + th))
        return b"\x11" + point + public + seal(expand(prk, b"hs" + th), bytes(24), th, plain)

    def answer(self, code, fields, changes):
        tc, secret, received = self.line.claim
        handle = bytes([0xA1 + self.draws]) * 16
        plain = struct.pack("<HHQII", code, 0, *[fields.get(name, 0) for name in ("highest", "wait", "jitter")])
        plain += RUN + handle + struct.pack("<QQ", fields.get("up", 0), fields.get("down", 0))
        plain += bytes(68 + fields.get("more", 0))
        head = b"\x13" + self.random(24)
        body = head + seal(expand(self.session["claim_key"], b"answer" + tc), head[1:], head, plain)
        if code == 0 and not changes:
            while (early := self.body()) is not None:
                self.record(early)
            line, tr = self.line, sha256(tc, body)
            line.up, line.sealer = expand(secret, b"up" + tr), Lane(expand(secret, b"down" + tr))
            line.next_down = received + 1
            self.session["accepted"].append(tc[:8])
        return body

    def resumed(self, word):
        _, _, options, _ = opening_word(word)
        marks = self.session["accepted"][:-1]
        if "marks" in options:
            marks = [self.marks[name] for name in options["marks"].split("+")]
        self.line.told_up = int(options.get("up", self.session["received"]))
        fields = [int(options.get("until", self.session["sent"])), self.line.told_up]
        fields += [int(options.get(name, 0)) for name in ("away", "cause")]
        return v3.item("resumed", *fields, b"".join(marks))

    def seals(self, how, items):
        bit = int(items.pop(0)) if how == "spoils" else None
        plain, numbers = b"", 0
        for word in items:
            if word.startswith("resumed"):
                plain += self.resumed(word)
            elif word != "nothing":
                one, more = encode(word)
                plain, numbers = plain + one, numbers + more
        line = self.line
        body = line.sealer.seal(line.next_down + (how == "miscounts"), plain)
        line.next_down += numbers
        self.session["sent"] = max(self.session["sent"], line.next_down - 1)
        if bit is not None:
            body = spoil(body, [f"flip={bit}"])
        line.last = frame(body)
        if how != "skips":
            self.deliver(line.last)

    # The lines.

    def step(self, line):
        client = self.client
        match line:
            case ["wait", time]:
                number, unit = re.fullmatch(r"(\d+)(\w+)", time).groups()
                self.wait(int(number) * UNIT[unit])
            case ["client", "connects"]:
                self.until_it_dials()
                self.line, self.buffer = Line(), b""
                client.connected(self.random(32))
            case ["client", "cannot", "connect"]:
                self.until_it_dials()
                client.pause()
                client.wants_close = False
            case ["client", "dials"]:
                expect(client.wants_connect(), f"it is {client.state}")
            case ["client", "rests"]:
                expect(not client.wants_connect() and client.state == v3.WAITING, f"it is {client.state}")
            case ["client", "sends", *items]:
                for word in items:
                    self.sends(word)
                return
            case ["client", "acknowledges", number]:
                while (body := self.body()) is not None:
                    self.record(body)
                expect(self.line.acked == int(number), f"{self.line.acked} is acknowledged")
            case ["client", "is", state]:
                found = v3.WAITING if client.state == v3.CONNECTING else client.state
                expect(found == state, f"it is {found}")
            case ["client", "gets", "nothing"]:
                expect(not self.events, f"it got {self.events}")
            case ["client", "gets", *events]:
                for word in events:
                    wanted = literal(word)
                    found = self.events.pop(0) if self.events else None
                    expect(found == (word if wanted is None else wanted), f"it got {found}")
            case ["application", "sends", *items]:
                for word in items:
                    client.send(literal(word))
            case ["application", "takes", number]:
                client.take(int(number))
            case ["application", "closes"]:
                client.close()
            case ["application", "starts", "over"]:
                client.start_over()
            case ["edge", "sends", *items]:
                self.deliver(b"".join(self.packet(word) for word in items))
            case ["edge", ("seals" | "spoils" | "skips" | "miscounts") as how, *items]:
                self.seals(how, items)
            case ["edge", "repeats"]:
                self.deliver(self.line.last)
            case ["edge", "ends" | "breaks"]:
                client.closed()
                client.wants_close = False
            case _:
                raise Failed("this line means nothing")
        self.settle()

    def until_it_dials(self):
        for _ in range(10_000):
            if self.client.wants_connect():
                return
            self.client.timeout(self.client.now + 1)
            self.settle()
        raise Failed("it does not dial")


def play(config, steps, chunk):
    world = World(config, chunk)
    for number, line in steps:
        try:
            world.step(list(line))
        except (Failed, v3.Wrong) as failed:
            return f"line {number} `{' '.join(line)}`: {failed}"
    left = world.events or world.item()
    return f"{left} came" if left else None


def main(paths):
    played, failures = 0, []
    for path in paths:
        for name, config, steps in read_cases(path):
            if config.get("versions") == "2,3":
                # This client has no version 2.
                continue
            for chunk in (1 << 30, 7):
                played += 1
                failure = play(config, steps, chunk)
                if failure:
                    failures.append(f"{name}: {failure}")
                    break
    print("\n".join(failures))
    print(f"{played} played, {len(failures)} failed")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
