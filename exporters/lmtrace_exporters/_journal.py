"""One append-only file that one process writes.

The file is made under another name, locked, and only then renamed, so a journal that others can see is locked by its
owner until the owner closes it or dies. Nobody ever appends to a journal twice opened: behind a torn line the next
one would be lost with it.
"""

from __future__ import annotations

import os
import re
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from lmtrace_exporters._append import append
from lmtrace_exporters._layout import sync_folder
from lmtrace_exporters._locks import try_lock

_FLAGS: Final = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | os.O_APPEND
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)
)
_sync_file = getattr(os, "fdatasync", os.fsync)


class Journal:
    """An open journal; its methods are called by one thread at a time."""

    __slots__ = ("_named", "fd", "gone", "opened", "path", "rows", "size", "synced")

    def __init__(self, folder: Path) -> None:
        """Make a new, empty, locked journal in `folder`.

        Raises:
            OSError: it cannot be made.
        """
        self.path = folder / _new_name()
        self.fd = _open_locked(self.path)
        self.size = self.rows = self.synced = 0
        self.opened = time.monotonic()
        self._named = self.gone = False

    def append(self, data: bytes, rows: int) -> int:
        """Write whole lines and return how many bytes were taken; fewer than given means the file is torn.

        Raises:
            OSError: nothing was taken.
        """
        try:
            taken = append(self.fd, data)
        except OSError:
            self._take_back()
            raise
        if taken == len(data):
            self.size += taken
            self.rows += rows
        return taken

    def keep(self, taken: int, rows: int) -> None:
        """Count the whole lines of a write that was cut short, and cut the torn one off where that is possible."""
        self.size += taken
        self.rows += rows
        try:
            os.ftruncate(self.fd, self.size)
        except OSError:
            return  # the checksum tells readers about the tail

    def _take_back(self) -> None:
        """After a refused write: the system may have made it all the same, and whoever repeats it writes the rows twice."""
        with suppress(OSError):
            if os.fstat(self.fd).st_size > self.size:
                os.ftruncate(self.fd, self.size)

    def sync(self) -> None:
        """Bring what was written so far to the disk.

        Raises:
            OSError: the disk refused; what it holds is unknown.
        """
        size = self.size
        self.gone = os.fstat(self.fd).st_nlink == 0  # somebody deleted it below us
        if size > self.synced:
            _sync_file(self.fd)
            self.synced = size
        if not self._named:
            sync_folder(self.path.parent)
            self._named = True

    def try_sync(self) -> OSError | None:
        """Sync, and return the disk's refusal instead of raising it."""
        try:
            self.sync()
        except OSError as error:
            return error
        return None

    def finish(self) -> OSError | None:
        """Sync and close, which gives the journal to whoever compacts; an empty one is removed."""
        failure = self.try_sync() if self.size else None
        if not self.size:
            self.path.unlink(missing_ok=True)
        os.close(self.fd)
        return failure

    def abandon(self) -> None:
        """Close this process's copy after a fork; the parent's journal and its lock stay as they are."""
        os.close(self.fd)


def _new_name() -> str:
    host = re.sub(r"[^A-Za-z0-9]+", "_", socket.gethostname())[:40] or "host"
    return f"{time.time_ns()}-{host}-{os.getpid()}-{os.urandom(4).hex()}.jsonl"


_TRIES: Final = 3
"""Until it is locked, a draft may be taken for one of a process that died, by a compaction without grace."""


def _open_locked(path: Path) -> int:
    for _ in range(_TRIES - 1):
        with suppress(FileNotFoundError, BlockingIOError):
            return _open_once(path)
    return _open_once(path)


def _open_once(path: Path) -> int:
    draft = path if os.name == "nt" else path.with_suffix(".tmp")  # Windows cannot rename an open file
    fd = os.open(draft, _FLAGS, 0o600)
    try:
        _take_lock(fd, draft)
        if draft != path:
            draft.rename(path)
    except BaseException:
        os.close(fd)
        draft.unlink(missing_ok=True)
        raise
    return fd


def _take_lock(fd: int, path: Path) -> None:
    if not try_lock(fd):
        raise BlockingIOError(f"the new journal {path} cannot be locked: does its file system know locks?")
