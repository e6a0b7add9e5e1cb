"""The machines and their events, without the loop."""

from __future__ import annotations

import asyncio
import json
import struct

import pytest
from rig import GRANTS, ROOT, edge, next_of, within

import voltlane
from voltlane import Connected, EdgeConnected, Gap, Joined, Packet, Token
from voltlane.machine import BackendMachine, ClientMachine


def frame(id: int, data: bytes) -> bytes:
    """A packet of a client, as an edge sends it over a link of version 2."""
    return struct.pack("<IQB", 9 + len(data), id, 0) + data


def test_what_came_before_a_breach_is_told_first() -> None:
    machine = BackendMachine(bytes(16))
    machine.connected(0.0)
    events = machine.feed(0.0, frame(7, b"one") + frame(7, b"two") + b"\xff" * 8 + frame(7, b"three"))
    assert [event.data for event in events if isinstance(event, Packet)] == [b"one", b"two"]
    assert machine.wants_close()
    with pytest.raises(voltlane.ProtocolError, match="framing"):
        machine.events()
    # It is told once, and nothing more is read.
    assert machine.feed(0.0, frame(7, b"four")) == [] == machine.events()
    machine.closed()
    machine.connected(0.0)
    assert not machine.wants_close()
    assert machine.feed(0.0, frame(7, b"five"))
    with pytest.raises(voltlane.ProtocolError, match="framing"):
        machine.feed(0.0, b"\xff" * 8)


def test_events_show_themselves_as_python_does_and_no_token() -> None:
    assert repr(Joined(7, b"ticket", "it's", True, 3, "::1")) == "Joined(id=7, token=..., note=\"it's\", again=True, sent=3, address='::1')"
    assert repr(Token(7, b"ticket")) == "Token(id=7, token=...)"
    assert repr(EdgeConnected(None)) == "EdgeConnected(sessions=None)"
    assert repr(EdgeConnected(3)) == "EdgeConnected(sessions=3)"
    assert repr(Gap(1, 2, 3, 4, False)) == "Gap(id=1, first=2, count=3, reason=4, is_up=False)"
    assert repr(voltlane.Away(1, 0.5)) == "Away(id=1, expires_in=0.5)"
    assert repr(voltlane.EdgeLost()) == "EdgeLost()"


async def test_a_packet_in_the_same_read_as_the_join_has_the_id() -> None:
    def begin() -> ClientMachine:
        machine = ClientMachine(bytes([7]) * 32, version=3)
        machine.connected(0.0, bytes([8]) * 32)
        return machine

    async def greet(backend: voltlane.Backend) -> None:
        await backend.send((await next_of(backend, Joined)).id, "hello")

    async with voltlane.Backend("127.0.0.1:0", version=3) as backend, edge(backend.address, GRANTS) as address:
        await next_of(backend, EdgeConnected)
        greeting = asyncio.ensure_future(greet(backend))
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        machine, reads, joined_at = begin(), list[bytes](), 0
        while True:
            writer.write(machine.output(0.0))
            reads.append(await within(reader.read(65536)))
            assert reads[-1]
            events = machine.feed(0.0, reads[-1])
            if any(isinstance(event, Connected) for event in events):
                joined_at = len(reads) - 1
            if any(isinstance(event, Packet) for event in events):
                break
        await greeting
        writer.close()
        await writer.wait_closed()
    # The same once more, with the last reads in one.
    again = begin()
    for read in reads[:joined_at]:
        again.output(0.0)
        again.feed(0.0, read)
    again.output(0.0)
    events = again.feed(0.0, b"".join(reads[joined_at:]))
    assert [event.id for event in events if isinstance(event, (Connected, Packet))] == [again.id, again.id]
    assert again.id == machine.id != 0


def test_what_clients_save_is_read_and_written_as_all_libraries_do() -> None:
    vectors = json.loads((ROOT / "core/tests/vectors/saved.json").read_text())
    assert (len(vectors["whole"]), len(vectors["refused"])) == (6, 49)
    for whole in vectors["whole"]:
        content = bytes.fromhex(whole["bytes"])
        for saves in ("taken", "saved"):
            machine = ClientMachine(bytes(32), saves=saves, stored=content)
            assert machine.id == int(whole["id"] or "0", 16), whole["name"]
            assert machine.saved_state.hex() == whole["state"], whole["name"]
            assert machine.acknowledged == int(whole["acknowledged"]), whole["name"]
            assert machine.acknowledged + machine.unacknowledged == int(whole["numbered"]), whole["name"]
            assert whole["version"] in (None, machine.version), whole["name"]
            assert machine.to_save() == content, whole["name"]
    words = {"foreign": "no saved session", "older": "older", "newer": "newer", "torn": "cut off", "impossible": "cannot be"}
    for refused in vectors["refused"]:
        with pytest.raises(ValueError, match=words[refused["because"]]):
            ClientMachine(bytes(32), saves="taken", stored=bytes.fromhex(refused["bytes"]))
