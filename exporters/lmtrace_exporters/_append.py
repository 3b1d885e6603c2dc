"""Hand bytes to the operating system without giving the GIL away.

`os.write` releases the GIL, and beside CPU-bound threads getting it back costs up to 107 ms at p99; a write into the
page cache takes microseconds, so holding on to the GIL is cheaper for everybody. Large writes, Windows and builds
without a GIL take `os.write`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from typing import Final

LARGE: Final = 1 << 20
"""A write of more bytes than this may take long enough that the other threads should run meanwhile."""


def append(fd: int, data: bytes) -> int:
    """Write `data` with one system call and return how many bytes were taken.

    Raises:
        OSError: nothing was written.
    """
    if _holding_write is None or len(data) > LARGE:
        return os.write(fd, data)
    while (written := _holding_write(fd, data, len(data))) < 0:
        if (code := ctypes.get_errno()) != errno.EINTR:
            raise OSError(code, os.strerror(code))
    return written


def _make_holding_write() -> Callable[[int, bytes, int], int] | None:
    """The C library's ``write`` called without giving the GIL away, where there is one and a GIL to hold."""
    if os.name == "nt" or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return None
    write = ctypes.PyDLL(None, use_errno=True).write
    write.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
    write.restype = ctypes.c_ssize_t
    return write


_holding_write: Final = _make_holding_write()
