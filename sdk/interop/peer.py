"""A client or a backend of the library for Python, which does what the lines on its standard input say and tells what happens, as README.md
describes: peer.py client|backend ADDRESS VERSION
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import zlib

import voltlane


def packet(length: str, seed: str) -> bytes:
    """The bytes that a length and a seed stand for. They repeat after 2,048."""
    once = bytes((at * 7 >> 3) + int(seed) & 255 for at in range(2048))
    return (once * (int(length) // 2048 + 1))[: int(length)]


def tell(*words: object) -> None:
    print(*words, flush=True)


def of(event: voltlane.BackendEvent | voltlane.ClientEvent, is_backend: bool) -> str | None:
    """The line for an event."""
    who = [f"{event.id:016x}"] if is_backend and hasattr(event, "id") else []
    if isinstance(event, voltlane.Packet):
        return " ".join(["packet", *who, str(len(event.data)), f"{zlib.crc32(event.data):08x}"])
    if isinstance(event, voltlane.Connected):
        return f"connected {event.id:016x}"
    if isinstance(event, voltlane.Ended):
        return " ".join(["ended", *who, str(event.code), *([] if is_backend else [event.text])])
    names = {voltlane.EdgeConnected: "edge", voltlane.EdgeLost: "edge-lost", voltlane.Joined: "joined", voltlane.Away: "away"}
    names |= {voltlane.Dropped: "dropped", voltlane.Resumed: "resumed"}
    name = names.get(type(event))
    return None if name is None else " ".join([name, *who])


async def obey(side: voltlane.Client | voltlane.Backend, words: list[str]) -> None:
    if isinstance(side, voltlane.Client):
        match words:
            case ["send", length, seed]:
                await side.send(packet(length, seed))
            case ["close"]:
                end = await side.close(10)
                tell("closed", end.code if end else "-")
            case _:
                raise ValueError("it is no command")
        return
    match words:
        case ["send", id, length, seed]:
            await side.send(voltlane.ClientId(int(id, 16)), packet(length, seed))
        case ["all", length, seed]:
            await side.send(voltlane.everyone, packet(length, seed))
        case ["kick", id, code, text]:
            await side.kick(voltlane.ClientId(int(id, 16)), int(code), text)
        case _:
            raise ValueError("it is no command")


async def read_lines(side: voltlane.Client | voltlane.Backend) -> None:
    """Obeys each line. The process ends with them."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for line in reader:
        try:
            await obey(side, line.decode().split())
        except Exception as error:
            tell("fault", line.decode().strip(), repr(error))
    os._exit(0)


async def main(kind: str, address: str, version: int) -> None:
    authority = os.environ.get("INTEROP_AUTHORITY")
    context = ssl.create_default_context(cafile=authority) if authority and address.startswith(("tls:", "wss:")) else None
    side: voltlane.Client | voltlane.Backend
    if kind == "client":
        side = voltlane.Client(address, version=version, ssl=context)
        await side.connect()
    else:
        side = voltlane.Backend(address, version=version)
        await side.listen()
        tell("listening", side.address)
    lines = asyncio.ensure_future(read_lines(side))
    async for event in side:
        line = of(event, kind == "backend")
        if line is not None:
            tell(line)
    await lines


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
