"""Advisory locks that the operating system frees when their owner dies, however it dies.

A journal is locked by the process that writes it, so a lock that can be had means a closed journal or a dead writer.
Windows locks are mandatory, so there one byte far behind the end of the file stands for the whole.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 40

    def try_lock(fd: int) -> bool:
        """Take the exclusive lock of an open file; tell whether it was free."""
        try:
            os.lseek(fd, _FAR, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(fd, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def try_lock(fd: int) -> bool:
        """Take the exclusive lock of an open file; tell whether it was free."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


@contextmanager
def hold_lock(path: Path, *, create: bool = False) -> Iterator[bool]:
    """Hold the lock of a file for the length of the block; the value tells whether it was free.

    Raises:
        OSError: the file cannot be opened, or its file system lets two owners have a lock: nobody could tell the journal
            of a dead process from one that is written to.
    """
    fd = _open(path, create=create)
    try:
        held = try_lock(fd)
        if held and not _excludes(path):
            raise OSError(f"the file system of {path} ignores locks: the files there stay as they are")
        yield held
    finally:
        os.close(fd)


def _excludes(path: Path) -> bool:
    """Whether the lock of a file, which is held, cannot be had a second time."""
    fd = _open(path, create=False)
    try:
        return not try_lock(fd)
    finally:
        os.close(fd)


def _open(path: Path, *, create: bool) -> int:
    flags = os.O_RDWR | os.O_CREAT if create else os.O_RDWR
    return os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o600)
