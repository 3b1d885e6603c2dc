"""A daemon thread that exists only while there is something to wait for.

It is started by whoever makes work, sleeps as long as it is told, and ends when nothing is left, so that an exporter that
is forgotten leaves no thread behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress


class Background:
    """Calls `tick` again and again, `pause` seconds apart."""

    def __init__(self, pause: Callable[[], float | None], tick: Callable[[], None]) -> None:
        """Prepare; no thread is started.

        Args:
            pause: tells how long to sleep, or None to end; it must call `end` before it returns None.
            tick: does the work; whatever it raises is somebody else's to report.
        """
        self._pause = pause
        self._tick = tick
        self._condition = threading.Condition()  # re-entrant: a finaliser may wake the thread that is in here
        self._woken = False
        self._thread: threading.Thread | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the thread exists."""
        return self._thread is not None

    def wake(self) -> None:
        """End the current sleep."""
        with self._condition:
            self._woken = True
            self._condition.notify_all()

    def ensure(self) -> None:
        """Start the thread if there is none; while the interpreter shuts down there cannot be one."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="lmtrace-store", daemon=True)
            with suppress(RuntimeError):
                thread.start()
                self._thread = thread

    def rest(self) -> None:
        """Forget earlier calls of `wake`; called by `pause` before it looks for work."""
        self._woken = False

    def end(self) -> None:
        """Say that the thread is about to end; the caller holds the lock under which `ensure` is called."""
        self._thread = None

    def _run(self) -> None:
        while (seconds := self._pause()) is not None:
            with self._condition:
                if self._woken or self._condition.wait(seconds):
                    continue  # there is news: how long to sleep is to be asked again
            with suppress(Exception):
                self._tick()
