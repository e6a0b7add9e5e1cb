"""A game at 20 Hz: to each team its own state. Of what waits for a player only the newest is kept. game.py [ADDRESS]"""

from __future__ import annotations

import asyncio
import sys

import voltlane
from voltlane import Ended, Group, Joined, Packet, Tick


async def main(address: str) -> None:
    async with voltlane.listen(address, version=3, tick=0.05) as backend:
        print(backend.address, flush=True)
        teams = [backend.group("red"), backend.group("blue")]
        players: dict[int, tuple[Group, bytes]] = {}
        async for event in backend:
            if isinstance(event, Tick):
                for team in teams:
                    view = b"".join(at for of, at in players.values() if of == team)
                    await backend.send_latest(team, 1, view)
            elif isinstance(event, Joined):
                team = teams[len(players) % 2]
                players[event.id] = (team, bytes(8))
                backend.add(team, event.id)
            elif isinstance(event, Packet):
                if event.id in players and len(event.data) == 8:
                    players[event.id] = (players[event.id][0], event.data)
                else:
                    await backend.kick(event.id, 600, "not a position")
            elif isinstance(event, Ended):
                players.pop(event.id, None)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:42001"))
