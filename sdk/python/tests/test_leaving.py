"""How a client begins and ends when something fails: nothing of it stays, and its session can be used again."""

from __future__ import annotations

import pathlib

import pytest
from rig import Table, edge, next_of

import voltlane
from voltlane import Resumed


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
