"""Streams that nobody reads to their end: noticed when they are collected, recorded by a thread of their own.

LiteLLM's streams sit in reference cycles, so the garbage collector is what notices them, in whatever thread and between
whichever two instructions it happens to run: perhaps inside one of our own locks. Nothing may be recorded there. The
finalizer only puts the work into a queue whose `put` is safe in such a place.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final


class Dropped:
    """Calls a function once an object is gone, or at the exit of the process if it is still there."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._finalizers: dict[int, weakref.finalize[Any, Any]] = {}
        self._queue: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._pid: int | None = None

    def watch(self, obj: Any, drop: Callable[[], object]) -> Callable[[], None]:
        """Have `drop` called when `obj` is gone; the function returned takes that back."""
        self._start()
        finalizer = weakref.finalize(obj, self._queue.put, drop)
        finalizer.atexit = False
        key = id(finalizer)
        self._finalizers[key] = finalizer

        def forget() -> None:
            finalizer.detach()
            self._finalizers.pop(key, None)

        return forget

    def _start(self) -> None:
        """The thread, once a process: a forked child has none of its parent's."""
        if self._pid == os.getpid():
            return
        with self._lock:
            if self._pid is None:
                atexit.register(self._at_exit)
            if self._pid != os.getpid():
                self._pid = os.getpid()
                threading.Thread(target=self._work, name="lmtrace-dropped", daemon=True).start()

    def _work(self) -> None:
        while True:
            self._queue.get()()

    def _at_exit(self) -> None:
        for finalizer in list(self._finalizers.values()):
            found = finalizer.detach()
            if found is not None:
                found[2][0]()
        while not self._queue.empty():
            self._queue.get_nowait()()


dropped: Final = Dropped()
