"""Packets/s of a backend that echoes, beside one of asyncio's streams with framing by hand: bench.py

A process plays the edge of version 2 over one link: it keeps 32-byte packets of 100 clients in flight.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import struct
import sys
import time

import voltlane

CLIENTS, WINDOW, SECONDS = 100, 4000, 3.0


def play_edge(port: int, results: multiprocessing.Queue[float]) -> None:
    for _ in range(1000):
        try:
            link = socket.create_connection(("127.0.0.1", port))
            break
        except ConnectionRefusedError:
            time.sleep(0.01)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    frames = b"".join(struct.pack("<IQB", 41, 1 + at % CLIENTS, 0) + b"x" * 32 for at in range(WINDOW))
    link.sendall(frames)
    size, echoed, began = 45, 0, time.perf_counter()
    pending = 0
    while time.perf_counter() - began < SECONDS:
        data = link.recv(1 << 18)
        pending += len(data)
        packets, pending = divmod(pending, size)
        echoed += packets
        link.sendall(frames[: packets * size])
    results.put(echoed / (time.perf_counter() - began))
    link.close()


async def ours(port: int) -> None:
    async with voltlane.Backend(f"127.0.0.1:{port}") as backend:
        async for event in backend:
            if isinstance(event, voltlane.Packet):
                await backend.send(event.id, event.data)
            elif isinstance(event, voltlane.EdgeLost):
                return


async def by_hand(port: int) -> None:
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (length,) = struct.unpack("<I", await reader.readexactly(4))
                body = await reader.readexactly(length)
                id, flag = struct.unpack_from("<QB", body)
                if flag == 0:
                    writer.write(struct.pack("<IQB", length, id, 0) + body[9:])
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            over.set()

    async with await asyncio.start_server(serve, "127.0.0.1", port):
        await over.wait()


def measure(backend: str) -> float:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    results: multiprocessing.Queue[float] = multiprocessing.Queue()
    serving = multiprocessing.Process(target=lambda: asyncio.run({"ours": ours, "by hand": by_hand}[backend](port)))
    serving.start()
    edge = multiprocessing.Process(target=play_edge, args=(port, results))
    edge.start()
    speed = results.get(timeout=60)
    edge.join()
    serving.join(5)
    if serving.is_alive():
        serving.terminate()
    return speed


def main() -> int:
    multiprocessing.set_start_method("fork")
    hand, own = measure("by hand"), measure("ours")
    print(f"by hand: {hand:,.0f} packets/s\nvoltlane: {own:,.0f} packets/s, {own / hand:.1f} times as many")
    return 0 if own >= 5 * hand else 1


if __name__ == "__main__":
    sys.exit(main())
