"""Work that callers hand over and do not wait for: a bounded queue, handled in batches.

Whoever needs the outcome drains the queue. When it grows meanwhile, a thread takes small portions with pauses between
them: Python switches threads every 5 ms only, so a portion of half a millisecond delays a caller ten times less than one
that never pauses. Should the thread not keep up, callers help, two items for each one they bring, and nothing is lost.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

T = TypeVar("T")

PORTION: Final = 16
"""Items the thread handles before it pauses."""

PAUSE: Final = 0.001

_STRETCH: Final = 256
"""Items between two looks at the clock."""

_logger = logging.getLogger(__name__)
_all: weakref.WeakSet[Deferred[object]] = weakref.WeakSet()


class Deferred(Generic[T]):
    """A queue of items for `handle`, which gets them in batches.

    Args:
        handle: Does the work; it may be called by several threads at once.
        wake: Waiting items that start the thread.
        limit: Waiting items above which callers help.
    """

    def __init__(self, handle: Callable[[Sequence[T]], None], *, wake: int = 1_024, limit: int = 8_192) -> None:
        self._handle = handle
        self._wake_at = wake
        self._limit = limit
        self._pending: deque[T] = deque()
        self._thread: threading.Thread | None = None
        self._forget()
        _all.add(self)  # type: ignore[arg-type]  # only what holds for every item type is done with it

    def __len__(self) -> int:
        return len(self._pending)

    def put(self, item: T) -> None:
        """Hand an item over."""
        pending = self._pending
        pending.append(item)
        if len(pending) > self._wake_at:
            self._get_help()

    def drain(self, limit: int | None = None) -> None:
        """Handle what waits, at most `limit` items. Never raises."""
        items = self._take(len(self._pending) if limit is None else limit)
        try:
            if items:
                self._handle(items)
        except Exception:
            _logger.warning("lmtrace lost %d items of deferred work", len(items), exc_info=True)

    def drain_until(self, deadline: float, monotonic: Callable[[], float] = time.monotonic) -> bool:
        """Handle what waits now, but begin with nothing after `deadline`; tell whether that was all."""
        left = len(self._pending)
        while left > 0 and monotonic() < deadline:
            self.drain(_STRETCH)
            left -= _STRETCH
        return left <= 0

    def _take(self, count: int) -> list[T]:
        items: list[T] = []
        while len(items) < count:
            try:
                items.append(self._pending.popleft())
            except IndexError:  # another thread took the rest
                break
        return items

    def _get_help(self) -> None:
        if len(self._pending) > self._limit:
            self.drain(2)
        if not self._needed.is_set():
            self._needed.set()
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            self._thread = threading.Thread(
                target=self._help, args=(self._needed,), name="lmtrace-deferred", daemon=True
            )
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter is shutting down: callers help, and exit drains
                _logger.debug("no thread for deferred work")

    def _help(self, needed: threading.Event) -> None:
        while True:
            needed.wait()
            while self._pending:
                self.drain(PORTION)
                time.sleep(PAUSE)
            needed.clear()

    def _forget(self) -> None:
        """Begin anew, as a forked child must: what waits belongs to the parent, and so does the thread."""
        self._pending.clear()
        self._lock = threading.RLock()
        self._needed = threading.Event()
        self._thread = None


def _in_child() -> None:
    for queue in list(_all):
        queue._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
