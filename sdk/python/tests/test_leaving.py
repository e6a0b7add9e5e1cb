"""How a client begins and ends when something fails: nothing of it stays, and its session can be used again."""

from __future__ import annotations

import asyncio
import pathlib

import pytest
from rig import GRANTS, Table, edge, next_of, within

import voltlane
from voltlane import EdgeConnected, Packet, Resumed
from voltlane._client import TokenOf


@pytest.mark.parametrize("version", [2, 3])
async def test_a_store_that_fails_ends_the_client_as_well(version: int) -> None:
    table = Table()
    async with voltlane.Backend("127.0.0.1:0") as backend, edge(backend.address) as address:
        with pytest.raises(RuntimeError, match="away"):
            async with voltlane.connect(address, version=version, session_store=table) as client:
                table.fails = True
        assert client._is_over and client._link is None
        assert [event async for event in client if not isinstance(event, voltlane.Connected)] == []
        # What was stored last goes on.
        table.fails = False
        async with voltlane.connect(address, version=version, session_store=table) as again:
            assert (await next_of(again, Resumed)).id == client.id


async def test_a_file_that_cannot_be_written_is_unlocked(tmp_path: pathlib.Path) -> None:
    path, full = tmp_path / "session", tmp_path / "session.new"
    async with voltlane.Backend("127.0.0.1:0") as backend, edge(backend.address) as address:
        client = await voltlane.connect(address, session_file=path)
        full.mkdir()
        with pytest.raises(OSError):
            await client.suspend()
        full.rmdir()
        async with voltlane.connect(address, session_file=path) as again:
            assert (await next_of(again, Resumed)).id == client.id


async def test_a_call_for_the_token_that_fails_leaves_the_session_free(tmp_path: pathlib.Path) -> None:
    path, asked = tmp_path / "session", asyncio.Event()

    async def never() -> str:
        asked.set()
        await asyncio.Event().wait()
        return ""

    def broken() -> str:
        raise KeyError("no ticket today")

    # A TimeoutError of the call is no edge that does not answer.
    async def slow() -> str:
        raise asyncio.TimeoutError("the shop of tickets")

    def client(token: TokenOf) -> voltlane.Client:
        return voltlane.Client("127.0.0.1:1", session_file=path, token=token, trust_first_use=True)

    first = client(never)
    connecting = asyncio.create_task(first.connect())
    await within(asked.wait())
    with pytest.raises(voltlane.SessionInUse):
        client("")
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    failing: list[tuple[TokenOf, type[Exception], str]] = [
        (broken, KeyError, "no ticket today"),
        (slow, asyncio.TimeoutError, "the shop"),
        (lambda: bytes(5_000), ValueError, "4096"),
    ]
    for token, error, says in failing:
        with pytest.raises(error, match=says):
            await client(token).connect()
    # A client that is over says so, and does not seem to be connected.
    with pytest.raises(voltlane.ConnectError, match="another one"):
        await first.connect()
    client("").abort()


@pytest.mark.parametrize("version", [2, 3])
async def test_what_is_sent_last_is_not_lost(version: int) -> None:
    table = Table()

    async def leave() -> None:
        async with voltlane.connect(address, version=version, session_store=table) as client:
            await client.send("last")

    async with voltlane.Backend("127.0.0.1:0", version=3) as backend, edge(backend.address, GRANTS) as address:
        await next_of(backend, EdgeConnected)
        # Its loop ends with it.
        await within(asyncio.to_thread(asyncio.run, leave()))
        if version == 2:
            assert (await next_of(backend, Packet)).text == "last"
        else:
            # It is kept with the session.
            async with voltlane.connect(address, version=version, session_store=table):
                assert (await next_of(backend, Packet)).text == "last"


async def test_in_version_2_it_stays_until_the_transport_has_written(tmp_path: pathlib.Path) -> None:
    reads, over, count = asyncio.Event(), asyncio.Event(), 4
    reads.set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            await reads.wait()
            writer.write(data)
            await writer.drain()
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = address.rpartition(":")
        back, forth = await asyncio.open_connection(host, int(port))
        await asyncio.gather(copy(reader, forth), copy(back, writer))
        over.set()

    async with voltlane.Backend("127.0.0.1:0") as backend, edge(backend.address) as address:
        server = await asyncio.start_unix_server(relay, tmp_path / "relay")
        client = await voltlane.connect(f"unix:{tmp_path}/relay", version=2, session_store=Table())
        reads.clear()
        # More than the buffers of a Unix socket have room for.
        for _ in range(count):
            client.try_send(bytes(1 << 20))
        leaving = asyncio.create_task(client.suspend(within=60.0))
        while not client._is_over:
            await asyncio.sleep(0)
        assert not client._machine.has_unsent
        for _ in range(10):
            await asyncio.sleep(0)
        assert not leaving.done()
        reads.set()
        await within(leaving)
        assert [len((await next_of(backend, Packet)).data) for _ in range(count)] == [1 << 20] * count
        await within(over.wait())
        server.close()


async def test_one_that_cannot_send_waits_no_longer_than_it_may() -> None:
    table = Table()
    async with voltlane.Backend("127.0.0.1:0") as backend:
        async with edge(backend.address) as address:
            client = await voltlane.connect(address, version=2, session_store=table)
        await next_of(client, voltlane.Dropped)
        await client.send("to nobody")
        begun = asyncio.get_running_loop().time()
        await within(client.suspend(within=0.05))
        took = asyncio.get_running_loop().time() - begun
        assert client._is_over and client._machine.has_unsent and took >= 0.04, took
        # One that is cancelled meanwhile is over as well.
        client = voltlane.Client(address, version=2, session_store=table)
        connecting = asyncio.create_task(client.connect())
        client.try_send("to nobody")
        await asyncio.sleep(0)
        leaving = asyncio.create_task(client.suspend())
        await asyncio.sleep(0)
        assert not leaving.done()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert client._is_over
        with pytest.raises(voltlane.ConnectError, match="another one"):
            await connecting
