"""Clock and identities, as arguments: a test passes its own and compares whole rows.

`uuid7` follows RFC 9562 section 5.7, with the 12 bits of `rand_a` used as a counter within the millisecond (method 1 of
section 6.2), so that ids made by one process sort in the order they were made.
"""

from __future__ import annotations

import os
import random
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Clock:
    """Two clocks: one tells when, the other how long."""

    time_ns: Callable[[], int] = time.time_ns
    """Nanoseconds since the epoch."""

    perf_ns: Callable[[], int] = time.perf_counter_ns
    """Monotonic nanoseconds, for durations."""


_random: Final = random.Random(os.urandom(32))  # noqa: S311 - unique is all they need to be
"""Seeded by the system once a process; asking the system for every id would cost a system call."""

_sources: weakref.WeakSet[Uuid7] = weakref.WeakSet()


class Uuid7:
    """A source of uuid7 texts; calling it gives the next one. Safe in threads."""

    __slots__ = ("__weakref__", "_counter", "_lock", "_millisecond", "_time_ns")

    def __init__(self, time_ns: Callable[[], int] = time.time_ns) -> None:
        self._time_ns = time_ns
        self._unlock()
        self._millisecond = 0
        self._counter = 0
        _sources.add(self)

    def _unlock(self) -> None:
        self._lock = threading.RLock()  # a finaliser that records a dropped stream may interrupt its own thread in here

    def __call__(self) -> str:
        with self._lock:
            millisecond = self._time_ns() // 1_000_000
            if millisecond > self._millisecond:
                self._millisecond, self._counter = millisecond, 0
            elif self._counter == 0xFFF:
                self._millisecond, self._counter = self._millisecond + 1, 0
            else:
                self._counter += 1
            millisecond, counter = self._millisecond, self._counter
        rand = _random.getrandbits(62)
        parts = (millisecond >> 16, millisecond & 0xFFFF, counter, 0x8000 | rand >> 48, rand & 0xFFFF_FFFF_FFFF)
        return "%08x-%04x-7%03x-%04x-%012x" % parts  # noqa: UP031 - a quarter cheaper than format specifiers


def random_bits(count: int) -> int:
    """`count` random bits, never all zero, as trace and span ids need them."""
    return _random.getrandbits(count) or 1


def _after_fork() -> None:
    """A forked child must not repeat its parent's ids, nor wait for a lock that another thread held."""
    _random.seed(os.urandom(32))
    for source in list(_sources):
        source._unlock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
