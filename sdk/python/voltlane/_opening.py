"""What `connect` and `listen` return."""

from __future__ import annotations

from collections.abc import Generator
from types import TracebackType
from typing import Generic, Protocol, TypeVar

Side = TypeVar("Side", bound="_Side")


class _Side(Protocol):
    async def _begin(self) -> None: ...

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class Opening(Generic[Side]):
    """Await it, or enter it with `async with`, which also ends what it gives."""

    def __init__(self, side: Side) -> None:
        self._side = side

    def __await__(self) -> Generator[object, None, Side]:
        yield from self._side._begin().__await__()
        return self._side

    async def __aenter__(self) -> Side:
        return await self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._side.__aexit__(kind, error, trace)
