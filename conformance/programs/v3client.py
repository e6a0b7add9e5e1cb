"""A client of version 3, written from SPEC.txt sections 18 to 32 alone: no other code of this repository was read for it.

`Client` is a machine without a socket and without a clock. Bytes, times (in ms) and 32 random bytes for each connection go in; bytes and
events come out. `v3cases.py` plays the cases of sim/cases/v3 on it. As a program it uses an edge whose backend echoes:

    v3client.py HOST:PORT [PIN]     PIN is the edge's public key in hexadecimal

It needs the package cryptography.
"""

import hashlib
import hmac
import os
import select
import socket
import struct
import sys
import time

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

# -- cryptography (SPEC 20.1)

CURVE = ec.SECP256K1()
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def extract(salt, material):
    return hmac.new(salt, material, hashlib.sha256).digest()


def expand(key, info, length=32):
    out, block = b"", b""
    for number in range(1, 256):
        if len(out) >= length:
            break
        block = hmac.new(key, block + info + bytes([number]), hashlib.sha256).digest()
        out += block
    return out[:length]


def hchacha20(key, nonce):
    """Returns the subkey of XChaCha20 for the first 16 bytes of a nonce."""
    state = list(struct.unpack("<4I", b"expand 32-byte k") + struct.unpack("<8I", key) + struct.unpack("<4I", nonce))

    def quarter(a, b, c, d):
        for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[x] = (state[x] + state[y]) & 0xFFFFFFFF
            mixed = state[z] ^ state[x]
            state[z] = ((mixed << turn) | (mixed >> (32 - turn))) & 0xFFFFFFFF

    for _ in range(10):
        for column in range(4):
            quarter(column, column + 4, column + 8, column + 12)
        for a, b, c, d in ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            quarter(a, b, c, d)
    return struct.pack("<8I", *state[:4], *state[12:])


def seal(key, nonce, associated, plain):
    subkey = hchacha20(key, nonce[:16])
    return ChaCha20Poly1305(subkey).encrypt(bytes(4) + nonce[16:], bytes(plain), associated)


def unseal(key, nonce, associated, sealed):
    """Returns the plain bytes, or None."""
    subkey = hchacha20(key, nonce[:16])
    try:
        return ChaCha20Poly1305(subkey).decrypt(bytes(4) + nonce[16:], bytes(sealed), associated)
    except InvalidTag:
        return None


def private_key(secret):
    """A private key made of 32 bytes; of those that are none, another one."""
    return ec.derive_private_key(int.from_bytes(secret, "big") % (ORDER - 1) or 1, CURVE)


def public_bytes(private):
    return private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)


def agree(private, point):
    """Returns the x coordinate of the shared point. Raises ValueError for a point that is none."""
    return private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(CURVE, bytes(point)))


def hint_of(public):
    return sha256(public)[:4]


class Lane:
    """Records under one secret (SPEC 20.5)."""

    def __init__(self, secret):
        both = expand(secret, b"record", 48)
        self.cipher, self.count = ChaCha20Poly1305(hchacha20(both[:32], both[32:])), 0

    def nonce(self):
        return bytes(4) + self.count.to_bytes(8, "little")

    def seal(self, number, plain):
        body = self.cipher.encrypt(self.nonce(), bytes(plain), number.to_bytes(8, "little"))
        self.count += 1
        return body

    def open(self, number, body):
        try:
            plain = self.cipher.decrypt(self.nonce(), bytes(body), number.to_bytes(8, "little"))
        except InvalidTag:
            return None
        self.count += 1
        return plain


# -- frames, integers and items (SPEC 2, 3.1, 21.3)

MAX = 2**63 - 1
VERSION_3 = b"\x01\x03"


class Wrong(Exception):
    """The edge broke the protocol: the code of the CLOSE that answers it, and its detail."""

    def __init__(self, code=403, detail=0):
        super().__init__(code)
        self.code, self.detail = code, detail


def frame(body):
    return struct.pack("<I", len(body)) + body


def varint(value):
    for limit, first, width in ((251, None, 1), (2**16, 251, 2), (2**32, 252, 4)):
        if value < limit:
            return (b"" if first is None else bytes([first])) + value.to_bytes(width, "little")
    return b"\xfd" + value.to_bytes(8, "little")


