"""How a client begins and ends when something fails: nothing of it stays, and its session can be used again."""

from __future__ import annotations

import asyncio
import pathlib

import pytest
from rig import Table, edge, next_of, within

import voltlane
from voltlane import Resumed
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
