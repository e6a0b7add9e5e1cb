"""A chat with rooms: "join ROOM", "leave ROOM", "ROOM text". The first two are answered. A token is "user NAME". chat.py [ADDRESS]"""

from __future__ import annotations

import asyncio
import sys

import voltlane


async def check(who: voltlane.Joined) -> str:
    """It may take its time: nobody else waits."""
    if who.token_text.startswith("user "):
        return who.token_text[5:]
    raise voltlane.Refuse(605, "log in first")


async def main(address: str) -> None:
    async with voltlane.listen(address, version=3, verify=check) as backend:
        print(backend.address, flush=True)
        async for event in backend:
            if not isinstance(event, voltlane.Packet):
                continue
            word, _, text = event.text.partition(" ")
            if word == "join":
                backend.add(backend.group(text), event.id)
                await backend.send(event.id, f"You are in {text}.")
            elif word == "leave":
                backend.remove(backend.group(text), event.id)
                await backend.send(event.id, f"You have left {text}.")
            elif text:
                await backend.send(backend.group(word), f"{backend.note(event.id)}: {text}", without=[event.id])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:42001"))