class Reader:
    """Reads the fields of a record."""

    def __init__(self, plain):
        self.plain, self.at = bytes(plain), 0

    def take(self, length):
        if length > len(self.plain) - self.at:
            raise Wrong
        self.at += length
        return self.plain[self.at - length : self.at]

    def varint(self, limit=2**64 - 1):
        first = self.take(1)[0]
        if first > 253:
            raise Wrong
        width = {251: 2, 252: 4, 253: 8}.get(first)
        value = first if width is None else int.from_bytes(self.take(width), "little")
        if width and len(varint(value)) != 1 + width or value > limit:
            raise Wrong
        return value

    def string(self):
        return self.take(self.varint())


NAMES = (
    "pad token early_end ack ack_now part gap superseded latest volatile skipped resumed ping pong goaway close".split()
)
UP_ONLY = {"token", "early_end"}
DOWN_ONLY = {"gap", "superseded", "latest", "volatile", "skipped", "resumed", "goaway"}
MS = 2**32 - 1


def is_code(code):
    return code == 0 or 100 <= code <= 699


def read_items(plain, down):
    """Yields the items of a record as (name, fields ...), up to an error."""
    reader, items = Reader(plain), 0
    while reader.at < len(reader.plain):
        items += 1
        if items > 4096:
            raise Wrong
        head = reader.varint()
        if head % 2 == 0:
            yield "packet", reader.take(head // 2)
            continue
        kind = head // 2
        if kind >= 32:
            reader.string()
            yield ("ignored",)
            continue
        if kind >= len(NAMES):
            raise Wrong
        name = NAMES[kind]
        if name in (UP_ONLY if down else DOWN_ONLY):
            raise Wrong
        if name == "pad":
            zeros = reader.take(len(reader.plain) - reader.at)
            if any(zeros):
                raise Wrong
            yield "pad", len(zeros)
        elif name == "token":
            token = reader.string()
            if len(token) > 4096:
                raise Wrong
            yield name, token
        elif name in ("early_end", "ack_now"):
            yield (name,)
        elif name in ("ack", "superseded", "skipped"):
            yield name, counted(reader)
        elif name == "part":
            piece = reader.string()
            if not piece:
                raise Wrong
            yield name, piece
        elif name == "gap":
            count, size, reason = counted(reader), reader.varint(), reader.varint(255)
            if reason == 0:
                raise Wrong
            yield name, count, size, reason
        elif name == "latest":
            key = reader.take(1)[0]
            if key > 63:
                raise Wrong
            yield name, key, reader.string()
        elif name == "volatile":
            yield name, reader.string()
        elif name == "resumed":
            until, up, away, cause = reader.varint(MAX), reader.varint(MAX), reader.varint(), reader.varint()
            marks = reader.string()
            if not is_code(cause) or not marks or len(marks) % 8 or len(marks) > 512:
                raise Wrong
            yield name, until, up, away, cause, [marks[at : at + 8] for at in range(0, len(marks), 8)]
        elif name in ("ping", "pong"):
            yield name, reader.take(8)
        elif name == "goaway":
            code, earliest, latest, drain = reader.varint(), reader.varint(MS), reader.varint(MS), reader.varint(MS)
            if reader.take(1) != b"\0" or latest < earliest or not is_code(code):
                raise Wrong
            yield name, code, earliest, latest, drain
        else:
            code, wait, jitter, detail = reader.varint(), reader.varint(MS), reader.varint(MS), reader.varint()
            ledger = [reader.varint() for _ in range(14)]
            text = reader.string()
            if len(text) > 256 or not is_code(code) or not down and code not in (0, 403, 404):
                raise Wrong
            try:
                words = text.decode()
            except UnicodeDecodeError:
                raise Wrong from None
            yield name, code, wait, jitter, detail, ledger, words


def counted(reader):
    count = reader.varint(MAX)
    if count == 0:
        raise Wrong
    return count


def item(name, *fields):
    """Encodes an item whose fields are integers and byte strings."""
    kind = bytes(varint(2 * NAMES.index(name) + 1))
    return kind + b"".join(
        varint(field) if isinstance(field, int) else varint(len(field)) + field for field in fields
    )


def packet_item(data):
    return varint(2 * len(data)) + data


def close_item(code, wait=0, jitter=0, detail=0, ledger=(0,) * 14, text=b""):
    return item("close", code, wait, jitter, detail, *ledger, text)


# -- the client

RECORD = 4096
BIGGEST = 65_552
WELCOME, ANSWER, RESUMED, OPEN, CLOSING = "welcome", "answer", "resumed", "open", "closing"
WAITING, CONNECTING, LEAVING, OVER = "waiting", "connecting", "leaving", "over"


class Session:
    """What a Welcome gave, and the counters and marks of SPEC 23.5 and 23.6."""

    def __init__(self, plain, hint, rs):
        self.id, self.claim_key, self.handle, self.run = plain[:8], plain[8:40], plain[40:56], plain[56:64]
        fields = struct.unpack("<IIIIIHH", plain[72:96])
        _, self.longest, self.ring_packets, self.ring_bytes, self.window, self.ack_delay, self.keep_alive = fields
        self.hint, self.rs, self.least, self.counter = hint, rs, 1, 0
        self.confirmed = self.used = self.refusals = 0
        self.marks, self.forgot = [bytes(8)], False

    def remember(self, mark):
        self.marks.append(mark)
        if len(self.marks) > 128:
            self.marks.pop(0)
            self.forgot = True


class Client:
    def __init__(self, pin=None, token=b"", longest=8 << 20, take_over=False):
        self.pin, self.token, self.longest, self.take_over = pin, token, longest, take_over
        self.now, self.state, self.session = 0, WAITING, None
        self.events, self.out, self.next, self.got, self.taken = [], [], 1, 0, 0
        self.holes = []
        self.retry_at, self.step, self.breaches, self.moved = 0, 100, 0, False
        self.goodbye, self.miscounted = None, 0
        self.wire = self.input = b""
        self.wants_close = False

    # What the application does.

    def send(self, data):
        self.out.append((self.next, bytes(data)))
        self.next += 1

    def take(self, number):
        """The application has come back for the packet after `number`."""
        for first, last in self.holes:
            if first <= number + 1 <= last:
                number = last
        self.taken = max(self.taken, min(number, self.got))
        if self.state == OPEN and self.taken > self.told and self.due_since is None:
            self.due_since = self.now

    def close(self):
        self.goodbye = "wanted"
        if self.session is None:
            self.end(0, "never begun")

    def start_over(self):
        self.session, self.state, self.step = None, WAITING, 100
        self.retry_at = max(self.now, self.afresh_at)
        self.out, self.next, self.got, self.taken, self.holes, self.goodbye = [], 1, 0, 0, [], None

    # What the transport does.

    def wants_connect(self):
        if self.state == WAITING and self.now >= self.retry_at:
            self.state = CONNECTING
        return self.state == CONNECTING

    def connected(self, random):
        self.input, self.wire, self.wants_close = b"", frame(VERSION_3), False
        self.deadline, self.heard_at, self.pinged = self.now + 5000, self.now, False
        self.opened_at, self.pieces, self.pong, self.ack_now = None, [], None, False
        self.told, self.heard, self.leave_at = 0, 0, None
        self.due_since, self.has_answer = None, False
        self.part_of, self.part_at, self.sent_items = None, 0, False
        if self.session is None:
            self.begin(random)
        else:
            self.claim(random)

    def closed(self):
        if self.state in (OVER, WAITING, CONNECTING):
            return
        if self.state == CLOSING:
            return self.end(0, "the edge did not answer")
        self.pause()

    def pause(self, wait=0, jitter=0, random=None):
        """Waits for the usual time, at least, and then resumes."""
        share = int.from_bytes(random or os.urandom(4), "little") / 2**32
        self.state, self.wire = WAITING, b""
        self.retry_at = self.now + max(wait + share * jitter, share * self.step)
        self.step = min(2 * self.step, 5000)
        self.wants_close = True

    def at_once(self):
        self.state, self.retry_at, self.wire, self.wants_close = WAITING, self.now, b"", True

    def end(self, code, text="", wait=0, jitter=0):
        share = int.from_bytes(os.urandom(4), "little") / 2**32
        self.afresh_at = self.now + wait + share * jitter
        self.state, self.wants_close, self.wire = OVER, True, b""
        self.events.append(("end", code, text))

    def written(self):
        """Returns all bytes that go out now."""
        if self.state in (OPEN, CLOSING):
            self.fill()
        wire, self.wire = self.wire, b""
        return wire

    # Opening (SPEC 22, 23).

    def begin(self, random):
        self.private = private_key(random)
        grease = 1 << 24 + random[31] % 8
        hint = hint_of(self.pin) if self.pin else bytes(4)
        extension = b"\x01\x04" + struct.pack("<I", self.longest)
        self.hello = b"\x10" + struct.pack("<I", grease) + hint + public_bytes(self.private) + extension
        self.wire += frame(self.hello)
        self.state = WELCOME

    def claim(self, random):
        s = self.session
        self.untried = not self.has_opened and max(self.ever, self.sent) == 0
        s.counter = min(max(s.counter + 1, s.least), s.confirmed + 64)
        s.used = max(s.used, s.counter)
        self.rs = s.rs
        for _ in range(s.counter - s.least):
            self.rs = expand(self.rs, b"next")
        first = self.out[0][0] if self.out else self.next
        r_c = random[:24]
        head = b"\x12" + s.hint + s.handle + r_c
        position = struct.pack("<QQ8sQQQ", s.counter, 0, s.run, first, self.got, 0)
        claim = head + seal(expand(s.claim_key, b"seal"), r_c, head, position)
        self.tc = sha256(b"voltlane 3 resume", claim)
        s.remember(self.tc[:8])
        self.sealer, self.number = Lane(expand(self.rs, b"early" + self.tc)), first
        self.early_first, self.claimed_got = first, self.got
        # One early record, with what fits it whole. The rest waits for RESUMED.
        items = b""
        for number, data in self.out[: s.ring_packets]:
            encoded = packet_item(data)
            if len(items) + len(encoded) > RECORD - 16:
                break
            items += encoded
        early = self.sealer.seal(self.number, items)
        self.number += sum(1 for one in read_items(items, False))
        self.ever = max(self.ever, self.sent, self.number - 1)
        self.wire += frame(claim) + frame(early)
        self.state = ANSWER

    def feed(self, data):
        self.input += data
        while self.state not in (WAITING, OVER, LEAVING):
            if len(self.input) < 4:
                return
            length = struct.unpack("<I", self.input[:4])[0]
            opening = self.state in (WELCOME, ANSWER)
            if length > (256 if opening else BIGGEST) or not opening and length < 16:
                if self.state == OPEN:
                    return self.leave(403, counts=False)
                return self.pause()
            if len(self.input) < 4 + length:
                return
            body, self.input = self.input[4 : 4 + length], self.input[4 + length :]
            if self.state == WELCOME:
                self.welcome(body)
            elif self.state == ANSWER:
                self.answer(body)
            else:
                self.record(body)

    def busy(self, body):
        if len(body) != 7:
            return self.pause()
        code, wait = struct.unpack("<HI", body[1:])
        if code not in (204, 206):
            return self.pause()
        self.pause(min(wait, 60_000))

    def welcome(self, body):
        if body[:1] == b"\x14":
            return self.busy(body)
        if body[:1] != b"\x11" or not 179 <= len(body) <= 256:
            return self.pause()
        point, key, sealed = body[1:34], body[34:67], body[67:]
        if point[0] not in (2, 3) or key[0] not in (2, 3):
            return self.pause()
        if self.pin and key != self.pin:
            return self.end("other edge")
        try:
            shared = agree(self.private, point) + agree(self.private, key)
        except ValueError:
            return self.pause()
        th = sha256(b"voltlane 3 join", self.hello, point, key)
        prk = extract(b"voltlane 3 k256 xchacha20poly1305 sha256", shared)
        plain = unseal(expand(prk, b"hs" + th), bytes(24), th, sealed)
        if plain is None or len(plain) < 96:
            return self.pause()
        session = Session(plain, hint_of(key), expand(prk, b"rs1" + th))
        if plain[72:76] != bytes(4) or session.ring_packets == 0:
            return self.pause()
        self.session, self.pin, self.number = session, key, 1
        self.sealer, self.opener = Lane(expand(prk, b"up" + th)), Lane(expand(prk, b"down" + th))
        self.window_from = self.now
        self.sent, self.ever, self.begun, self.has_opened = 0, 0, False, False
        self.wire += frame(self.sealer.seal(1, self.joining_items()))
        self.events.append(("connected", int.from_bytes(session.id, "little")))
        self.opened()

    def joining_items(self):
        items = item("token", self.token)
        for number, data in self.out[: self.session.ring_packets]:
            encoded = packet_item(data)
            if len(items) + len(encoded) > RECORD:
                break
            items += encoded
            self.sent = self.number = number
        self.number = self.sent + 1
        return items

    def answer(self, body):
        if body[:1] == b"\x14":
            return self.busy(body)
        if body[:1] != b"\x13" or not 169 <= len(body) <= 256:
            return self.pause()
        s = self.session
        plain = unseal(expand(s.claim_key, b"answer" + self.tc), body[1:25], body[:25], body[25:])
        if plain is None:
            return self.pause()
        code, _, highest, wait, jitter = struct.unpack("<HHQII", plain[:20])
        acknowledged = struct.unpack("<Q", plain[44:52])[0]
        if code != 0 and not is_code(code):
            return self.pause()
        s.handle = plain[28:44]
        self.window_from = self.now
        if code == 0:
            tr = sha256(self.tc, body)
            self.opener, self.up = Lane(expand(self.rs, b"down" + tr)), expand(self.rs, b"up" + tr)
            self.state = RESUMED
        elif code in (310, 311):
            self.refused(code, highest)
        else:
            s.refusals = 0
            self.acknowledge(acknowledged)
            if code == 301 and self.untried:
                return self.join_again(code, wait, jitter)
            self.by_class(code, wait, jitter)

    def refused(self, code, highest):
        """SPEC 23.4(c) to (e)."""
        s = self.session
        s.refusals += 1
        if code == 310:
            if highest > s.used and not self.take_over:
                return self.end("conflict")
            if not s.least <= highest + 1 <= s.least + 2**20:
                return self.end(301)
            s.counter = s.confirmed = highest
            s.used = max(s.used, highest)
        else:
            if s.least > highest + 64:
                return self.end(301)
            s.counter, s.confirmed = s.least - 1, highest
        self.pause() if s.refusals > 1 else self.at_once()

    def opened(self):
        self.state, self.opened_at = OPEN, self.now

    # Records (SPEC 21, 24, 25).

    def record(self, body):
        if len(body) > BIGGEST:
            return self.leave(403, counts=False)
        plain = self.opener.open(self.got + 1, body)
        if plain is None:
            return self.pause() if self.state != CLOSING else self.end(0, "the edge did not answer")
        self.heard_at = self.window_from = self.now
        self.pinged, self.has_opened = False, True
        try:
            for one in read_items(plain, True):
                self.handle(*one)
                if self.state in (WAITING, OVER):
                    return
        except Wrong as wrong:
            self.leave(wrong.code, wrong.detail)

    def handle(self, name, *fields):
        if name not in ("pad", "ignored"):
            self.first_item, self.begun = not self.begun, True
        if self.state == RESUMED:
            if name in ("pad", "ignored"):
                return
            if name == "resumed":
                return self.resumed(*fields)
            if name != "close":
                raise Wrong
        if self.pieces and name in ("gap", "superseded", "skipped", "resumed", "early_end"):
            raise Wrong
        if name in ("packet", "latest", "volatile", "part"):
            self.delivered(name, fields[-1])
        elif name in ("gap", "superseded"):
            first = self.got + 1
            if self.got + fields[0] > MAX:
                raise Wrong
            self.got += fields[0]
            if self.taken + 1 >= first:
                self.taken = self.got
            self.holes = [(a, b) for a, b in self.holes if b > self.taken] + [(first, self.got)]
            self.due_since = self.now if self.due_since is None else self.due_since
            if name == "gap":
                self.events.append(("gap", first, fields[0], fields[2]))
        elif name == "skipped":
            self.events.append(("skipped", fields[0]))
        elif name == "ack":
            self.heard += fields[0]
            if self.heard > max(self.ever, self.sent):
                raise Wrong
            self.acknowledge(self.heard)
        elif name == "ack_now":
            self.ack_now = True
        elif name == "ping":
            self.pong = fields[0]
        elif name == "goaway":
            _, earliest, latest, _ = fields
            share = int.from_bytes(os.urandom(4), "little") / 2**32
            self.leave_at = self.now + earliest + share * (latest - earliest)
        elif name == "close":
            self.closes(*fields)
        elif name == "resumed":
            raise Wrong

    def delivered(self, name, data):
        self.pieces.append(data)
        if sum(map(len, self.pieces)) > self.longest:
            raise Wrong(404, self.longest)
        if name == "part":
            return
        whole, self.pieces = b"".join(self.pieces), []
        number = 0
        if name != "volatile":
            if self.got == MAX:
                raise Wrong
            self.got += 1
            number = self.got
            due = self.got - self.told
            if due > self.session.ring_packets:
                raise Wrong
        self.events.append(("packet", number, whole))
        if number and number == self.until:
            self.events.append(("caught_up",))

    until = None

    def acknowledge(self, number):
        self.out = [(n, data) for n, data in self.out if n > number]

    def resumed(self, until, up_received, away, cause, marks):
        s = self.session
        if until < self.claimed_got:
            raise Wrong
        if not s.forgot and any(mark not in s.marks for mark in marks) and not self.take_over:
            return self.end("conflict")
        s.rs, s.least, s.confirmed, s.refusals = expand(self.rs, b"next"), s.counter + 1, s.counter, 0
        s.marks, s.forgot = marks + [self.tc[:8]], False
        self.wire += frame(self.sealer.seal(self.number, item("early_end")))
        self.number = max(up_received, self.number - 1) + 1
        self.ever = max(self.ever, self.sent, self.number - 1)
        self.sent = self.number - 1
        self.sealer = Lane(self.up)
        self.until = until
        self.events.append(("resumed", until - self.claimed_got, away, cause))
        if until == self.claimed_got:
            self.events.append(("caught_up",))
        self.opened()

    def closes(self, code, wait, jitter, detail, ledger, text):
        if self.pieces:
            self.pieces = []
        s = self.session
        if self.goodbye == "said" and code == 0:
            return self.end(0, "")
        if code == 204 and self.first_item:
            return self.join_again(code, wait, jitter)
        if ledger[0] == sum(ledger[1:6]):
            self.acknowledge(ledger[1])
        if code == 402:
            if detail <= s.used:
                return self.pause()
            if not self.take_over:
                return self.end("conflict")
            s.used = detail
            return self.at_once()
        self.by_class(code, wait, jitter, text)

    def join_again(self, code, wait, jitter):
        """The session did not begin: its packets go again, in another one. A goodbye wants none without packets."""
        if self.goodbye and not self.out:
            return self.end(code, "", wait, jitter)
        self.session = None
        self.pause(wait, jitter)

    def by_class(self, code, wait, jitter, text=""):
        if 100 <= code < 200:
            if self.moved:
                return self.pause()
            self.moved = True
            return self.at_once()
        if 200 <= code < 300:
            return self.pause(wait, jitter)
        self.end(code, text, wait, jitter)

    def leave(self, code, detail=0, counts=True):
        """Says that the edge broke the protocol, and resumes. After three times in a row the client stops."""
        if self.state == CLOSING:
            return self.end(0, "the edge did not answer")
        self.breaches += counts
        self.is_broken = counts
        if self.breaches >= 3:
            return self.end(code)
        if self.state == RESUMED:
            return self.pause()
        self.wire += frame(self.sealer.seal(self.number, close_item(code, detail=detail)))
        self.state, self.deadline = LEAVING, self.now + 1000

    def ack_is_due(self):
        due = self.taken - self.told
        if due <= 0:
            return False
        if self.ack_now or 4 * due >= self.session.ring_packets:
            return True
        delay = self.session.ack_delay * (1 if due >= 2 else 8)
        return self.due_since is not None and self.now >= self.due_since + delay

    def fill(self):
        s = self.session
        if self.state == CLOSING:
            return
        while True:
            items, numbers = b"", 0
            if self.pong:
                items, self.pong = item("pong") + self.pong, None
            if s.keep_alive and not self.pinged and self.now >= self.heard_at + 1000 * s.keep_alive:
                items, self.pinged = items + item("ping") + os.urandom(8), True
            while self.part_of is not None or self.may_send():
                number, data = self.part_of or self.unsent()
                room = RECORD - len(items) - 8
                piece = data[self.part_at : self.part_at + room]
                if room < 64 and len(data) - self.part_at > room:
                    break
                if self.part_at + len(piece) < len(data):
                    items += item("part", piece)
                    self.part_of, self.part_at = (number, data), self.part_at + len(piece)
                    break
                items += packet_item(piece)
                self.part_of, self.part_at, self.sent = None, 0, number
                numbers += 1
            if self.taken > self.told and (items or self.ack_is_due()):
                items = item("ack", self.taken - self.told) + items
                self.told, self.due_since, self.ack_now = self.taken, None, False
            if not items:
                break
            self.wire += frame(self.sealer.seal(self.number, items))
            self.number += numbers
        if self.goodbye == "wanted" and not self.may_send() and self.sent == self.next - 1:
            self.wire += frame(self.sealer.seal(self.number, close_item(0)))
            self.goodbye, self.state, self.deadline = "said", CLOSING, self.now + 1000

    def unsent(self):
        return next((n, data) for n, data in self.out if n > self.sent)

    def may_send(self):
        """SPEC 24.2(b)."""
        s = self.session
        if self.sent >= self.next - 1 or self.part_of is not None:
            return False
        open_packets = [data for n, data in self.out if n <= self.sent]
        if not open_packets:
            return True
        size = sum(map(len, open_packets)) + len(self.unsent()[1])
        return len(open_packets) < s.ring_packets and size <= s.ring_bytes

    # Time.

    def timeout(self, now):
        self.now = now
        s = self.session
        if self.state in (WELCOME, ANSWER, RESUMED) and now >= self.deadline:
            self.pause()
        elif self.state == CLOSING and now >= self.deadline:
            self.end(0, "the edge did not answer")
        elif self.state == LEAVING and now >= self.deadline:
            self.pause()
        elif self.state == OPEN:
            if now - self.opened_at >= 10_000:
                self.step, self.moved = 100, False
            if s.keep_alive and now >= self.heard_at + 2500 * s.keep_alive:
                self.pause()
            elif self.leave_at is not None and now >= self.leave_at:
                self.at_once()
            elif self.taken > self.told and self.due_since is None:
                self.due_since = now
        if s and s.window and self.state == WAITING and now >= self.window_from + 1000 * s.window:
            self.end(302, "the window is over")


# -- use of an edge whose backend echoes


class Line:
    """A client on a socket."""

    def __init__(self, address, pin):
        self.address, self.socket = address, None
        self.client = Client(pin=pin, token=b"a user" if pin else b"")

    def now(self):
        return int(time.monotonic() * 1000)

    def turn(self):
        client = self.client
        client.timeout(self.now())
        if self.socket is None and client.wants_connect():
            self.socket = socket.create_connection(self.address, timeout=5)
            client.connected(os.urandom(32))
        if self.socket is None:
            return time.sleep(0.005)
        wire = client.written()
        if wire:
            self.socket.sendall(wire)
        if client.state == LEAVING:
            self.socket.shutdown(socket.SHUT_WR)
        if client.wants_close:
            return self.drop()
        if select.select([self.socket], [], [], 0.005)[0]:
            data = self.socket.recv(65536)
            if data:
                client.feed(data)
            else:
                self.drop()

    def drop(self):
        """Drops the connection, whatever is under way."""
        self.socket.close()
        self.socket = None
        self.client.closed()

    def until(self, what, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.turn()
            if what():
                return
        raise SystemExit(f"too late: {self.client.state} {self.client.events[-3:]}")


def use(address, pin):
    line = Line(address, pin)
    client, heard = line.client, []

    def collect():
        for event in client.events:
            if event[0] == "packet":
                heard.append(event[2])
                assert len(heard) == event[1], "lost or doubled"
                client.take(event[1])
            elif event[0] != "caught_up":
                print(*event, flush=True)
        client.events.clear()

    def has(count):
        collect()
        return len(heard) >= count

    sent = [bytes([i % 251]) * size for i, size in enumerate((0, 1, 125, 126, 4096, 65_536, 300_000))]
    for data in sent:
        client.send(data)
    line.until(lambda: has(len(sent)))
    # Each round drops the connection with packets under way in both directions.
    for turn in range(10):
        for number in range(100):
            data = b"%d of round %d" % (number, turn)
            sent.append(data)
            client.send(data)
        line.until(lambda: has(len(sent) - (99 if turn % 2 else 50)))
        line.drop()
        late = b"said while away %d" % turn
        sent.append(late)
        client.send(late)
        line.until(lambda: has(len(sent)))
    assert heard == sent
    client.close()
    line.until(lambda: client.state == OVER)
    collect()
    print(f"{len(sent)} packets, each once and in order")


if __name__ == "__main__":
    host, port = sys.argv[1].rsplit(":", 1)
    use((host, int(port)), bytes.fromhex(sys.argv[2]) if len(sys.argv) > 2 else None)
