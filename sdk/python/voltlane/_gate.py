"""Clients of which the application hears nothing before somebody has verified them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar, Union

from ._core import Away, Ended, Error, Gap, Joined, Packet, PlaceOfFrame, Resumed, Token
from ._id import ClientId

#: Clients that are verified at a time. Further ones wait for their turn.
MAX_VERIFYING = 64
#: Events, and bytes of them, that wait for the verdict on one client. One that sends more before is refused.
MAX_HELD = 1024
MAX_HELD_BYTES = 1024 * 1024
#: Bytes that wait for verdicts on all clients. A client whose packet exceeds it is refused.
MAX_HELD_BYTES_OF_ALL = 64 * 1024 * 1024
#: What an event counts beside its packet.
EVENT_BYTES = 64

#: The code of a refusal that names none which a kick may have.
TOKEN = 405

Verify = Callable[[Joined], Union[str, Awaitable[str]]]
Event = TypeVar("Event")


class Refuse(Error):
    """Raised by `verify`: the client is kept out with a code (401, 405, or 500 to 699) and a text, which it sees."""

    def __init__(self, code: int = TOKEN, text: str = "") -> None:
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text


class Held(Generic[Event]):
    """A client on which there is no verdict yet."""

    def __init__(self, joined: Joined, before: PlaceOfFrame) -> None:
        self.joined, self.before = joined, before
        self.events: list[Event] = []
        self.bytes = 0
        self.weight = 0
        self.task: asyncio.Task[None] | None = None


class Gate(Generic[Event]):
    """Holds clients back until there is a verdict. `judged` is told each one: a note, or why the client is kept out."""

    def __init__(self, verify: Verify, judged: Callable[[ClientId, str | Refuse], None]) -> None:
        self._verify, self._judged = verify, judged
        self._held: dict[ClientId, Held[Event]] = {}
        self._refused: set[ClientId] = set()
        self._asks: deque[ClientId] = deque()
        self._verifying: set[asyncio.Task[None]] = set()
        self._bytes = 0

    def passes(self, event: Event, before: PlaceOfFrame) -> bool:
        """Whether the application hears of an event now. `before`: the place of the frame behind which it came."""
        # What an earlier life of the backend has noted was its verdict.
        if isinstance(event, Joined) and not event.note:
            self._held[event.id] = Held(event, before)
            self._asks.append(event.id)
            return False
        if not isinstance(event, (Packet, Away, Resumed, Gap, Token, Ended)):
            return True
        id, ends = event.id, isinstance(event, Ended)
        if id in self._refused:
            if ends:
                self._refused.discard(id)
            return False
        held = self._held.get(id)
        if held is None:
            return True
        length = len(event.data) if isinstance(event, Packet) else len(event.token) if isinstance(event, Token) else 0
        held.bytes += length
        weight = length + EVENT_BYTES
        if ends:
            self._drop(id)
        elif len(held.events) >= MAX_HELD or held.bytes > MAX_HELD_BYTES or self._bytes + weight > MAX_HELD_BYTES_OF_ALL:
            self.keep_out(id)
            self._judged(id, Refuse(TOKEN, "too much before the token was verified"))
        else:
            held.events.append(event)
            held.weight += weight
            self._bytes += weight
        return False

    def begin(self) -> None:
        """Verifies those whose turn it is."""
        while self._asks and len(self._verifying) < MAX_VERIFYING:
            id = self._asks.popleft()
            held = self._held.get(id)
            if held is None or held.task is not None:
                continue
            held.task = asyncio.ensure_future(self._judge(id, held))
            self._verifying.add(held.task)
            held.task.add_done_callback(self._done)

    async def _judge(self, id: ClientId, held: Held[Event]) -> None:
        verdict: str | Refuse
        try:
            answer = self._verify(held.joined)
            verdict = answer if isinstance(answer, str) else await answer
        except Refuse as refuse:
            verdict = refuse
        except Exception as error:
            # Nobody is let in for want of a verdict.
            verdict = Refuse(TOKEN, "")
            words = "verify raised, and the client is refused"
            asyncio.get_running_loop().call_exception_handler({"message": words, "exception": error})
        if self._held.get(id) is held:
            self._judged(id, verdict)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._verifying.discard(task)
        self.begin()

    def let_in(self, id: ClientId, note: str) -> list[Joined | Event]:
        """Lets a client in. Returns what the application hears of it now."""
        held = self._drop(id)
        if held is None:
            return []
        joined = held.joined
        return [Joined(joined.id, joined.token, note, joined.again, joined.sent, joined.address), *held.events]

    def keep_out(self, id: ClientId) -> None:
        """Nothing is heard of a client any more."""
        if self._drop(id) is not None:
            self._refused.add(id)

    def _drop(self, id: ClientId) -> Held[Event] | None:
        held = self._held.pop(id, None)
        if held is not None:
            self._bytes -= held.weight
            if held.task is not None and held.task is not _current():
                held.task.cancel()
        return held

    def first_waiting(self) -> PlaceOfFrame | None:
        """The place behind which everything waits here, if anything does."""
        return next((held.before for held in self._held.values()), None)

    def end(self) -> None:
        """Nobody is verified any more."""
        for id in list(self._held):
            self._drop(id)
        self._asks.clear()


def _current() -> asyncio.Task[None] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
