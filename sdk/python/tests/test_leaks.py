"""Thousands of clients and backends in one process leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pathlib
import sys
import tracemalloc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from rig import edge, next_of, within

import voltlane
from voltlane import Packet, Resumed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what a process has")

COUNT = 2_000
#: Of them before the first look, so that caches and the allocators' pools are as large as they get.
WARM_UP = 500
AT_ONCE = 16
#: What may be left of the others. A client that stays would be 4 KB in Python and 2 KB beside it.
MAX_PYTHON_BYTES = 128 * 1024
MAX_RESIDENT_BYTES = 3 * 1024 * 1024

#: Those that were made and may still be there.
alive: weakref.WeakSet[Any] = weakref.WeakSet()


def resident_bytes() -> int:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def look() -> tuple[int, int, int, int]:
    """Descriptors, tasks, and bytes: of Python, and of the process."""
    # What was closed is released in the next rounds of the loop.
    for _ in range(5):
        await asyncio.sleep(0.01)
    gc.collect()
    assert len(alive) == 0, list(alive)
    python, _ = tracemalloc.get_traced_memory()
    return len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks()), python, resident_bytes()


async def many(one: Callable[[int], Awaitable[None]]) -> None:
    """Does it 2,000 times, and compares what there is then with what there was after some."""

    async def some(numbers: range) -> None:
        rest = iter(numbers)

        async def worker() -> None:
            for number in rest:
                await within(one(number))

        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))

    # It keeps where each callback came from, which is slow and no leak.
    asyncio.get_running_loop().set_debug(False)
    tracemalloc.start()
    try:
        await some(range(WARM_UP))
        before = await look()
        await some(range(WARM_UP, COUNT))
        after = await look()
    finally:
        tracemalloc.stop()
    assert after[:2] == before[:2], f"descriptors and tasks: {before[:2]}, then {after[:2]}"
    python, resident = after[2] - before[2], after[3] - before[3]
    print(f"from {WARM_UP} to {COUNT}: {python:+} bytes of Python, {resident:+} of the process")
    assert python < MAX_PYTHON_BYTES
    assert resident < MAX_RESIDENT_BYTES


async def test_clients_leave_nothing_behind(tmp_path: pathlib.Path) -> None:
    async with voltlane.Backend("127.0.0.1:0") as backend, edge(backend.address) as address:

        async def echo() -> None:
            async for event in backend:
                if isinstance(event, Packet):
                    await backend.send(event.id, event.data)

        async def one(number: int) -> None:
            # One in twenty has a file, which waits for the disk.
            file = tmp_path / f"of-{number}-" if number % 20 == 0 else None
            version = 2 if number % 3 == 0 else 3
            async with voltlane.Client(address, version=version, session_file=file) as client:
                alive.add(client)
                await client.send(bytes(1_000))
                assert len((await next_of(client, Packet)).data) == 1_000
                client.drop_connection()
                await next_of(client, Resumed)
                if number % 5 == 0:
                    client.abort()
            if file is not None:
                for left in tmp_path.glob(f"{file.name}*"):
                    left.unlink()

        echoing = asyncio.create_task(echo())
        await many(one)
        echoing.cancel()


async def test_backends_leave_nothing_behind() -> None:
    async def one(number: int) -> None:
        async with voltlane.Backend("127.0.0.1:0") as backend:
            alive.add(backend)
            host, port = backend.address.rsplit(":", 1)
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(bytes(number % 100))
            if number % 2 == 0:
                writer.close()
        writer.close()
        # What is no link is ended by the backend, perhaps with a reset.
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    await many(one)
