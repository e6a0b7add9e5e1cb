"""Each device does each row of its outbox once.

fleet.py [ADDRESS]                           the backend, with its outbox in fleet.db
fleet.py device EDGE NAME FILE [EDGE_KEY]    a device, whose session and last row are in FILE
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys

import voltlane


async def device(edge: str, name: str, file: str, *edge_keys: str) -> None:
    async with voltlane.connect(
        edge, token=f"device {name}", edge_keys=edge_keys, session_file=file, ack="saved", start_over=True, give_up_after=None
    ) as client:
        done = int(client.state or b"0")
        async for event in client:
            if not isinstance(event, voltlane.Packet):
                continue
            # A row comes again only after the backend has died, or this session has ended.
            row = int(event.text.split(" ")[0])
            if row > done:
                done = row
                print(event.text, flush=True)
            # Done and acknowledged, in one rename.
            await client.save(str(done))


async def serve(backend: voltlane.Backend, device: voltlane.Joined, db: sqlite3.Connection) -> None:
    # Otherwise the row stays.
    with contextlib.suppress(voltlane.SessionEnded):
        while True:
            found = db.execute("SELECT row, command FROM outbox WHERE device = ? ORDER BY row LIMIT 1", (device.note,)).fetchone()
            if not found:
                await asyncio.sleep(1)
                continue
            sent = await backend.send(device.id, f"{found[0]} {found[1]}")
            # In a second or in a week: it is done.
            await backend.acknowledged(device.id, sent)
            with db:
                db.execute("DELETE FROM outbox WHERE row = ?", (found[0],))


async def main(address: str) -> None:
    db = sqlite3.connect("fleet.db")
    db.execute("CREATE TABLE IF NOT EXISTS outbox (row INTEGER PRIMARY KEY, device TEXT, command TEXT)")
    # A real one checks a signature.
    async with voltlane.listen(address, version=3, verify=lambda who: who.token_text) as backend:
        print(backend.address, flush=True)
        tasks: dict[int, asyncio.Task[None]] = {}
        async for event in backend:
            if isinstance(event, voltlane.Joined):
                tasks[event.id] = asyncio.create_task(serve(backend, event, db))
            elif isinstance(event, voltlane.Ended) and event.id in tasks:
                tasks.pop(event.id).cancel()


if __name__ == "__main__":
    if sys.argv[1:2] == ["device"]:
        asyncio.run(device(*sys.argv[2:]))
    else:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:42001"))
