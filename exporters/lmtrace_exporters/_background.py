"""A daemon thread that exists only while there is something to wait for.

It is started by whoever makes work, sleeps as long as it is told, and ends when nothing is left, so that an exporter that
is forgotten leaves no thread behind. A process that forks must have no second thread, or Python warns its user; so the
thread finishes its work before a fork and goes, until there is new work.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

_FORK_WAITS_S: Final = 0.05
"""How long a fork waits for the thread."""


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
        self._dismissed = threading.Event()
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
            self._dismissed = threading.Event()
            thread = threading.Thread(target=self._run, args=(self._dismissed,), name="lmtrace-store", daemon=True)
            with suppress(RuntimeError):
                thread.start()
                self._thread = thread

    def rest(self) -> None:
        """Forget earlier calls of `wake`; called by `pause` before it looks for work."""
        self._woken = False

    def end(self) -> None:
        """Say that the thread is about to end; the caller holds the lock under which `ensure` is called."""
        if self._thread is threading.current_thread():
            self._thread = None

    def dismiss(self) -> None:
        """Let the thread do its work a last time and go; one that is held up by a disk is waited for no longer."""
        thread, self._thread = self._thread, None
        if thread is None or thread is threading.current_thread():
            return
        self._dismissed.set()
        self.wake()
        thread.join(_FORK_WAITS_S)
        _await_end(thread)

    def _run(self, dismissed: threading.Event) -> None:
        while not dismissed.is_set() and (seconds := self._pause()) is not None:
            with self._condition:
                if dismissed.is_set() or self._woken or self._condition.wait(seconds):
                    continue  # there is news: how long to sleep is to be asked again
            self._work()
        if dismissed.is_set():
            self._work()

    def _work(self) -> None:
        with suppress(Exception):
            self._tick()


def _await_end(thread: threading.Thread) -> None:
    """Wait until the system, too, counts a thread no more: `join` returns a little earlier."""
    if sys.platform != "linux" or thread.is_alive():
        return
    deadline = time.monotonic() + _FORK_WAITS_S
    task = Path(f"/proc/self/task/{thread.native_id}")
    while task.exists() and time.monotonic() < deadline:
        time.sleep(0.0001)
