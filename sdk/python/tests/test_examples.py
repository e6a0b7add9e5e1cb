"""The programs in examples/, against the real edge."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import sqlite3
import sys
from collections.abc import AsyncIterator

from rig import GRANTS, ROOT, edge, next_of, within

import voltlane
from voltlane import Ended, Packet


@contextlib.asynccontextmanager
async def program_of(*words: str, cwd: pathlib.Path) -> AsyncIterator[asyncio.StreamReader]:
    """An example, and what it prints."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-X", "dev", *words, cwd=cwd, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        await within(process.communicate())


async def line_of(output: asyncio.StreamReader) -> str:
    return (await within(output.readline())).decode().strip()


EXAMPLES = ROOT / "sdk/python/examples"


async def test_the_example_of_an_echo(tmp_path: pathlib.Path) -> None:
    async with program_of(str(EXAMPLES / "echo.py"), "127.0.0.1:0", cwd=tmp_path) as output:
        async with edge(await line_of(output)) as address, voltlane.connect(address) as client:
            await client.send("back, please")
            assert (await next_of(client, Packet)).text == "back, please"


async def test_the_example_of_a_game(tmp_path: pathlib.Path) -> None:
    async with program_of(str(EXAMPLES / "game.py"), "127.0.0.1:0", cwd=tmp_path) as output:
        async with edge(await line_of(output), GRANTS) as address:
            async with voltlane.connect(address) as red, voltlane.connect(address) as blue:
                await red.send(b"redredre")
                await blue.send(b"blueblue")
                for client, at in [(red, b"redredre"), (blue, b"blueblue")]:
                    while (await next_of(client, Packet)).data != at:
                        pass
                await red.send("here")
                ended = await next_of(red, Ended)
                assert (ended.code, ended.text) == (600, "not a position")


async def test_the_example_of_a_chat(tmp_path: pathlib.Path) -> None:
    async with program_of(str(EXAMPLES / "chat.py"), "127.0.0.1:0", cwd=tmp_path) as output:
        # Two shards: what one client sends and what another one sends is in no order, unless an answer makes one.
        async with edge(await line_of(output), GRANTS.replace("shards = 1", "shards = 2")) as address:
            anna, bert = [await voltlane.connect(address, token=f"user {name}", trust_first_use=True) for name in ("anna", "bert")]

            async def ask(client: voltlane.Client, words: str, answer: str) -> None:
                await client.send(words)
                assert (await next_of(client, Packet)).text == answer

            await ask(anna, "join tea", "You are in tea.")
            await ask(bert, "join tea", "You are in tea.")
            await anna.send("tea Is anybody here?")
            assert (await next_of(bert, Packet)).text == "anna: Is anybody here?"
            await ask(bert, "leave tea", "You have left tea.")
            await anna.send("tea Only us?")
            # Her answer comes behind that, and what bert gets next is his own.
            await ask(anna, "join pot", "You are in pot.")
            await ask(bert, "join pot", "You are in pot.")
            # Everybody can send to a room.
            await bert.send("tea Not me")
            assert (await next_of(anna, Packet)).text == "bert: Not me"
            for client in (anna, bert):
                await client.close()
            # It is told before or after its session has begun.
            try:
                stranger = await voltlane.connect(address, token="nobody", trust_first_use=True)
                refused = await next_of(stranger, Ended)
                words = f"{refused.code} {refused.text}"
            except voltlane.ConnectError as error:
                words = str(error)
            assert words.endswith("605 log in first")


async def test_the_example_of_a_fleet(tmp_path: pathlib.Path) -> None:
    fleet = str(EXAMPLES / "fleet.py")
    async with program_of(fleet, "127.0.0.1:0", cwd=tmp_path) as output:
        async with edge(await line_of(output), GRANTS) as address:
            key = (await voltlane.connect(address)).edge_key
            assert key is not None
            db = sqlite3.connect(tmp_path / "fleet.db", timeout=30)
            with db:
                db.executemany("INSERT INTO outbox VALUES (?, 'device 17', ?)", [(row, f"open valve {row}") for row in range(1, 8)])
            wanted = [f"{row} open valve {row}" for row in range(1, 8)]
            done: list[str] = []
            while wanted[-1] not in done:
                async with program_of(fleet, "device", address, "17", "device.session", key, cwd=tmp_path) as device:
                    # It is killed behind some of its rows.
                    for _ in range(3):
                        done.append(await line_of(device))
                        if done[-1] == wanted[-1]:
                            break
            # A row may have been printed, and not saved.
            assert sorted(set(done), key=done.index) == wanted
            db.close()
