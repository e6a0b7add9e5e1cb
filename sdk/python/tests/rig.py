"""The real edge, and a relay that cuts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import re
import tempfile
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar, Union

import voltlane

T = TypeVar("T")
Kind = TypeVar("Kind")

ROOT = pathlib.Path(__file__).resolve().parents[3]

#: How long something that must come may take.
PATIENCE = 60.0

#: The configuration of an edge that grants version 3 of the link.
GRANTS = 'general.shards = 1\nmaster.protocol = "auto"\n'


def program() -> str:
    """The edge's program: VOLTLANE, or what cargo has built."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    for place in [os.environ.get("VOLTLANE"), target / "release/voltlane", target / "debug/voltlane"]:
        if place and pathlib.Path(place).exists():
            return str(pathlib.Path(place).resolve())
    raise AssertionError("there is no voltlane: build it (cargo build -p voltlane), or name it in VOLTLANE")


async def within(awaited: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaited, PATIENCE)


@contextlib.asynccontextmanager
async def edge(backend: str, config: str = "", more: tuple[str, ...] = ()) -> AsyncIterator[str]:
    """An edge in front of a backend. Gives its address."""
    with tempfile.TemporaryDirectory() as directory:
        pathlib.Path(directory, "connserver.toml").write_text('metrics.address = ""\n' + config)
        log = pathlib.Path(directory, "log")
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                program(), "--listen", "127.0.0.1:0", "--master", backend, *more, cwd=directory, stdout=output, stderr=output
            )
        try:
            for _ in range(6000):
                found = re.search(r"listening address=(\S+)", log.read_text())
                if found:
                    break
                assert process.returncode is None, log.read_text()
                await asyncio.sleep(0.01)
            assert found, log.read_text()
            yield found[1]
        finally:
            process.terminate()
            await within(process.wait())


async def next_of(side: Union[voltlane.Client, voltlane.Backend], kind: Union[type[Kind], tuple[type[Kind], ...]]) -> Kind:
    """The next event of this class. Others are passed over."""

    async def find() -> Kind:
        async for event in side:
            if isinstance(event, kind):
                return event
        raise AssertionError(f"it is over, without {kind}")

    return await within(find())


class Table:
    """A place for a session, as an application has one."""

    content: bytes | None = None
    fails = False

    def load(self) -> bytes | None:
        return self.content

    def store(self, content: bytes, /) -> None:
        if self.fails:
            raise RuntimeError("the table is away")
        self.content = content
