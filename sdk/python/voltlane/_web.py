"""A client link in the messages of a WebSocket (SPEC 16.2), whose protocol is that of the package `websockets`."""

from __future__ import annotations

import asyncio
from typing import Generic, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import OPEN
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from ._link import Event, Link, Owner

SUBPROTOCOL = Subprotocol("voltlane.v2")

#: The longest message of an edge that is taken, in bytes. Packets are of any length; a message has no more than one write of the edge.
MAX_MESSAGE = 1 << 20

#: The longest message that is sent, in bytes.
MAX_WRITE = 1 << 16


class WebLink(Link, Generic[Event]):
    """A connection whose owner hears of it when its opening handshake is done."""

    def __init__(self, owner: Owner[Event], url: str) -> None:
        super().__init__(owner)
        self.protocol = ClientProtocol(parse_uri(url), subprotocols=[SUBPROTOCOL], max_size=MAX_MESSAGE)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # That of another loop, as of uvloop, is no asyncio.Transport, and does the same.
        self.transport = cast(asyncio.Transport, transport)
        self.protocol.send_request(self.protocol.connect())
        self._pass_on()

    def data_received(self, data: bytes) -> None:
        self.protocol.receive_data(data)
        for event in self.protocol.events_received():
            if isinstance(event, Response):
                if self.protocol.handshake_exc is None:
                    self._open()
            elif isinstance(event, Frame) and event.opcode in (Opcode.BINARY, Opcode.CONT) and self.owner is not None:
                self.owner._received(bytes(event.data))
        self._pass_on()
        if self.protocol.handshake_exc is not None or self.protocol.close_expected():
            assert self.transport is not None
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.protocol.receive_eof()
        if not self.opened.done():
            why = self.protocol.handshake_exc
            # What the edge's answer was is of use; how it broke off is not.
            says = str(why) if isinstance(why, InvalidHandshake) else "the connection ended before its WebSocket was open"
            self.opened.set_exception(ConnectionError(says))
        is_cut = exc is None and self.protocol.close_code == CloseCode.ABNORMAL_CLOSURE
        super().connection_lost(ConnectionError("the connection ended without a goodbye") if is_cut else exc)

    def write(self, data: bytes) -> None:
        if self.protocol.state is OPEN:
            for at in range(0, len(data), MAX_WRITE):
                self.protocol.send_binary(data[at : at + MAX_WRITE])
            self._pass_on()

    def abandon(self) -> None:
        if self.transport is not None and self.protocol.state is OPEN:
            self.protocol.send_close(CloseCode.NORMAL_CLOSURE)
            self._pass_on()
        super().abandon()

    def _pass_on(self) -> None:
        assert self.transport is not None
        # An empty piece stands for the end, which `close` makes.
        output = b"".join(self.protocol.data_to_send())
        if output and not self.transport.is_closing():
            self.transport.write(output)
