"""The cases of a client of version 3 (sim/cases/v3/client.txt) through the C interface: cases.py LIBRARY

The runner is conformance/programs/v3cases.py. It needs the package cryptography.
"""

import ctypes
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "conformance/programs"))
import v3cases as cases  # noqa: E402

#: Codes that a client gives an end by itself have words in the cases.
WORDS = {490: "other_edge", 491: "conflict"}
CONNECTED, PACKET, DROPPED, RESUMED, CAUGHT_UP, GAP, TICK, ENDED, SKIPPED = 1, 2, 3, 4, 5, 6, 7, 8, 15
STATES = {1: "waiting", 2: "connecting", 7: "welcome", 8: "answer", 9: "resumed", 10: "open", 13: "over"}
u8, u16, u32, u64, i64, size, pointer = (
    ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int64, ctypes.c_size_t, ctypes.c_void_p
)  # fmt: skip


class Options(ctypes.Structure):
    _fields_ = [
        ("size", u32), ("version", u32), ("address", ctypes.c_char_p), ("or_address", ctypes.c_char_p), ("token", ctypes.c_char_p),
        ("token_len", size), ("edge_key", ctypes.c_char_p), ("or_edge_key", ctypes.c_char_p), ("saved", pointer), ("saved_len", size),
        ("start_over", u8), ("take_over", u8), ("trust_first_use", u8), ("give_up_after_us", i64), ("tick_us", i64),
        ("max_receive_bytes", u32), ("queue_packets", u32), ("queue_bytes", size),
    ]  # fmt: skip


class Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int), ("code", u16), ("again", u8), ("is_up", u8), ("id", u64), ("number", u64), ("missed", u64), ("count", u64),
        ("data", pointer), ("len", size), ("text", ctypes.c_char_p), ("note", ctypes.c_char_p), ("retry_us", i64), ("away_us", i64),
    ]  # fmt: skip


class Adapter:
    """The machine with the face of the client that the runner was written for: times in ms, and events as tuples."""

    def __init__(self, pin, token, longest, take_over):
        options = Options(size=ctypes.sizeof(Options), version=3, token=token, token_len=len(token), edge_key=pin and pin.hex().encode())
        options.take_over, options.trust_first_use, options.max_receive_bytes = take_over, True, longest
        self.handle, self.now, self.events, self.is_closing = pointer(), 0, [], False
        self.must(lib.vl_machine_client_new(ctypes.byref(options), bytes([9]) * 32, ctypes.byref(self.handle)))

    def __del__(self):
        lib.vl_machine_client_free(self.handle)

    @staticmethod
    def must(result):
        assert result >= 0, lib.vl_last_error()
        return result

    def us(self):
        return u64(round(self.now * 1000))

    def tell(self, event):
        one = event.contents
        told = {
            CONNECTED: lambda: ("connected",),
            PACKET: lambda: ("packet", one.number, ctypes.string_at(one.data, one.len)),
            RESUMED: lambda: ("resumed", one.missed, round(one.away_us / 1000)),
            CAUGHT_UP: lambda: ("caught_up",),
            GAP: lambda: ("gap", one.number, one.count, one.code),
            SKIPPED: lambda: ("skipped", one.count),
            ENDED: lambda: ("end", WORDS.get(one.code, one.code)),
        }.get(one.type)
        if told:
            self.events.append(told())

    def settled(self):
        event = ctypes.POINTER(Event)()
        while self.must(lib.vl_machine_client_event(self.handle, ctypes.byref(event))):
            self.tell(event)

    @property
    def wants_close(self):
        return lib.vl_machine_client_wants_close(self.handle)

    @wants_close.setter
    def wants_close(self, value):
        """The runner resets it by hand."""

    @property
    def state(self):
        return STATES.get(lib.vl_machine_client_state(self.handle))

    def written(self):
        data, length = pointer(), size()
        self.must(lib.vl_machine_client_output(self.handle, ctypes.byref(data), ctypes.byref(length)))
        output = ctypes.string_at(data, length.value)
        self.must(lib.vl_machine_client_written(self.handle, self.us(), length))
        return output

    def wants_connect(self):
        return lib.vl_machine_client_wants_connect(self.handle, self.us())

    def connected(self, random):
        self.must(lib.vl_machine_client_connected(self.handle, self.us(), random))

    def pause(self):
        self.must(lib.vl_machine_client_connect_failed(self.handle, self.us()))
        self.settled()

    def feed(self, data):
        kept = ctypes.create_string_buffer(data, len(data))
        at, length, event = pointer(ctypes.addressof(kept)), size(len(data)), ctypes.POINTER(Event)()
        while self.must(lib.vl_machine_client_feed(self.handle, self.us(), ctypes.byref(at), ctypes.byref(length), ctypes.byref(event))):
            self.tell(event)
        assert length.value == 0
        self.settled()

    def closed(self):
        self.must(lib.vl_machine_client_closed(self.handle, self.us(), 1))
        # A deadline may have come at this very moment, and the runner tells a time once.
        if self.is_closing and 0 <= lib.vl_machine_client_next_us(self.handle) <= self.us().value:
            self.must(lib.vl_machine_client_tick(self.handle, self.us()))
        self.settled()

    def timeout(self, now):
        self.now = max(self.now, now)
        self.must(lib.vl_machine_client_tick(self.handle, self.us()))
        self.settled()

    def send(self, data):
        self.must(lib.vl_machine_client_send(self.handle, data, size(len(data)), None))

    def take(self, number):
        self.must(lib.vl_machine_client_taken(self.handle, self.us(), u64(number)))

    def close(self):
        self.is_closing = True
        self.must(lib.vl_machine_client_close(self.handle, self.us()))
        self.settled()

    def start_over(self):
        self.must(lib.vl_machine_client_start_over(self.handle))


lib = ctypes.CDLL(sys.argv[1])
lib.vl_machine_client_wants_close.restype = lib.vl_machine_client_wants_connect.restype = ctypes.c_bool
lib.vl_machine_client_next_us.restype, lib.vl_last_error.restype = i64, ctypes.c_char_p
cases.v3.Client = Adapter
sys.exit(cases.main([str(ROOT / "sim/cases/v3/client.txt")]))
