"""What a client and a backend have in common: addresses, bytes, and the protocol of asyncio that hands reads on."""

from __future__ import annotations

import asyncio
import ssl as tls
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, Union, cast
from urllib.parse import urlsplit

from ._core import Ended, SessionEnded

Data = Union[bytes, bytearray, memoryview, str]
Event = TypeVar("Event")

#: Beyond so many packets that wait for the application, no more is read.
MAX_KEPT = 4096


def as_bytes(data: Data) -> bytes:
    """Text is UTF-8."""
    if isinstance(data, bytes):
        return data
    return data.encode() if isinstance(data, str) else bytes(data)


@dataclass(frozen=True)
class Tick:
    """The time of the option `tick` has passed. It comes so many seconds too late. Ticks that nobody waited for are left out."""

    late: float


class Place:
    """An address: host:port, tcp://host:port, tls://host:port, ws://host/path, wss://host/path, unix:/path or unix:@name."""

    def __init__(self, address: str, ssl: tls.SSLContext | None = None) -> None:
        self.path: str | None = None
        self.url: str | None = None
        self.ssl = ssl
        forms = "an address is host:port, tcp://host:port, tls://host:port, ws://host/path, wss://host/path, unix:/path or unix:@name"
        if address.startswith(("ws://", "wss://")):
            self._set_url(address, forms)
            return
        if address.startswith("unix:"):
            name = address[5:]
            if not name.startswith(("/", "@")) or len(name) < 2:
                raise ValueError(f"`{address}`: {forms}")
            self.path = "\0" + name[1:] if name.startswith("@") else name
            return
        scheme, _, rest = address.rpartition("://")
        if scheme not in ("", "tcp", "tls"):
            raise ValueError(f"`{address}`: the scheme {scheme} is unknown; {forms}")
        host, _, port = rest.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"`{address}`: {forms}")
        self.host, self.port = host.strip("[]"), int(port)
        if scheme == "tls" and ssl is None:
            self.ssl = tls.create_default_context()

    def _set_url(self, url: str, forms: str) -> None:
        try:
            from . import _web  # noqa: F401
        except ImportError:
            raise ValueError(f"`{url}`: ws:// and wss:// need the package websockets: pip install voltlane[ws]") from None
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host:
            raise ValueError(f"`{url}`: {forms}")
        is_secure = parts.scheme == "wss"
        self.url, self.host, self.port = url, host, port or (443 if is_secure else 80)
        if not is_secure:
            self.ssl = None
        elif self.ssl is None:
            self.ssl = tls.create_default_context()

    @property
    def is_known(self) -> bool:
        """Whether a token may go there: the edge is proven by a certificate, or is on this host in a file that somebody owns.

        Anybody on this host can take an abstract name, over which there is no TLS either. A context may be told to prove nothing.
        """
        if self.path is not None:
            return not self.path.startswith("\0")
        return self.ssl is not None and self.ssl.verify_mode == tls.CERT_REQUIRED and self.ssl.check_hostname


class Link(asyncio.Protocol):
    """One connection. What comes goes to its owner, which is told when it may write and when it is over."""

    def __init__(self, owner: Owner[Event]) -> None:
        self.owner: Owner[Event] | None = owner
        self.transport: asyncio.Transport | None = None
        self.may_write = True
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[bool] = loop.create_future()
        #: Whether its owner has heard of it.
        self.opened: asyncio.Future[None] = loop.create_future()

    def _open(self) -> None:
        if not self.opened.done():
            self.opened.set_result(None)
        if self.owner is not None:
            self.owner._link_made(self)

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # That of another loop, as of uvloop, is no asyncio.Transport, and does the same.
        self.transport = cast(asyncio.Transport, transport)
        self._open()

    def data_received(self, data: bytes) -> None:
        if self.owner is not None:
            self.owner._received(data)

    def pause_writing(self) -> None:
        self.may_write = False

    def resume_writing(self) -> None:
        self.may_write = True
        if self.owner is not None:
            self.owner._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(exc is None)
        owner, self.owner = self.owner, None
        if owner is not None:
            owner._link_lost(self, exc is None)

    def abandon(self) -> None:
        """Nothing of it is heard any more."""
        self.owner = None
        self.opened.cancel()
        if self.transport is not None:
            self.transport.close()


