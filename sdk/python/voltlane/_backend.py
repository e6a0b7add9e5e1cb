"""A backend over asyncio."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl as tls
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Literal, Union, cast

from ._core import (
    Away,
    BackendMachine,
    CaughtUp,
    ClientInfo,
    EdgeConnected,
    EdgeLost,
    Ended,
    Error,
    Gap,
    Joined,
    NoRoom,
    Packet,
    ProtocolError,
    Resumed,
    SessionEnded,
    Token,
)
from ._gate import TOKEN, Gate, Refuse, Verify
from ._id import ClientId
from ._link import Data, Link, Owner, Place, Tick, as_bytes, ended
from ._opening import Opening

#: The longest text of a kick, in bytes of UTF-8.
MAX_TEXT_BYTES = 256

BackendEvent = Union[EdgeConnected, EdgeLost, CaughtUp, Joined, Packet, Away, Resumed, Gap, Token, Tick, Ended]


class Backend(Owner[BackendEvent]):
    """The backend of one edge. `async with` listens; leaving it writes what waits, and closes the link. The edge keeps its clients.

    `address` is host:port, unix:/path or unix:@name. `version` is that of the link for which the edge is asked: 2 or 3. `secret` is that of
    the edge's `master.token_file`, 32 to 512 bytes: each proves it to the other, and the link has version 3. `tick` is how often there is a
    `Tick`, in seconds.

    `restore` goes on where an earlier process of the application ended, so that each packet counts once even if that process was killed: by
    client, the number of the last packet that the application has saved with what came of it. Those packets are not told again. What it
    sent it compares with `Joined.sent`. A client that is not there any more ends. It takes version 3 of the link.

    `verify` looks at each client that joins, with its token, and returns the note of the client, perhaps nothing, or awaits it; or it
    raises `Refuse`. It runs beside everything else, for up to 64 clients at a time, and nothing is heard of a client before. It bounds its
    own time. If it raises something else, the client is refused. Over a link of version 2 there are no tokens, and a client joins with its
    first packet.

    `overflow` is what becomes of a client for which there is no room, since it takes less than it is sent: with "end" its session ends with
    303. With "gap" the oldest packets for it are given up, it and this backend are told with `Gap`, and it goes on. Over a link of version
    2, and for a client of version 2, the session ends in any case.
    """

    def __init__(
        self,
        address: str,
        *,
        version: int = 2,
        secret: str | bytes | None = None,
        verify: Verify | None = None,
        restore: Mapping[ClientId, int] | None = None,
        overflow: Literal["end", "gap"] = "end",
        tick: float | None = None,
        ssl: tls.SSLContext | None = None,
    ) -> None:
        super().__init__()
        if address.startswith(("ws://", "wss://")):
            raise ValueError(f"`{address}`: an edge does not reach its backend by WebSocket")
        self._tick_every(tick)
        self._place = Place(address, ssl)
        if address.startswith("tls://") and ssl is None:
            raise ValueError("a backend within TLS needs `ssl`: a context with its certificate")
        shared = secret.encode() if isinstance(secret, str) else secret
        if overflow not in ("end", "gap"):
            raise ValueError(f"`overflow` is {overflow!r}: a client without room ends ('end') or loses packets ('gap')")
        admits, gaps = verify is not None, overflow == "gap"
        self._machine = BackendMachine(os.urandom(16), version=version, secret=shared, admits=admits, gaps=gaps)
        for id, number in (restore or {}).items():
            self._machine.restore(id, number)
        self._gate: Gate[BackendEvent] | None = None if verify is None else Gate(verify, self._judged)
        #: The place of the last frame that the gate has seen.
        self._seen = self._machine.mark
        self._names = os.urandom(16)
        self._server: asyncio.AbstractServer | None = None
        self._must_take = False
        #: Whether the edge tells who is there and what was acknowledged: over a link of version 3.
        self._tells = False
        #: By client: calls of `acknowledged`.
        self._waits: dict[ClientId, _Waits] = {}

    async def listen(self) -> Backend:
        """Listens. `async with` does it."""
        self._loop = loop = asyncio.get_running_loop()
        self._start_ticks()
        place = self._place
        if place.path is not None:
            self._server = await loop.create_unix_server(lambda: Link(self), place.path, ssl=place.ssl)
        else:
            self._server = await loop.create_server(lambda: Link(self), place.host, place.port, ssl=place.ssl)
        return self

    async def _begin(self) -> None:
        await self.listen()

    async def __aenter__(self) -> Backend:
        return await self.listen()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    @property
    def address(self) -> str:
        """The address at which it listens. With port 0 this is the one that the system chose."""
        if self._place.path is not None:
            return "unix:" + self._place.path.replace("\0", "@")
        # That of another loop is no asyncio.Server, and has the same.
        server = cast(asyncio.Server, self._server)
        host, port = server.sockets[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def close(self, within: float = 1.0) -> None:
        """Writes what waits, at most for `within` seconds, and ends. The edge keeps its clients."""
        if self._server is not None:
            self._server.close()
        if not self._is_over:
            self._pump()
            link, self._link = self._link, None
            if self._gate is not None:
                self._gate.end()
            if link is not None:
                link.abandon()
                await asyncio.wait([link.ended], timeout=within)
                if link.transport is not None:
                    link.transport.abort()
            self._end()

    # -- events

    def __aiter__(self) -> Backend:
        return self

    async def __anext__(self) -> BackendEvent:
        """The next event."""
        if not self._events:
            if self._must_take:
                self._must_take = False
                waiting = None if self._gate is None else self._gate.first_waiting()
                self._machine.taken(self._now(), waiting)
                self._flush_soon()
            if not await self._next():
                raise StopAsyncIteration
        return self._events.popleft()

    # -- sending

    async def send(self, to: ClientId | Group | Everyone, data: Data, *, without: Sequence[ClientId] = ()) -> int:
        """Sends a packet once, in order, to a client, a group or `everyone`, and returns its number if it is for one client.

        Waits for room for the link, never for a client. To a client that has ended nothing is sent, and that is no error. If it is
        cancelled, nothing was sent.
        """
        packet = data if type(data) is bytes else as_bytes(data)
        while True:
            try:
                if type(to) is int:
                    number = self._machine.send(to, packet)
                else:
                    number = 0
                    self._machine.send_to_many(_number(to), packet, without=list(without))
            except NoRoom:
                await self._room()
            else:
                if not self._flush_is_due:
                    self._flush_soon()
                return number

    def try_send(self, to: ClientId, data: Data) -> int:
        """Sends a packet to a client as `send` does, if there is `room` for it. Raises NoRoom, and does not wait."""
        if not self._machine.has_room_of(to):
            raise NoRoom(f"too much of {to} is not settled")
        number = self._machine.send(to, as_bytes(data))
        self._flush_soon()
        return number

    async def send_latest(self, to: ClientId | Group | Everyone, key: int, data: Data, *, without: Sequence[ClientId] = ()) -> int:
        """Sends a packet in place of an older one that waits under the same key."""
        packet, number = as_bytes(data), 0
        while True:
            try:
                if isinstance(to, int):
                    number = self._machine.send_latest(to, key, packet)
                else:
                    self._machine.send_to_many(_number(to), packet, without=list(without), key=key)
            except NoRoom:
                await self._room()
            else:
                self._flush_soon()
                return number

    def send_volatile(self, to: ClientId | Group | Everyone, data: Data, *, without: Sequence[ClientId] = ()) -> None:
        """Sends a packet now or not at all."""
        packet = as_bytes(data)
        try:
            if isinstance(to, int):
                self._machine.send_volatile(to, packet)
            else:
                self._machine.send_to_many(_number(to), packet, without=list(without), volatile=True)
        except NoRoom:
            return
        self._flush_soon()

    async def acknowledged(self, id: ClientId, number: int) -> None:
        """Waits until a client's application came back for more after the packet `number`, which `send` returned, and so for all before.

        Over a link of version 2 nobody tells, and it waits until the packet was given to the edge. Raises SessionEnded if the session ends
        before that is known. Only looks, so it can be cancelled.
        """
        machine = self._machine
        if not self._tells:
            await self._until(lambda: machine.queued == 0)
            return
        if machine.settled(id) >= number:
            return
        await self._while_there(id, lambda: machine.settled(id) >= number)

    async def room(self, id: ClientId) -> None:
        """Waits for room for a client: fewer than 8,192 packets to it are unsettled. A link of version 2 does not tell what is settled.

        Raises SessionEnded if the session ends before. Only looks, so it can be cancelled.
        """
        machine = self._machine
        if self._is_over or machine.has_ended(id):
            raise SessionEnded(f"the session of {id} is over" if machine.has_ended(id) else "the backend is closed")
        if not machine.has_room_of(id):
            await self._while_there(id, lambda: machine.has_room_of(id) and not machine.has_ended(id))
        while not machine.has_room(1, 0):
            await self._room()

    async def _while_there(self, id: ClientId, holds: Callable[[], bool]) -> None:
        """Waits until a condition holds. Raises SessionEnded if the session of this client ends without it."""
        waits = self._waits.setdefault(id, _Waits(id not in self._machine.clients()))
        waits.count += 1
        try:
            await self._until(lambda: waits.is_over or holds())
            if not holds():
                says = f"the session of {id} is over" if waits.is_over else "the backend is closed"
                raise ended(says, waits.end)
        finally:
            waits.count -= 1
            if waits.count == 0 and self._waits.get(id) is waits:
                del self._waits[id]

    async def _room(self) -> None:
        waiting = self._machine.queued
        await self._until(lambda: self._machine.queued < waiting)
        if self._is_over:
            raise Error("the backend is closed")

    async def kick(self, id: ClientId, code: int = 401, text: str = "") -> None:
        """Ends a session with a code (401, 405, or 500 to 699) and a text. `Ended` follows."""
        while True:
            try:
                self._machine.kick(id, code, text)
            except NoRoom:
                await self._room()
            else:
                self._flush_soon()
                self._pass(self._machine.events())
                return

    # -- groups, notes

    def group(self, name: str) -> Group:
        """The group of this name, which exists while it has members."""
        digest = hashlib.blake2b(name.encode(), digest_size=8, key=self._names).digest()
        return Group(name, min(int.from_bytes(digest, "little"), 2**64 - 2))

    def add(self, group: Group, id: ClientId) -> None:
        """Makes a client a member of a group."""
        self._machine.add(group.number, id)
        self._flush_soon()

    def remove(self, group: Group, id: ClientId) -> None:
        """Ends a membership, if there is one."""
        self._machine.remove(group.number, id)
        self._flush_soon()

    def members(self, group: Group) -> list[ClientId]:
        return self._machine.members(group.number)

    def note(self, id: ClientId) -> str:
        """What is noted of a client, or nothing."""
        return self._machine.note(id)

    def set_note(self, id: ClientId, note: str) -> None:
        """Notes something of a client, in at most 64 bytes. The edge keeps it with the session."""
        self._machine.set_note(id, note)
        self._flush_soon()

    def pause(self, id: ClientId) -> None:
        """Reads no more packets of a client, until `unpause`."""
        self._machine.pause(id, True)
        self._flush_soon()

    def unpause(self, id: ClientId) -> None:
        self._machine.pause(id, False)
        self._flush_soon()

    def ask_to_leave(self, who: ClientId | Everyone, within: float) -> None:
        """Asks a client, or everyone, to leave and to come back: it does so at a random time within so many seconds.

        One that is still there then is closed, and so is one of version 2, which cannot be asked. Its session goes on, and nothing is lost.
        A link of version 2 cannot carry it.
        """
        self._machine.ask_to_leave(None if isinstance(who, Everyone) else who, within)
        self._flush_soon()

    def client(self, id: ClientId) -> ClientInfo | None:
        """What is known of a client, if it is there, and was let in if somebody verifies clients."""
        return self._machine.client(id)

    def clients(self) -> list[ClientId]:
        """The clients that are there."""
        return self._machine.clients()

    @property
    def is_connected(self) -> bool:
        """Whether an edge is connected."""
        return self._link is not None

    @property
    def max_packet(self) -> int:
        """The maximum length of a packet to a client."""
        return self._machine.max_packet

    def _keep_tick(self, tick: Tick) -> None:
        self._keep([tick])

    # -- verifying

    def _pass(self, events: Sequence[BackendEvent]) -> None:
        """Keeps those of the events that the application hears now."""
        for event in events:
            if isinstance(event, EdgeConnected):
                self._tells = event.sessions is not None
            elif self._waits and isinstance(event, Ended) and event.id in self._waits:
                self._waits[event.id].is_over, self._waits[event.id].end = True, event
        gate = self._gate
        if gate is None:
            self._keep(events)
            return
        passed: list[BackendEvent] = []
        for event in events:
            if not gate.passes(event, self._seen):
                if isinstance(event, Joined):
                    self._machine.pause(event.id, True)
                continue
            # The verdict on this client was that of an earlier life.
            if isinstance(event, Joined):
                self._machine.admit(event.id)
            passed.append(event)
        self._seen = self._machine.mark
        if passed:
            self._must_take = True
            self._keep(passed)
        gate.begin()
        self._take_up()

    def _take_up(self) -> None:
        """Acknowledges what the gate has swallowed, if the application has nothing: it never comes back from that."""
        if self._gate is not None and not self._events and not self._must_take and not self._is_over:
            self._machine.taken(self._now(), self._gate.first_waiting())

    def _judged(self, id: ClientId, verdict: str | Refuse) -> None:
        """Handles a verdict."""
        gate, machine = self._gate, self._machine
        if gate is None or self._is_over:
            return
        if isinstance(verdict, str):
            told = gate.let_in(id, verdict)
            if told:
                machine.admit(id)
                machine.set_note(id, verdict)
                machine.pause(id, False)
                self._must_take = True
                self._keep(told)
        else:
            gate.keep_out(id)
            text = verdict.text.encode()[:MAX_TEXT_BYTES].decode(errors="ignore")
            try:
                try:
                    machine.kick(id, verdict.code, text)
                except (ValueError, OverflowError):
                    machine.kick(id, TOKEN, text)
            except NoRoom:
                # It stays paused, and unheard.
                pass
            self._take_up()
        self._flush_soon()

    # -- the link

    def _link_made(self, link: Link) -> None:
        if self._is_over:
            link.abandon()
            return
        # An edge dials again only after it has given up its last link.
        if self._link is not None:
            last, self._link = self._link, None
            last.abandon()
            self._lost()
        self._link = link
        self._reads = True
        self._machine.connected(self._now())
        self._pass(self._machine.events())
        self._pump()

    def _received(self, data: bytes) -> None:
        try:
            events = self._machine.feed(self._now(), data)
        except ProtocolError:
            self._give_up()
            return
        if events:
            self._must_take |= self._gate is None
            self._pass(events)
        self._pump()

    def _give_up(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.abandon()
        self._lost()

    def _link_lost(self, link: Link, in_order: bool) -> None:
        if self._link is link:
            self._link = None
            self._lost()

    def _lost(self) -> None:
        self._machine.closed()
        self._pass([*self._machine.events(), EdgeLost()])

    def _pump(self) -> None:
        if self._is_over or self._loop is None:
            return
        machine = self._machine
        machine.timeout(self._now())
        if machine.wants_close():
            self._give_up()
        link = self._link
        if link is not None and link.transport is not None and link.may_write:
            output = machine.output()
            if output:
                link.write(output)
        pending = machine.events()
        if pending:
            self._pass(pending)
        self._settle()
        self._alarm(machine.next_timeout())


class _Waits:
    """Calls that wait for a client's acknowledgement, or for room for it."""

    __slots__ = ("count", "end", "is_over")

    def __init__(self, is_over: bool) -> None:
        self.count, self.is_over = 0, is_over
        self.end: Ended | None = None


class Group:
    """A name to send to instead of an id."""

    __slots__ = ("name", "number")

    def __init__(self, name: str, number: int) -> None:
        self.name, self.number = name, number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Group) and self.number == other.number

    def __hash__(self) -> int:
        return hash(self.number)

    def __repr__(self) -> str:
        return f"Group({self.name!r})"


class Everyone:
    """Everyone who is there."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "everyone"


#: To send to everyone who is there.
everyone = Everyone()


def _number(to: Group | Everyone | ClientId) -> int | None:
    assert not isinstance(to, int)
    return to.number if isinstance(to, Group) else None


def listen(
    address: str,
    *,
    version: int = 2,
    secret: str | bytes | None = None,
    verify: Verify | None = None,
    restore: Mapping[ClientId, int] | None = None,
    overflow: Literal["end", "gap"] = "end",
    tick: float | None = None,
    ssl: tls.SSLContext | None = None,
) -> Opening[Backend]:
    """A `Backend` that listens. Await it, or enter it with `async with`, which also closes it."""
    return Opening(Backend(address, version=version, secret=secret, verify=verify, restore=restore, overflow=overflow, tick=tick, ssl=ssl))
