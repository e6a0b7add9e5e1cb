"""Passes TCP connections on in WebSocket messages, with the package websockets: relay.py URL [AUTHORITY] [--text]

With --text it sends a text message at once.
"""

import asyncio
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidHandshake


def say(line):
    print(line, flush=True)


url, *authority = [argument for argument in sys.argv[1:] if argument != "--text"]
sends_text = "--text" in sys.argv
options = {}
if authority:
    options = {"ssl": ssl.create_default_context(cafile=authority[0]), "server_hostname": "edge.example.com"}


async def up(near, far):
    while data := await near.read(65536):
        await far.send(data)
    await far.close()


async def pass_on(reader, writer):
    try:
        # Compression is offered, as is this library's habit.
        async with connect(url, subprotocols=["voltlane.v2"], max_size=None, **options) as far:
            say(f"open {far.subprotocol} {far.protocol.extensions or 'none'}")
            if sends_text:
                await far.send("text")
            pong = await far.ping("are you there?")
            pong.add_done_callback(lambda done: done.cancelled() or done.exception() or say("pong are you there?"))
            sending = asyncio.create_task(up(reader, far))
            try:
                async for message in far:
                    writer.write(message)
                    await writer.drain()
            except ConnectionClosedError:
                # With another code than 1000 and 1001.
                pass
            sending.cancel()
            await far.wait_closed()
            say(f"closed {far.close_code}")
    except InvalidHandshake as error:
        say(f"failed {error}")
    writer.close()


async def main():
    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    say(f"listening {server.sockets[0].getsockname()[1]}")
    # The test ends it.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
