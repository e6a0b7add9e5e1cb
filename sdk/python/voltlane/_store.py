"""A session in a file."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Protocol

from ._core import Error

#: The longest file that is taken for a session, in bytes. It has all packets that wait.
MAX_BYTES = 1 << 28


class SessionInUse(Error):
    """Another client, of this process or another one, has the session file."""


class SessionStore(Protocol):
    """A place for a session: a keychain, a table. Whoever can read it can be this client.

    What it raises is like a network that is down: nothing leaves before it is stored.
    """

    def load(self) -> bytes | None:
        """What was stored last, whole."""

    def store(self, content: bytes, /) -> None:
        """Keeps this in the place of what was kept, so that it is there even after a loss of power."""


class SessionFile:
    """A file that nobody else can read, which is replaced by a rename: it is whole whenever its process is killed.

    A file beside it, with `.lock` behind its name, is locked while the client lives. The system ends the lock with its process.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(lock)
        except OSError:
            os.close(lock)
            raise SessionInUse(f"{self.path}: another client has this session") from None
        self._lock = lock

    def load(self) -> bytes | None:
        """What was stored last."""
        try:
            with self.path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        if len(content) > MAX_BYTES:
            raise ValueError(f"{self.path}: a file of more than {MAX_BYTES} bytes is no saved session")
        return content

    def store(self, content: bytes) -> None:
        """Keeps this in the place of what was kept: it is there even after a loss of power."""
        fresh = Path(f"{self.path}.new")
        # One of a process that was killed while it wrote may have another mode.
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        if sys.platform != "win32":
            directory = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def release(self) -> None:
        """The client is over, and stores no more."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __del__(self) -> None:
        # Of a client that was never begun.
        if hasattr(self, "_lock"):
            self.release()


def _lock(descriptor: int) -> None:
    """Locks a file, or raises OSError if somebody else has."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
