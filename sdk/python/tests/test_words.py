"""What a client and a backend tell when they are asked."""

from __future__ import annotations

import asyncio

import pytest
from rig import GRANTS, edge, next_of, within

import voltlane
from voltlane import Away, ClientId, Connected, EdgeConnected, Ended, Gap, Joined, Packet

NOBODY = ClientId(7)


async def test_what_arrived_before_the_end_counts_if_only_the_end_tells_it() -> None:
    """A client whose connection is gone before an acknowledgement came, and whose session ends meanwhile."""
    async with voltlane.listen("127.0.0.1:0") as backend, edge(backend.address, GRANTS) as address:
        client = await voltlane.connect(address, version=3)
        assert client.end is None and client.ledger.up.numbered == 0
        may_dial, dial = asyncio.Event(), client._dial

        async def dial_later() -> None:
            await may_dial.wait()
            await dial()

        client._dial = dial_later  # type: ignore[method-assign]
        # Nothing more is read, so no acknowledgement comes.
        client._set_reading(False)
        sent = await client.send("1")
        id = (await next_of(backend, Packet)).id
        client.drop_connection()
        lost = await client.send("2")
        assert client.ledger.up.acknowledged == 0
        await backend.kick(id)
        await next_of(backend, Ended)
        may_dial.set()
        end = await next_of(client, Ended)
        up = end.ledger.up
        assert (end.code, up.numbered, up.acknowledged, up.in_doubt) == (401, lost, sent, 1)
        assert client.end == end and client.ledger == end.ledger
        await client.acknowledged(sent)
        for wait in [lambda: client.acknowledged(lost), client.flush]:
            with pytest.raises(voltlane.SessionEnded) as raised:
                await wait()
            assert raised.value.end == end
        with pytest.raises(voltlane.SessionEnded) as raised:
            await client.send("2")
        assert raised.value.end == end


async def test_a_session_is_not_acknowledged_by_the_one_that_follows_it() -> None:
    async with voltlane.listen("127.0.0.1:0", version=3) as backend, edge(backend.address, GRANTS) as address:
        client = await voltlane.connect(address, version=3, start_over=True)
        first = client.id
        assert (await next_of(client, Connected)).id == first
        sent = await client.send("1")
        arrived, lost = (asyncio.create_task(client.acknowledged(number)) for number in (sent, sent + 1))
        await next_of(backend, Packet)
        reading = asyncio.create_task(next_of(backend, Ended))
        await within(arrived)
        # Its hundreds say that another one may begin.
        await backend.kick(first, 501)
        with pytest.raises(voltlane.SessionEnded) as raised:
            await within(lost)
        assert raised.value.end is not None and raised.value.end.code == 501
        assert (await next_of(client, Connected)).id != first
        assert client.end is None
        await reading
        await client.send("1")
        await next_of(backend, Packet)
        more = asyncio.create_task(next_of(backend, Ended))
        await client.flush()
        await client.close()
        await more


async def test_a_backend_tells_what_it_knows_of_a_client() -> None:
    async with voltlane.listen("127.0.0.1:0", version=3) as backend, edge(backend.address, GRANTS) as address:
        await next_of(backend, EdgeConnected)
        assert backend.client(NOBODY) is None
        client = await voltlane.connect(address, version=3)
        joined = await next_of(backend, Joined)
        assert joined.address is not None and joined.address.startswith("127.0.0.1:")
        backend.set_note(joined.id, "user 17")
        await client.send("1")
        await next_of(backend, Packet)
        await backend.send(joined.id, "2")
        known = backend.client(joined.id)
        assert known is not None
        assert (known.id, known.note, known.is_connected) == (client.id, "user 17", True)
        assert (known.ledger.up.numbered, known.ledger.down.numbered, known.ledger.down.in_doubt) == (1, 1, 1)
        client.abort()
        assert (await next_of(backend, Away)).id == joined.id
        known = backend.client(joined.id)
        assert known is not None and not known.is_connected


async def test_a_client_has_room_for_8192_packets_that_are_not_settled() -> None:
    async with voltlane.listen("127.0.0.1:0", version=3) as backend, edge(backend.address, GRANTS) as address:
        await next_of(backend, EdgeConnected)
        client = await voltlane.connect(address, version=3)
        id = (await next_of(backend, Joined)).id
        assert [backend.try_send(id, "x") for _ in range(8191)] == list(range(1, 8192))
        await within(backend.room(id))
        assert backend.try_send(id, "x") == 8192
        with pytest.raises(voltlane.NoRoom):
            backend.try_send(id, "x")
        room = asyncio.create_task(backend.room(id))
        await asyncio.sleep(0)
        assert not room.done()
        await next_of(client, Packet)
        await next_of(client, Packet)
        await within(room)
        # What is not there has room, and nothing is sent to it.
        await backend.room(NOBODY)
        await backend.kick(id, 600, "enough")
        end = await next_of(backend, Ended)
        with pytest.raises(voltlane.SessionEnded):
            await backend.room(id)
        assert (end.code, end.text) == (600, "enough")
        client.abort()


async def test_overflow_ends_a_client_or_leaves_a_gap() -> None:
    with pytest.raises(ValueError, match="overflow"):
        voltlane.Backend("127.0.0.1:0", overflow="wait")  # type: ignore[arg-type]
    config = f"{GRANTS}clients.missed_packets_buffer_size = 100\n"
    async with voltlane.listen("127.0.0.1:0", version=3, overflow="gap") as backend, edge(backend.address, config) as address:
        await next_of(backend, EdgeConnected)
        async with voltlane.connect(address, version=3) as client:
            id = (await next_of(backend, Joined)).id
            # It takes nothing.
            link = client._link
            assert link is not None and link.transport is not None
            link.transport.pause_reading()
            for _ in range(200):
                await backend.send(id, b"x" * 100_000)
            gap = await next_of(backend, Gap)
            assert (gap.id, gap.is_up) == (id, False)
            link.transport.resume_reading()
            assert (await next_of(client, Gap)).count > 0


async def test_a_client_measures_the_way_to_its_edge_once_that_was_silent() -> None:
    async with voltlane.listen("127.0.0.1:0") as backend, edge(backend.address, "clients.keep_alive_secs = 1\n") as address:
        async with voltlane.connect(address, version=3) as client:
            assert client.rtt is None
            while client.rtt is None:
                await asyncio.sleep(0.01)
            assert 0 <= client.rtt < 60
