"""A client over asyncio."""

from __future__ import annotations

import asyncio
import inspect
import os
import ssl as tls
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Literal, Union

from ._core import (
    CaughtUp,
    ClientMachine,
    Connected,
    Dropped,
    Ended,
    Error,
    Gap,
    Ledger,
    NoRoom,
    Packet,
    Resumed,
    SessionEnded,
    Skipped,
    TooLong,
)
from ._id import ClientId
from ._link import Data, Link, Owner, Place, Tick, as_bytes, ended
from ._opening import Opening
from ._store import SessionFile, SessionStore

#: What a client shows when it joins, or what gives it, perhaps later.
TokenOf = Union[Data, Callable[[], Union[Data, Awaitable[Data]]]]

ClientEvent = Union[Connected, Packet, Dropped, Resumed, CaughtUp, Gap, Skipped, Tick, Ended]


class ConnectError(Error):
    """The first session did not begin."""


class Client(Owner[ClientEvent]):
    """A client of an edge. `async with` waits until its first session has begun.

    Leaving it says goodbye, or suspends a session that is kept.

    `address` is host:port, tls://host:port, ws://host/path, wss://host/path, unix:/path or unix:@name, or several of them, which are tried
    in turn. A `token`, or what a call of it gives, goes only to an edge that is known: by one of `edge_keys`, by its certificate, or at a
    Unix socket; or to any edge with `trust_first_use`. `version` is 2, 3, or None for version 3 and version 2 with an edge that has no
    other. `saved` is a session of version 2 to be resumed. `session_file` keeps the session in a file that nobody else can read: a process
    that begins again, however it ended, goes on with it. Nothing leaves before it is in the file, so each write waits for the disk. With
    `ack="taken"` a packet counts as acknowledged when the application comes back for the next one; those that it took since the file was
    written last come again. With `ack="saved"` it counts when the application has called `save`, and what it sends leaves with `save`: then
    each packet counts once in both directions, however often the process is killed. A `session_store` is the same with a place of the
    application's own. `tick` is how often there is a `Tick`, in seconds.
    """

    def __init__(
        self,
        address: str | Sequence[str],
        *,
        token: TokenOf | None = None,
        edge_keys: Sequence[str] = (),
        version: int | None = None,
        start_over: bool = False,
        take_over: bool = False,
        trust_first_use: bool = False,
        saved: bytes | None = None,
        session_file: str | os.PathLike[str] | None = None,
        session_store: SessionStore | None = None,
        ack: Literal["taken", "saved"] = "taken",
        tick: float | None = None,
        give_up_after: float | None = 30.0,
        ssl: tls.SSLContext | None = None,
    ) -> None:
        super().__init__()
        addresses = [address] if isinstance(address, str) else list(address)
        if not addresses:
            raise ValueError("there is no address")
        self._places = [Place(one, ssl) for one in addresses]
        self._at = 0
        self._tick_every(tick)
        if session_file is not None and session_store is not None:
            raise ValueError("`session_file` and `session_store` are the same thing")
        keeps = session_file is not None or session_store is not None
        if keeps and saved is not None:
            raise ValueError("a session file is in place of `saved`")
        if not keeps and ack != "taken":
            raise ValueError("a client without a session file saves nothing")
        self._ask = token if callable(token) else None
        self._store = session_store if session_file is None else SessionFile(session_file)
        try:
            stored = None if self._store is None else self._store.load()
            self._machine = ClientMachine(
                os.urandom(32),
                version=version,
                token=None if token is None or callable(token) else as_bytes(token),
                edge_keys=list(edge_keys),
                saved=saved,
                saves=None if self._store is None else ack,
                stored=stored,
                take_over=take_over,
                trust_first_use=trust_first_use or all(place.is_known for place in self._places),
            )
        except ValueError as error:
            self._release()
            if not isinstance(self._store, SessionFile):
                raise
            raise ValueError(f"{self._store.path}: {error}") from None
        except BaseException:
            self._release()
            raise
        self._start_over = start_over
        self._give_up_after = give_up_after
        self._id = self._machine.id
        self._lent = 0
        self._dialing: asyncio.Task[None] | None = None
        self._last_end: Ended | None = None
        #: The session among those of this client, and up to which number the one before it was acknowledged.
        self._session = 1
        self._past: dict[int, int] = {}
        self._last_drop: Dropped | None = None

    # -- the session

    async def connect(self) -> Client:
        """Waits until the first session has begun. `async with` does it.

        Raises ConnectError if the edge does not want the session, or nobody answers in `give_up_after` seconds, and what the call for the
        token raises. Then the client is over, and its session file is free.
        """
        try:
            await self._connect()
        except BaseException:
            self.abort()
            raise
        return self

    async def _connect(self) -> None:
        if self._loop is None and not self._is_over:
            if self._ask is not None:
                asked = self._ask()
                self._machine.set_token(as_bytes(await asked if inspect.isawaitable(asked) else asked))
            self._loop = asyncio.get_running_loop()
            self._start_ticks()
            self._pump()
        try:
            await asyncio.wait_for(self._until(lambda: self._machine.is_connected or self._last_end is not None), self._give_up_after)
        except asyncio.TimeoutError:
            cause = self._last_drop.cause if self._last_drop else "nobody answered"
            raise ConnectError(f"no edge answered in time: {cause}") from None
        if self._last_end is not None:
            raise ConnectError(f"the session ended before it began: {self._last_end.code} {self._last_end.text}")
        if self._is_over:
            raise ConnectError("this client is over: another one can connect")

    async def _begin(self) -> None:
        await self.connect()

    async def __aenter__(self) -> Client:
        return await self.connect()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None and self._store is None:
            await self.close()
        elif kind is None:
            await self.suspend()
        else:
            self.abort()

    async def close(self, within: float = 2.0) -> Ended | None:
        """Says goodbye behind what was sent, and waits for the answer at most `within` seconds. Returns the end, if there is one."""
        if self._loop is not None and not self._is_over:
            self._start_over = False
            self._machine.close(self._now())
            self._pump()
            try:
                await asyncio.wait_for(self._until(lambda: False), within)
            except asyncio.TimeoutError:
                pass
        link = self._link
        self.abort()
        if link is not None and link.transport is not None:
            await asyncio.wait([link.ended], timeout=1.0)
        return self._last_end

    async def suspend(self, within: float = 2.0) -> None:
        """Ends the connection and keeps the session, with which the next process goes on. What the application has not taken comes again.

        What was sent is kept with it. In version 2 packets are not: they are sent first, for at most `within` seconds, and those that the
        connection has not taken by then are lost.

        Raises ValueError for a session that is not kept, and what its store raises. Then too the client is over, and the session goes on
        from what was stored last.
        """
        if self._store is None:
            raise ValueError("a client without a session file keeps no session")
        machine, link = self._machine, None
        try:
            if self._loop is not None and machine.version == 2:
                ends_at = self._now() + within
                try:
                    await asyncio.wait_for(self._until(lambda: not machine.has_unsent), within)
                except asyncio.TimeoutError:
                    pass
                link = self._link
            if not self._is_over:
                self._write_file()
        finally:
            self.abort()
        # The transport writes what it has taken, if the loop goes on.
        if link is not None and link.transport is not None:
            await asyncio.wait([link.ended], timeout=max(0.0, ends_at - self._now()))

    def abort(self) -> None:
        """Ends as if the network had failed: the edge keeps the session for a while."""
        if self._dialing is not None:
            self._dialing.cancel()
            self._dialing = None
        link, self._link = self._link, None
        if link is not None:
            link.abandon()
        self._end()

    def drop_connection(self) -> None:
        """Drops the connection as if the network had failed. The client comes back by itself."""
        self._machine.drop_connection()
        self._pump()

    # -- events

    def __aiter__(self) -> Client:
        return self

    async def __anext__(self) -> ClientEvent:
        """The next event. A packet counts as acknowledged when the application comes back for the next one."""
        if self._loop is None:
            raise RuntimeError("it was not begun: `async with voltlane.Client(...) as client`")
        if self._lent:
            self._machine.taken(self._now(), self._lent)
            self._lent = 0
            self._flush_soon()
        if not self._events and not await self._next():
            raise StopAsyncIteration
        event = self._events.popleft()
        if type(event) is Packet:
            self._lent = event.number
        return event

    # -- the session file

    @property
    def state(self) -> bytes:
        """The application's own state: what `save` was given last, by this process or by one before it."""
        return self._machine.saved_state

    async def save(self, state: Data) -> None:
        """Saves up to 64 KiB of the application's own in the session file, in one step with the session.

        With `ack="saved"`, the packets that came so far are acknowledged with it, and those that were sent so far leave behind it. Raises
        OSError if the file cannot be written.
        """
        if self._store is None:
            raise ValueError("a client without a session file saves nothing")
        if self._is_over:
            raise self._ended()
        now = self._now()
        if self._lent:
            self._machine.taken(now, self._lent)
            self._lent = 0
        self._machine.set_state(now, as_bytes(state))
        self._write_file()
        self._flush_soon()

    def _write_file(self) -> None:
        if self._store is not None:
            self._store.store(self._machine.to_save())
            self._machine.saved()

    def _save(self) -> bool:
        """Saves what must be saved now. Without that nothing leaves, so a disk that is full is like a network that is down."""
        if not self._machine.wants_save():
            return True
        try:
            self._write_file()
        except Exception as error:
            # A store of the application's own raises what it likes.
            assert self._loop is not None
            self._loop.call_exception_handler({"message": "the session cannot be stored", "exception": error})
            self._machine.drop_connection()
            # Whoever saves may have looked at the connection before.
            self._flush_soon()
            return False
        return True

    # -- sending

    async def send(self, data: Data) -> int:
        """Sends a packet once, in order, over any number of connections, and returns its number. Waits for room.

        If it is cancelled, nothing was sent. Raises TooLong, and SessionEnded once the session is over.
        """
        packet = as_bytes(data)
        while True:
            try:
                return self.try_send(packet)
            except NoRoom:
                await self._until(lambda: self._machine.has_room(len(packet)))

    def try_send(self, data: Data) -> int:
        """Like `send`, but raises NoRoom and does not wait."""
        if self._is_over:
            raise self._ended()
        number = self._machine.send(as_bytes(data))
        if self._loop is not None:
            self._flush_soon()
        return number

    def send_volatile(self, data: Data) -> bool:
        """Sends a packet now or not at all. False: there is no connection, or it takes no more.

        Raises TooLong, and SessionEnded once the session is over.
        """
        packet, machine = as_bytes(data), self._machine
        if len(packet) > machine.max_packet:
            raise TooLong(f"a packet of {len(packet)} bytes, {machine.max_packet} allowed")
        # What was sent before goes first, and now.
        if machine.has_unsent:
            self._pump()
        if not (self._is_over or machine.is_over):
            takes_more = self._link is not None and self._link.may_write
            if not takes_more or not machine.is_connected or machine.has_unsent:
                return False
        try:
            self.try_send(packet)
        except NoRoom:
            return False
        return True

    async def room(self) -> None:
        """Waits for room for another packet. Raises SessionEnded once the session is over."""
        await self._until(lambda: self._machine.has_room(0))
        if self._is_over:
            raise self._ended()

    def _ended(self) -> SessionEnded:
        end = self._last_end
        return ended("the session is over" if end is None else f"the session is over: {end.code}", end)

    def set_token(self, token: Data) -> None:
        """Sets what the client shows when it joins. In a session it is sent again, at once.

        Raises ValueError if it is longer than 4,096 bytes, or the edge is not known.
        """
        self._machine.set_token(as_bytes(token))
        if self._loop is not None:
            self._flush_soon()

    async def acknowledged(self, number: int) -> None:
        """Waits until this packet of the present session, and all before, are acknowledged: the other application came back for more.

        Raises SessionEnded if the session ends before, also if another one begins. Only looks, so it can be cancelled.
        """
        session = self._session
        await self._until(lambda: self._session != session or self._machine.acknowledged >= number)
        # What was acknowledged counts, also if that came with the end.
        acknowledged = self._machine.acknowledged if self._session == session else self._past.get(session, 0)
        if acknowledged < number:
            raise ended("the session ended before that", self._last_end)

    async def flush(self) -> None:
        """Waits until everything that was sent is acknowledged. Raises what `acknowledged` does."""
        await self.acknowledged(self._machine.ledger.up.numbered)

    # -- what is known

    @property
    def id(self) -> ClientId:
        """The id of the session that was told last, or 0."""
        return self._id

    @property
    def end(self) -> Ended | None:
        """How the last session ended, if it has and no other has begun."""
        return self._last_end

    @property
    def rtt(self) -> float | None:
        """The seconds that a question to the edge and its answer took last, if one was asked. An edge is asked when it was silent."""
        return self._machine.rtt

    @property
    def ledger(self) -> Ledger:
        """What became of the packets so far, as far as this client knows."""
        return self._machine.ledger

    @property
    def version(self) -> int:
        return self._machine.version

    @property
    def is_connected(self) -> bool:
        return self._machine.is_connected

    @property
    def max_packet(self) -> int:
        """The maximum length of a packet to the edge."""
        return self._machine.max_packet

    @property
    def edge_key(self) -> str | None:
        """The key that the edge has proven, for `edge_keys`."""
        return self._machine.edge_key

    @property
    def saved_session(self) -> bytes | None:
        """A session of version 2, for `saved`. It is a secret."""
        return self._machine.saved_session

    # -- the connection

    def _link_made(self, link: Link) -> None:
        if self._is_over or self._link is not None:
            link.abandon()
            return
        self._link = link
        self._reads = True
        self._machine.connected(self._now(), os.urandom(32))
        self._pump()

    def _received(self, data: bytes) -> None:
        events: Sequence[ClientEvent] = self._machine.feed(self._now(), data)
        # The application hears of no session that is not in the file. (SPEC 46.1(h))
        if self._store is not None and not self._save():
            begun = [type(event) for event in events]
            events = events[: begun.index(Connected)] if Connected in begun else events
        self._take(events)
        self._pump()

    def _link_lost(self, link: Link, in_order: bool) -> None:
        if self._link is link:
            self._link = None
            self._machine.closed(self._now(), in_order)
            self._pump()

    def _take(self, events: Sequence[ClientEvent]) -> None:
        for event in events:
            if isinstance(event, Ended):
                self._last_end = event
            elif isinstance(event, Dropped):
                self._last_drop = event
            elif isinstance(event, Connected):
                self._last_end = None
                self._id = event.id
        self._keep(events)

    def _keep_tick(self, tick: Tick) -> None:
        self._keep([tick])

    def _end(self) -> None:
        super()._end()
        self._release()

    def _release(self) -> None:
        """The client is over, and stores no more."""
        if isinstance(self._store, SessionFile):
            self._store.release()

    def _pump(self) -> None:
        """Does everything that can be done now."""
        if self._is_over or self._loop is None:
            return
        machine, now = self._machine, self._now()
        machine.timeout(now)
        self._take(machine.events())
        if machine.wants_close() and self._link is not None:
            link, self._link = self._link, None
            link.abandon()
            machine.closed(now, False)
            self._take(machine.events())
        elif machine.wants_close():
            if self._dialing is not None:
                self._dialing.cancel()
                self._dialing = None
            machine.closed(now, False)
            self._take(machine.events())
        self._save()
        if machine.is_over:
            if self._start_over and machine.ends_afresh:
                self._past = {self._session: machine.acknowledged}
                self._session += 1
                machine.start_over()
                self._lent = 0
            if machine.is_over:
                self._end()
                return
        if self._link is None and self._dialing is None and machine.wants_connect(now):
            self._dialing = self._loop.create_task(self._dial())
        link_now = self._link
        while link_now is not None and link_now.transport is not None and link_now.may_write:
            output = machine.output(now)
            if output:
                link_now.write(output)
            # There is more behind what must be saved first.
            if not machine.wants_save() or not self._save():
                break
        self._settle()
        self._alarm(machine.next_timeout())

    async def _dial(self) -> None:
        place = self._places[self._at]
        assert self._loop is not None
        link: Link | None = None
        try:
            if place.path is not None:
                await self._loop.create_unix_connection(lambda: Link(self), place.path)
            elif place.url is not None:
                from ._web import WebLink

                url = place.url
                _, link = await self._loop.create_connection(lambda: WebLink(self, url), place.host, place.port, ssl=place.ssl)
                await link.opened
            else:
                await self._loop.create_connection(lambda: Link(self), place.host, place.port, ssl=place.ssl)
        except asyncio.CancelledError:
            if link is not None:
                link.abandon()
            raise
        except OSError:  # an error of TLS is one as well
            self._at = (self._at + 1) % len(self._places)
            self._dialing = None
            self._machine.connect_failed(self._now())
            self._pump()
        else:
            self._dialing = None


def connect(
    address: str | Sequence[str],
    *,
    token: TokenOf | None = None,
    edge_keys: Sequence[str] = (),
    version: int | None = None,
    start_over: bool = False,
    take_over: bool = False,
    trust_first_use: bool = False,
    session_file: str | os.PathLike[str] | None = None,
    session_store: SessionStore | None = None,
    ack: Literal["taken", "saved"] = "taken",
    tick: float | None = None,
    give_up_after: float | None = 30.0,
    ssl: tls.SSLContext | None = None,
) -> Opening[Client]:
    """A `Client` whose first session has begun. Await it, or enter it with `async with`.

    Leaving it says goodbye, or suspends a session that is kept. Raises ConnectError if no session begins.
    """
    return Opening(
        Client(
            address,
            token=token,
            edge_keys=edge_keys,
            version=version,
            start_over=start_over,
            take_over=take_over,
            trust_first_use=trust_first_use,
            session_file=session_file,
            session_store=session_store,
            ack=ack,
            tick=tick,
            give_up_after=give_up_after,
            ssl=ssl,
        )
    )
