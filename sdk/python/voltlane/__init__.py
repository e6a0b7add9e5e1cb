"""A client of a Voltlane edge that comes back by itself, and the backend behind the edge, for asyncio.

    async with voltlane.Client("127.0.0.1:42000") as client:
        await client.send("hello")
        async for event in client:
            if isinstance(event, voltlane.Packet):
                print(event.text)

A lost connection is an event and not an error. A call fails only for what its caller can change. `voltlane.machine` has the machines
without sockets.
"""

from ._backend import Backend, BackendEvent, Everyone, Group, everyone, listen
from ._client import Client, ClientEvent, ConnectError, connect
from ._core import (
    Away,
    CaughtUp,
    ClientInfo,
    Connected,
    Counts,
    Dropped,
    EdgeConnected,
    EdgeLost,
    Ended,
    Error,
    Gap,
    Joined,
    Ledger,
    NoRoom,
    Packet,
    ProtocolError,
    Resumed,
    SessionEnded,
    Skipped,
    Token,
    TooLong,
)
from ._gate import Refuse
from ._id import ClientId
from ._link import Tick
from ._opening import Opening
from ._store import SessionInUse, SessionStore

__all__ = [
    "Away",
    "Backend",
    "BackendEvent",
    "CaughtUp",
    "Client",
    "ClientEvent",
    "ClientId",
    "ClientInfo",
    "ConnectError",
    "Connected",
    "Counts",
    "Dropped",
    "EdgeConnected",
    "EdgeLost",
    "Ended",
    "Error",
    "Everyone",
    "Gap",
    "Group",
    "Joined",
    "Ledger",
    "NoRoom",
    "Opening",
    "Packet",
    "ProtocolError",
    "Refuse",
    "Resumed",
    "SessionEnded",
    "SessionInUse",
    "SessionStore",
    "Skipped",
    "Tick",
    "Token",
    "TooLong",
    "connect",
    "everyone",
    "listen",
]