def ended(says: str, end: Ended | None) -> SessionEnded:
    """What is raised once a session is over, with its end if that is known."""
    error = SessionEnded(says)
    error.end = end
    return error


class Owner(Generic[Event]):
    """What owns a link, keeps events for one reader, and wakes those who wait."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._link: Link | None = None
        self._events: deque[Event] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._flush_is_due = False
        self._is_over = False
        self._reads = True
        self._tick: float | None = None
        self._ticking: asyncio.TimerHandle | None = None

    # Called by the link, and overridden.

    def _link_made(self, link: Link) -> None:
        raise NotImplementedError

    def _received(self, data: bytes) -> None:
        raise NotImplementedError

    def _link_lost(self, link: Link, in_order: bool) -> None:
        raise NotImplementedError

    def _pump(self) -> None:
        raise NotImplementedError

    # Events.

    def _now(self) -> float:
        assert self._loop is not None
        return self._loop.time()

    def _keep(self, events: Sequence[Event]) -> None:
        if events:
            self._events.extend(events)
            self._wake()
            if self._reads and len(self._events) > MAX_KEPT:
                self._set_reading(False)

    def _set_reading(self, reads: bool) -> None:
        self._reads = reads
        if self._link is not None and self._link.transport is not None:
            try:
                if reads:
                    self._link.transport.resume_reading()
                else:
                    self._link.transport.pause_reading()
            except RuntimeError:  # it is closing
                pass

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and not reader.done():
            reader.set_result(None)

    def _settle(self) -> None:
        """Wakes those whose condition holds."""
        if self._waiters:
            waiting, self._waiters = self._waiters, []
            for check, future in waiting:
                if future.done():
                    continue
                if self._is_over or check():
                    future.set_result(None)
                else:
                    self._waiters.append((check, future))

    async def _until(self, check: Callable[[], bool]) -> None:
        """Waits until `check` says so, or everything is over. Only looks, so it can be cancelled."""
        while not (self._is_over or check()):
            assert self._loop is not None
            future: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append((check, future))
            await future

    async def _next(self) -> bool:
        """Waits for an event. False: nothing more comes."""
        while not self._events:
            if self._is_over:
                return False
            if self._reader is not None:
                raise RuntimeError("another task waits for the next event: there is one reader")
            assert self._loop is not None
            self._reader = future = self._loop.create_future()
            try:
                await future
            finally:
                if self._reader is future:
                    self._reader = None
        if not self._reads and len(self._events) < MAX_KEPT // 2:
            self._set_reading(True)
        return True

    # Time and output.

    def _flush_soon(self) -> None:
        """Writes what is sent until the loop comes round in one piece."""
        if not self._flush_is_due:
            self._flush_is_due = True
            assert self._loop is not None
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        self._pump()

    def _alarm(self, at: float | None) -> None:
        if self._timer is not None:
            if at is not None and self._timer.when() == at:
                return
            self._timer.cancel()
            self._timer = None
        if at is not None and self._loop is not None:
            self._timer = self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._pump()

    def _tick_every(self, seconds: float | None) -> None:
        """The option. Ticks begin with the loop."""
        if seconds is not None and not seconds > 0:
            raise ValueError(f"a tick cannot come every {seconds} s")
        self._tick = seconds

    def _start_ticks(self) -> None:
        if self._tick is not None and self._ticking is None and not self._is_over:
            self._tick_at(self._now() + self._tick)

    def _tick_at(self, due: float) -> None:
        assert self._loop is not None
        self._ticking = self._loop.call_at(due, self._strike, due)

    def _strike(self, due: float) -> None:
        assert self._tick is not None
        now = self._now()
        # One that nobody has taken stands for those after it.
        if not self._has_tick():
            self._keep_tick(Tick(now - due))
        missed = (now - due) // self._tick
        self._tick_at(due + (missed + 1) * self._tick)

    def _has_tick(self) -> bool:
        return any(isinstance(event, Tick) for event in self._events)

    def _keep_tick(self, tick: Tick) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        self._is_over = True
        self._alarm(None)
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None
        self._wake()
        self._settle()
