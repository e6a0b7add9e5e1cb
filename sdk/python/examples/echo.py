"""A backend that sends back whatever comes: echo.py [ADDRESS]"""

from __future__ import annotations

import asyncio
import sys

import voltlane


async def main(address: str) -> None:
    async with voltlane.Backend(address) as backend:
        print(backend.address, flush=True)
        async for event in backend:
            if isinstance(event, voltlane.Packet):
                await backend.send(event.id, event.data)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:42001"))
